"""Generated clients tell a story: sign up, log in, create, submit, 412, approve with If-Match, list, wrong fields."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.support.shapes import ALL, Deployment

# Where `make` installs the generators.
CLIENTS = Path(sys.prefix) / "clients"
NODE = CLIENTS / "node_modules" / ".bin"
STORIES = Path(__file__).parent / "stories"

needs_python = pytest.mark.skipif(
    not (CLIENTS / "bin" / "openapi-python-client").exists(), reason="not installed; make test-clients"
)
needs_node = pytest.mark.skipif(
    not NODE.is_dir(), reason="npm's packages aren't installed; install Node.js with npm, then make test-clients"
)


def run(program: Path | str, *arguments: str | Path, folder: Path) -> str:
    """Its whole output. Fails unless the program succeeds."""
    environment = {**os.environ, "PATH": f"{CLIENTS / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    command = [str(program), *map(str, arguments)]
    ran = subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


@pytest.fixture(scope="module")
def url(deployments: Callable[[str], Deployment]) -> str:
    return deployments(ALL).public.url


@pytest.fixture
def folder(url: str, tmp_path: Path) -> Path:
    """With the document as JSON and YAML, and with the packages of npm."""
    for name in ("openapi.json", "openapi.yaml"):
        (tmp_path / name).write_bytes(httpx.get(f"{url}/schema/{name}").raise_for_status().content)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    (tmp_path / "node_modules").symlink_to(CLIENTS / "node_modules")
    for each in STORIES.iterdir():
        if each.is_file():
            shutil.copy(each, tmp_path)
    return tmp_path


@needs_python
def test_openapi_python_client(folder: Path, url: str) -> None:
    """It generates everything, and warns of nothing."""
    output = run(
        CLIENTS / "bin" / "openapi-python-client",
        *("generate", "--path", "openapi.json", "--output-path", "eventboard_client", "--meta", "none"),
        folder=folder,
    )
    assert "arning" not in output
    run(CLIENTS / "bin" / "python", "story.py", url, folder=folder)


@needs_node
def test_openapi_fetch(folder: Path, url: str) -> None:
    """With types by openapi-typescript, under `strict`."""
    run(NODE / "openapi-typescript", "openapi.json", "--output", "schema.ts", folder=folder)
    (folder / "hey.ts").unlink()
    _compiled_and_run("fetch", folder, url)


@needs_node
def test_hey_api(folder: Path, url: str) -> None:
    """Types and functions, under `strict`."""
    (folder / "openapi-ts.config.mjs").write_text(
        'export default { input: "openapi.json", output: { path: "client", importFileExtension: ".js" } };'
    )
    run(NODE / "openapi-ts", folder=folder)
    (folder / "fetch.ts").unlink()
    _compiled_and_run("hey", folder, url)


def _compiled_and_run(name: str, folder: Path, url: str) -> None:
    (folder / "url.ts").write_text(f"export const url = {json.dumps(url)};\n")
    run(NODE / "tsc", "--project", "tsconfig.json", folder=folder)
    run("node", f"out/{name}.js", folder=folder)


@needs_node
@pytest.mark.parametrize("document", ["openapi.json", "openapi.yaml"])
def test_linters(folder: Path, document: str) -> None:
    """Neither Redocly nor Spectral has anything to say."""
    root = Path(__file__).parents[2]
    output = run(
        NODE / "redocly", "lint", "--config", root / "redocly.yaml", "--format", "json", document, folder=folder
    )
    report, _ = json.JSONDecoder().raw_decode(output, output.index("{"))
    assert report["problems"] == []
    assert report["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}
    run(
        NODE / "spectral",
        *("lint", "--ruleset", root / ".spectral.yaml", "--fail-severity", "hint", document),
        folder=folder,
    )
