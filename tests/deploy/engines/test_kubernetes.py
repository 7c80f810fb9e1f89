"""The Helm chart and deploy/kubernetes: rendered, validated, and read. No cluster is needed, and none was there."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.engines import fetch, manifests
from tests.deploy.engines.manifests import KUSTOMIZE, SHAPES, Manifest, of_kind
from tests.deploy.engines.network import may_connect

# Every part of the chart at once.
FULL: dict[str, Any] = {
    "internalTls": {"enabled": True},
    "gateway": {
        "tlsSecret": "public-tls",
        "service": {"type": "LoadBalancer", "annotations": {"example.com/a": "b"}},
        "settings": {"EVENTBOARD_QUOTAS_KEYS_BY_USER": 1000000},
    },
    "image": {"digest": f"sha256:{'0' * 64}", "pullSecrets": ["registry"]},
    "monitoring": {"enabled": True, "labels": {"release": "prometheus"}},
    "networkPolicy": {
        "authEgress": [{"ports": [{"port": 587, "protocol": "TCP"}]}],
        "database": {"ports": [5432, 6432], "to": [{"ipBlock": {"cidr": "10.0.0.0/24"}}]},
        "gatewayFrom": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}],
    },
    "pods": {
        "annotations": {"example.com/a": "b"},
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "priorityClassName": "high",
        "tolerations": [{"key": "a", "operator": "Exists"}],
    },
    "secrets": {"databaseCa": {"name": "ca"}, "limitsStoreUrl": {"name": "redis"}, "mailPassword": {"name": "mail"}},
    "tracing": {"endpoint": "http://otel-collector.monitoring:4318"},
    "trustedProxies": "10.0.0.0/8, fd00::/8",
}
# The examples of docs/kubernetes.md: values, and a folder for kustomize.
PAGE = (fetch.ROOT / "docs" / "kubernetes.md").read_text()
DOCUMENTED = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
VALUES: dict[str, dict[str, Any]] = {
    **{shape: {"shape": shape} for shape in SHAPES},
    **{f"{shape}, all of it": {"shape": shape, **FULL} for shape in SHAPES},
    "documented": yaml.safe_load(DOCUMENTED[0]),
}
# What can't be, and what is said of it.
REJECTED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": ({"gatway": {}}, "additional properties 'gatway' not allowed"),
    "type": ({"gateway": {"replicas": "3"}}, "at '/gateway/replicas': got string, want integer"),
    "none": ({"events": {"replicas": 0}}, "at '/events/replicas': minimum: got 0, want 1"),
    "more than the most": (
        {"gateway": {"replicas": 30}},
        "gateway: replicas is 30, more than maxReplicas, which is 10",
    ),
    "shape": ({"shape": "both"}, "at '/shape': value must be one of 'services', 'monolith'"),
    "variable": ({"settings": {"PATH": "/"}}, "invalid propertyName 'PATH'"),
    "secret": (
        {"settings": {"EVENTBOARD_DATABASE_URL": "postgresql://"}},
        "settings: EVENTBOARD_DATABASE_URL is a secret: put it into a Secret, and name that in `secrets`",
    ),
    "set twice": (
        {"auth": {"settings": {"EVENTBOARD_SERVER_GRACE": 60}}},
        "settings: EVENTBOARD_SERVER_GRACE is set by the chart, from another value",
    ),
    "no secret": (
        {"secrets": {"signingKeys": {"name": ""}}},
        "at '/secrets/signingKeys/name': '' does not match pattern",
    ),
    "preStop": ({"stopping": {"preStop": 0.5}}, "at '/stopping/preStop': got number, want integer"),
    "digest": ({"image": {"digest": "latest"}}, "at '/image/digest': 'latest' does not match pattern"),
    "endpoint": ({"tracing": {"endpoint": "otel:4318"}}, "at '/tracing/endpoint': 'otel:4318' does not match pattern"),
    "peer": ({"networkPolicy": {"gatewayFrom": ["10.0.0.0/8"]}}, "got string, want object"),
}
# Findings of the policy checks that stay, and why.
ACCEPTED = {
    "CKV_K8S_11": "no CPU limits: a process uses one core and a little; throttled, it would only answer late",
    "CKV_K8S_15": "images are tags of versions, or digests: they don't change, and a node starts without the registry",
    "CKV_K8S_43": "the digest is of your registry: image.digest, or `images:` of kustomize",
}
VERSIONS = ("1.32", "1.37")


@cache
def helm() -> tuple[dict[str, dict[str, str] | str], list[str]]:
    """By the keys of VALUES and REJECTED; and what lint finds."""
    values = {**VALUES, **{name: values for name, (values, _) in REJECTED.items()}}
    answers, lint = manifests.helm(*values.values())
    return dict(zip(values, answers, strict=True)), lint


def rendered(name: str) -> list[Manifest]:
    answer = helm()[0][name]
    assert isinstance(answer, dict), answer
    return manifests.manifests(manifests.documents(answer))


def pods(found: list[Manifest]) -> dict[str, Manifest]:
    """The specs of all pods, by the workload's name."""
    workloads = {**of_kind(found, "Deployment"), **of_kind(found, "Job")}
    return {name: workload["spec"]["template"]["spec"] for name, workload in workloads.items()}


