"""What deploy/observability states: checked by Prometheus' own tool, and where this repository can know better."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
HERE = ROOT / "deploy" / "observability"
OURS = ("gateway", "auth", "events", "monolith")

promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool is installed")


@pytest.fixture
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((HERE / "compose.yaml").read_text()))


@promtool
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("check", "config", "prometheus.yaml"), id="configuration"),
        pytest.param(("test", "rules", "rules.test.yaml"), id="rules"),
    ],
)
def test_promtool(arguments: tuple[str, ...]) -> None:
    """It finds nothing wrong, and every alert fires when it should and not before."""
    done = subprocess.run(["promtool", *arguments], cwd=HERE / "prometheus", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_explained_and_tried() -> None:
    """Each is in the runbook and in promtool's tests."""
    rules = yaml.safe_load((HERE / "prometheus" / "rules.yaml").read_text())
    names = [rule["alert"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule]
    assert names
    runbook = (ROOT / "docs" / "operations" / "watch.md").read_text()
    tried = (HERE / "prometheus" / "rules.test.yaml").read_text()
    assert [name for name in names if name not in runbook] == []
    assert [name for name in names if not re.search(rf"alertname: {name}\n +eval_time", tried)] == []


def test_every_service_is_scraped() -> None:
    """On its admin port, every replica of it."""
    jobs = yaml.safe_load((HERE / "prometheus" / "prometheus.yaml").read_text())["scrape_configs"]
    asked = {job["job_name"]: job["dns_sd_configs"][0] for job in jobs}
    assert {name: (how["names"], how["port"]) for name, how in asked.items()} == {
        "gateway": (["gateway"], 3900),
        "auth": (["auth"], 3901),
        "events": (["events"], 3902),
        "monolith": (["monolith"], 3900),
    }


def test_dashboard() -> None:
    """Its data comes from what is provisioned beside it."""
    dashboard = json.loads((HERE / "grafana" / "dashboards" / "eventboard.json").read_text())
    provisioned = yaml.safe_load((HERE / "grafana" / "provisioning" / "datasources" / "eventboard.yaml").read_text())
    known = {source["uid"] for source in provisioned["datasources"]}
    asked = {panel["datasource"]["uid"] for panel in dashboard["panels"] if panel["type"] != "row"}
    assert asked == {"prometheus", "loki"} < known
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))


def test_services(compose: dict[str, Any]) -> None:
    """Only with their profile, pinned, reached from this machine alone; what they mount is here."""
    for name, service in compose["services"].items():
        assert service["profiles"] == ["observability"], name
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", [])), name
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in compose["volumes"] or source == "/var/run/docker.sock" or (HERE / source).exists(), volume
    included = yaml.safe_load((ROOT / "compose.yaml").read_text())["include"]
    assert included == ["deploy/observability/compose.yaml"]


def test_where_everything_is(compose: dict[str, Any]) -> None:
    """One finds the other under the names that Compose gives them."""
    texts = [path.read_text() for path in HERE.rglob("*") if path.suffix in (".yaml", ".alloy")]
    addresses = {found for text in texts for found in re.findall(r"(?:https?://|endpoint: )([a-z-]+):\d+", text)}
    assert addresses
    assert addresses <= {*compose["services"], *OURS}
