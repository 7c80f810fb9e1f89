"""The real Prometheus, with the configuration of deploy/observability, sixty times as fast."""

import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.support.plain_http import NO_TLS
from tests.support.ports import free_port
from tests.support.processes import PATIENCE

HERE = Path(__file__).parents[2] / "deploy" / "observability"
EVERY = "500ms"


@dataclass
class Prometheus:
    url: str

    def query(self, expression: str, since: float) -> list[Any]:
        """The series that it had at any time since then (by the Unix clock)."""
        asked = {"query": expression, "start": str(since), "end": str(time.time()), "step": "1"}
        answer = httpx.get(f"{self.url}/api/v1/query_range", params=asked, verify=NO_TLS)
        assert answer.status_code == 200, f"{expression}: {answer.text}"
        return list(answer.json()["data"]["result"])

    def firing(self) -> set[str]:
        """The names of alerts."""
        alerts = httpx.get(f"{self.url}/api/v1/alerts", verify=NO_TLS).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def until_firing(self, *names: str) -> None:
        self._until(lambda firing: firing >= set(names), f"{', '.join(names)} to fire")

    def until_over(self, *names: str) -> None:
        self._until(lambda firing: not firing & set(names), f"{', '.join(names)} to be over")

    def _until(self, holds: Any, what: str) -> None:
        end = time.monotonic() + PATIENCE
        while not holds(firing := self.firing()):
            assert time.monotonic() < end, f"waited for {what}; firing: {firing}"


def faster(text: str) -> str:
    """Minutes and hours of the rules are seconds and minutes, so that what takes an hour there takes a minute."""
    shorter = re.sub(r"(\[|for: )(\d+)m\b", r"\g<1>\g<2>s", text)
    return re.sub(r"(\[|for: )(\d+)h\b", r"\g<1>\g<2>m", shorter)


@contextmanager
def prometheus(folder: Path, targets: Mapping[str, Sequence[str]]) -> Iterator[Prometheus]:
    """Scrapes `targets`: each job's hosts and ports."""
    config = yaml.safe_load((HERE / "prometheus" / "prometheus.yaml").read_text())
    config["global"] = {"scrape_interval": EVERY, "scrape_timeout": EVERY, "evaluation_interval": EVERY}
    config["scrape_configs"] = [
        {"job_name": job["job_name"], "static_configs": [{"targets": list(targets[job["job_name"]])}]}
        for job in config["scrape_configs"]
        if job["job_name"] in targets
    ]
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(config))
    (folder / "rules.yaml").write_text(faster((HERE / "prometheus" / "rules.yaml").read_text()))
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus", "--config.file=prometheus.yaml", "--storage.tsdb.path=data"]
    with (folder / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={address}"], cwd=folder, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _until_ready(process, f"http://{address}", folder / "prometheus.log")
            yield Prometheus(f"http://{address}")
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(f"{url}/-/ready", verify=NO_TLS).status_code == 200:
                return
        except httpx.TransportError:
            continue
    raise AssertionError(log.read_text())