@pytest.mark.parametrize("name", REJECTED)
def test_values_that_cannot_be(name: str) -> None:
    """They are rejected, with where and why."""
    answer = helm()[0][name]
    assert isinstance(answer, str)
    assert REJECTED[name][1] in answer


def test_chart() -> None:
    """Helm finds nothing wrong; its image is this version's, unless another is named."""
    chart = yaml.safe_load((manifests.CHART / "Chart.yaml").read_text())
    assert chart["appVersion"] == tomllib.loads((fetch.ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert [found for found in helm()[1] if "icon is recommended" not in found] == []


# ---------------------------------------------------------------------------------------------------------------------
# deploy/kubernetes


def test_files_for_kustomize() -> None:
    """They are the chart's rendering; `make kubernetes` writes them."""
    expected = {f"deploy/{path}": text for path, text in manifests.files().items()}
    expected["deploy/helm/eventboard/files/rules.yaml"] = manifests.rules()
    found = {path: (fetch.ROOT / path).read_text() for path in expected if (fetch.ROOT / path).exists()}
    assert found == expected
    there = {f"deploy/kubernetes/{path.relative_to(KUSTOMIZE)}" for path in KUSTOMIZE.rglob("*.yaml")}
    assert {path for path in there if not path.endswith("kustomization.yaml")} == expected.keys() & there


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl is installed")
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("monitored", [False, True])
def test_kustomize(tmp_path: Path, shape: str, monitored: bool) -> None:
    """An overlay is what Helm renders for its shape, in another namespace and with the component, too."""
    shutil.copytree(KUSTOMIZE, tmp_path / "kubernetes")
    mine = {"resources": [f"../kubernetes/overlays/{shape}"]}
    if monitored:
        mine["components"] = ["../kubernetes/components/monitoring"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(yaml.safe_dump(mine))
    built = subprocess.check_output(["kubectl", "kustomize", tmp_path / "mine"], text=True)
    found = by_name(list(yaml.safe_load_all(built)))
    expected = rendered(shape)
    if monitored:
        ((watched,), _) = manifests.helm({"shape": shape, "monitoring": {"enabled": True}})
        assert isinstance(watched, dict)
        expected = manifests.manifests(manifests.documents(watched))
    assert found == by_name(expected)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl is installed")
def test_documented_folder(tmp_path: Path) -> None:
    """The example of docs/kubernetes.md: the image, a setting, and the objects of its component."""
    shutil.copytree(KUSTOMIZE, tmp_path / "eventboard" / "deploy" / "kubernetes")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(DOCUMENTED[1])
    built = subprocess.check_output(["kubectl", "kustomize", tmp_path / "mine"], text=True)
    found = list(yaml.safe_load_all(built))
    images = {container["image"] for pod in pods(found).values() for container in pod["containers"]}
    assert images == {"registry.example.com/eventboard:0.1.0"}
    (gateway,) = pods(found)["eventboard-gateway"]["containers"]
    assert {"name": "EVENTBOARD_SERVER_TRUSTED_PROXIES", "value": "10.42.0.0/16"} in gateway["env"]
    assert of_kind(found, "ServiceMonitor").keys() == {"eventboard"}


def by_name(found: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    named = {(one["kind"], one["metadata"]["name"]): one for one in found}
    assert len(named) == len(found)
    return named


# ---------------------------------------------------------------------------------------------------------------------
# Validation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for each of VALUES, with the kinds that Kubernetes itself has."""
    folder = tmp_path_factory.mktemp("rendered")
    for number, name in enumerate(VALUES):
        own = [one for one in rendered(name) if not one["apiVersion"].startswith("monitoring.coreos.com/")]
        (folder / f"{number}.yaml").write_text(yaml.safe_dump_all(own))
    return folder


@pytest.mark.parametrize("version", VERSIONS)
def test_schemas(folder: Path, version: str) -> None:
    """Nothing is missing, of a wrong type, or unknown to this version of Kubernetes."""
    python = fetch.environment("kubernetes")
    validate: list[str | Path] = [python, "-m", "kubernetes_validate", "--strict", "--kubernetes-version", version]
    done = subprocess.run([*validate, *sorted(folder.iterdir())], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "WARN" not in done.stdout


def test_policies(folder: Path) -> None:
    """No finding but those with a reason; no reason without a finding."""
    python = fetch.environment("kubernetes")
    check: list[str | Path] = [
        python,
        "-m",
        "checkov.main",
        "--framework",
        "kubernetes",
        "--skip-download",
        "--output",
        "json",
    ]
    done = subprocess.run([*check, "--directory", folder], capture_output=True, text=True, check=False)
    report = json.loads(done.stdout)
    assert report["summary"]["passed"] > 300
    failed = {(check["check_id"], check["check_name"]) for check in report["results"]["failed_checks"]}
    assert {check_id for check_id, _ in failed} == ACCEPTED.keys(), failed


def test_rules_of_prometheus(tmp_path: Path) -> None:
    """promtool finds nothing wrong in the PrometheusRule; a scrape finds each pod under the job that the rules name."""
    if shutil.which("promtool") is None:
        pytest.skip("no promtool is installed")
    found = rendered("services, all of it")
    (rule,) = of_kind(found, "PrometheusRule").values()
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rule["spec"]))
    subprocess.run(["promtool", "check", "rules", tmp_path / "rules.yaml"], check=True, stdout=subprocess.DEVNULL)
    (monitor,) = of_kind(found, "ServiceMonitor").values()
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["endpoints"]
    scraped = [
        service["metadata"]["labels"][monitor["spec"]["jobLabel"]]
        for service in of_kind(found, "Service").values()
        if monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        for port in service["spec"]["ports"]
        if port["name"] == endpoint["port"]
    ]
    assert sorted(scraped) == ["auth", "events", "gateway"]


# ---------------------------------------------------------------------------------------------------------------------
# What it states


@pytest.mark.parametrize("name", VALUES)
def test_confined(name: str) -> None:
    """Kubernetes' restricted standard, and more: nothing of the root file system can be written, no API token."""
    for pod in pods(rendered(name)).values():
        assert pod["automountServiceAccountToken"] is False
        assert pod["enableServiceLinks"] is False
        context = pod["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] > 10_000
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert container["resources"]["limits"].keys() == {"memory"}


# As compose.yaml has it: nobody holds what they have no use for.
SECRETS = {
    "eventboard-gateway": {"eventboard-service-credential"},
    "eventboard-auth": {"eventboard-database-auth", "eventboard-service-credential", "eventboard-signing-keys"},
    "eventboard-events": {"eventboard-database-events", "eventboard-service-credential"},
    "eventboard-monolith": {"eventboard-database-auth", "eventboard-database-events", "eventboard-signing-keys"},
    "eventboard-migrate": {"eventboard-database-migration"},
}


@pytest.mark.parametrize("shape", SHAPES)
def test_secrets_by_reference(shape: str) -> None:
    """No Secret is rendered, and none is in a variable: each pod mounts those it needs, and finds its files there."""
    found = rendered(shape)
    assert of_kind(found, "Secret") == {}
    for name, pod in pods(found).items():
        assert set(secrets_of(pod)) == SECRETS[name]
        (container,) = pod["containers"]
        assert all("valueFrom" not in variable for variable in container["env"])
        mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
        for variable in container["env"]:
            if variable["name"].endswith("_FILE"):
                path = Path(variable["value"])
                assert str(path) in mounted or str(path.parent) in mounted


def secrets_of(pod: Manifest) -> Iterator[str]:
    for volume in pod["volumes"]:
        if "secret" in volume:
            yield volume["secret"]["secretName"]
        for source in volume.get("projected", {}).get("sources", []):
            yield source["secret"]["name"]


@pytest.mark.parametrize("name", VALUES)
def test_stopping(name: str) -> None:
    """Nobody is killed while requests in progress may still be answered; a new pod comes before an old one goes."""
    for deployment in of_kind(rendered(name), "Deployment").values():
        assert deployment["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert "replicas" not in deployment["spec"], "the autoscaler's"
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        env = {variable["name"]: variable["value"] for variable in container["env"]}
        needed = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        needed += float(env["EVENTBOARD_SERVER_DRAIN"]) + float(env["EVENTBOARD_SERVER_GRACE"])
        assert pod["terminationGracePeriodSeconds"] >= needed + 2


def test_replicas() -> None:
    """As many as there have to be, and one of them may be away."""
    found = rendered("services")
    scalers = of_kind(found, "HorizontalPodAutoscaler")
    assert {name: scaler["spec"]["minReplicas"] for name, scaler in scalers.items()} == {
        "eventboard-gateway": 3,
        "eventboard-auth": 2,
        "eventboard-events": 2,
    }
    assert of_kind(found, "PodDisruptionBudget").keys() == of_kind(found, "Deployment").keys() == scalers.keys()
    assert {budget["spec"]["maxUnavailable"] for budget in of_kind(found, "PodDisruptionBudget").values()} == {1}


def test_tracing() -> None:
    """OpenTelemetry's own variables, and a way through the network policies."""
    found = rendered("services, all of it")
    for name, pod in pods(found).items():
        (container,) = pod["containers"]
        env = {variable["name"]: variable["value"] for variable in container["env"]}
        assert env["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://otel-collector.monitoring:4318"
        assert may_connect(found, name, "otel-collector", 4318) == (name != "eventboard-migrate")


# ---------------------------------------------------------------------------------------------------------------------
# Who reaches whom


@pytest.mark.parametrize("shape", SHAPES)
def test_network(shape: str) -> None:
    """Only the gateway is reachable; PostgreSQL for auth, events and the migration; metrics for the monitoring."""
    found = rendered(shape)
    names = [*pods(found)]
    public = "eventboard-gateway" if shape == "services" else "eventboard-monolith"
    ports = {
        "eventboard-gateway": 3000,
        "eventboard-monolith": 3000,
        "eventboard-auth": 3001,
        "eventboard-events": 3002,
    }
    for name in names:
        may_use_it = name != "eventboard-gateway"
        assert may_connect(found, name, "postgres", 5432) == may_use_it, name
        if port := ports.get(name):
            assert may_connect(found, "elsewhere", name, port) == (name == public)
            assert may_connect(found, "monitoring", name, port + 900)
            assert not may_connect(found, "elsewhere", name, port + 900)
            assert not any(may_connect(found, other, name, port + 900) for other in names)
    calls = {(a, b) for a in names for b in names if b in ports and may_connect(found, a, b, ports[b])}
    expected = {
        ("eventboard-gateway", "eventboard-auth"),
        ("eventboard-gateway", "eventboard-events"),
        ("eventboard-events", "eventboard-auth"),
    }
    assert calls == (expected if shape == "services" else set())
