"""What the Helm chart renders to, and deploy/kubernetes, which is the same for kustomize.

`make kubernetes` writes deploy/kubernetes from the chart: what both shapes have is the base's, the rest an overlay's.
"""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.engines import fetch

CHART = fetch.ROOT / "deploy" / "helm" / "eventboard"
KUSTOMIZE = fetch.ROOT / "deploy" / "kubernetes"
SHAPES = ("services", "monolith")
NAMESPACE = "eventboard"
# The chart can't hold a file of another folder.
RULES = fetch.ROOT / "deploy" / "observability" / "prometheus" / "rules.yaml"

Values = Mapping[str, Any]
Manifest = dict[str, Any]
HEAD = "# Rendered from deploy/helm/eventboard by `make kubernetes`: change the chart, or an overlay of yours.\n"


def helm(*values: Values) -> tuple[list[dict[str, str] | str], list[str]]:
    """For each values the rendered templates, or an error's text; and what `helm lint` finds."""
    python = fetch.environment("kubernetes")
    asked = json.dumps([[one, NAMESPACE] for one in values])
    command: list[str | Path] = [python, "-I", fetch.ROOT / "tests" / "deploy" / "engines" / "helm_program.py", CHART]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
    *answers, lint = json.loads(done.stdout)
    return answers, lint


def documents(rendered: Mapping[str, str]) -> list[str]:
    """The text of each manifest, comments included, in the templates' order."""
    found = []
    for template, text in sorted(rendered.items()):
        if template.endswith(".yaml"):
            parts = re.split(r"^---\n", text, flags=re.MULTILINE)
            found += [part.strip("\n") + "\n" for part in parts if yaml.safe_load(part)]
    return found


def manifests(texts: Sequence[str]) -> list[Manifest]:
    return [yaml.safe_load(text) for text in texts]


def of_kind(found: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in found if one["kind"] == kind}


def files() -> dict[str, str]:
    """The files that are written, by their path below deploy/."""
    shapes = dict(zip(SHAPES, helm(*({"shape": shape} for shape in SHAPES))[0], strict=True))
    ((watched,), _) = helm({"monitoring": {"enabled": True}})
    texts = {shape: documents(_rendered(answer)) for shape, answer in shapes.items()}
    shared = [text for text in texts["services"] if text in texts["monolith"]]
    written: dict[str, list[str]] = {}
    for text in shared:
        written.setdefault(f"base/{_file(text)}", []).append(text)
    for shape, found in texts.items():
        for text in found:
            if text not in shared:
                written.setdefault(f"overlays/{shape}/{_file(text)}", []).append(text)
    monitoring = [text for text in documents(_rendered(watched)) if text not in texts["services"]]
    written["components/monitoring/monitoring.yaml"] = monitoring
    return {f"kubernetes/{path}": HEAD + "---\n".join(found) for path, found in written.items()}


def rules() -> str:
    """deploy/observability's, but for the alert of fewer replicas: autoscalers and rollouts remove some on purpose."""
    text = RULES.read_text()
    text = text[text.index("groups:") :]
    fewer = re.compile(r"      - alert: EventBoardFewerReplicas\n.*?(?=      - alert: )", re.DOTALL)
    assert fewer.search(text)
    return fewer.sub("", text)


def _rendered(answer: dict[str, str] | str) -> dict[str, str]:
    assert isinstance(answer, dict), answer
    return answer


def _file(text: str) -> str:
    """By the component that it is of."""
    labels = yaml.safe_load(text)["metadata"]["labels"]
    return f"{labels.get('app.kubernetes.io/component', 'network')}.yaml"


def write() -> None:
    (CHART / "files" / "rules.yaml").write_text(rules())
    for path, text in files().items():
        file = KUSTOMIZE.parent / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    write()
