"""The proxies of deploy/edge, run with its configurations: only addresses, files and limits are this machine's."""

import shutil
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deploy.engines import fetch
from tests.support.certificates import certificate
from tests.support.edge import GATEWAYS, Edge, launched
from tests.support.ports import free_port

FOLDER = fetch.ROOT / "deploy" / "edge"
NAMES = ("haproxy", "traefik", "envoy", "caddy")
TLS = "/etc/eventboard/tls"


@dataclass(frozen=True)
class Behind:
    """Gateways have addresses of their own, and the same two ports, as containers do."""

    addresses: tuple[str, ...]
    port: int
    admin_port: int


def program(name: str) -> Path:
    """Skips the test where it isn't installed and can't be fetched."""
    if name == "haproxy":
        found = shutil.which("haproxy")
        if found is None:
            pytest.skip("no haproxy is installed")
        return Path(found)
    python = fetch.environment("edges")
    if name != "envoy":
        return python.with_name(name)
    # Its script starts the program and stays its parent; a signal wouldn't reach it.
    (found_program,) = python.parents[1].glob("lib/python*/site-packages/envoy/_bin/envoy")
    return found_program


def checking(name: str, folder: Path) -> list[str | Path]:
    """The program's own check of what `written` wrote. Traefik has none."""
    arguments: dict[str, list[str | Path]] = {
        "haproxy": ["-c", "-f", folder / "haproxy.cfg"],
        "envoy": ["--mode", "validate", "-c", folder / "envoy.yaml"],
        "caddy": ["validate", "--config", folder / "Caddyfile"],
    }
    return [program(name), *arguments[name]]


def serving(name: str, folder: Path) -> list[str | Path]:
    arguments: dict[str, list[str | Path]] = {
        "haproxy": ["-W", "-db", "-f", folder / "haproxy.cfg"],
        "traefik": [f"--configFile={folder / 'traefik.yaml'}"],
        "envoy": ["-c", folder / "envoy.yaml", "--concurrency", "2", "-l", "warning", "--disable-hot-restart"],
        "caddy": ["run", "--config", folder / "Caddyfile"],
    }
    return [program(name), *arguments[name]]


def written(
    name: str, folder: Path, behind: Behind, listen: int, tls: Path, changes: Mapping[str, str]
) -> dict[str, str]:
    """Writes the configuration for here into `folder`; the environment that it needs. Each change has to be one."""
    texts = {file.name: file.read_text() for file in (FOLDER / name).iterdir()}
    environment = {}
    here: dict[str, str] = {}
    if name == "haproxy":
        environment = {"EDGE_LISTEN": f"127.0.0.1:{listen}", "EDGE_TLS": str(tls), "TRUSTED_PROXIES": ""}
        here[GATEWAYS] = "".join(
            f"    server gateway{number} {address}:{behind.port} port {behind.admin_port}\n"
            for number, address in enumerate(behind.addresses)
        )
    else:
        here = {TLS: str(tls), "3900": str(behind.admin_port)}
        # Both are always named; a test with one gateway has nobody at the other address.
        for number, address in enumerate((*behind.addresses, "127.58.0.99")[:2], 1):
            if name == "envoy":
                place = f"address: gateway-{number}, port_value: 3000"
                here[place] = f"address: {address}, port_value: {behind.port}"
            else:
                here[f"gateway-{number}:3000"] = f"{address}:{behind.port}"
        here |= {
            "traefik": {'":443"': f'"127.0.0.1:{listen}"', "/etc/traefik/": f"{folder}/"},
            "envoy": {"address: 0.0.0.0, port_value: 443": f"address: 127.0.0.1, port_value: {listen}"},
            # With a name or an address Caddy would serve that one only.
            "caddy": {":443 {": f":{listen} {{\n\tbind 127.0.0.1"},
        }[name]
    for old, new in {**here, **changes}.items():
        assert any(old in text for text in texts.values()), f"{name} has no {old!r}"
        texts = {file: text.replace(old, new) for file, text in texts.items()}
    for file, text in texts.items():
        (folder / file).write_text(text)
    return environment


@contextmanager
def edge(
    name: str, folder: Path, behind: Behind, *, changes: Mapping[str, str] | None = None, **environment: str
) -> Iterator[Edge]:
    """It serves TLS, and has found a gateway ready. `changes` are of the files' text, `environment` is for HAProxy."""
    folder.mkdir()
    tls, port = tls_folder(folder), free_port()
    needed = written(name, folder, behind, port, tls, changes or {})
    trusted = ssl.create_default_context(cafile=tls / "tls.crt")
    url = f"https://127.0.0.1:{port}"
    with launched(serving(name, folder), url, {"HOME": str(folder), **needed, **environment}, trusted) as started:
        yield started


def tls_folder(folder: Path) -> Path:
    """It now has a certificate for 127.0.0.1, as the configurations want it."""
    made = certificate(folder)
    made.certificate.rename(folder / "tls.crt")
    made.key.rename(folder / "tls.key")
    return folder


def holds(running_edge: Edge, client_port: int) -> bool:
    """Whether it still has the connection open: once it has closed it, the kernel's entry belongs to no file."""
    port = int(running_edge.url.rpartition(":")[2])
    ends = f":{port:04X}", f":{client_port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *rest = line.split()
        if local.endswith(ends[0]) and remote.endswith(ends[1]):
            return rest[6] != "0"
    return False
