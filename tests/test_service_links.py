"""Variables that Kubernetes puts beside the settings."""

import pytest

from eventboard.settings import SettingsError, load, warnings


def rejected(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as rejection:
        load(environ)
    return str(rejection.value)


def links(service: str, address: str = "10.96.0.12") -> dict[str, str]:
    """What Kubernetes writes into a pod of a Service with the ports http (3000) and dns (53, by UDP)."""
    name = service.upper().replace("-", "_")
    shown = f"[{address}]" if ":" in address else address
    variables = {
        "SERVICE_HOST": address,
        "SERVICE_PORT": "3000",
        "SERVICE_PORT_HTTP": "3000",
        "SERVICE_PORT_DNS_1": "53",
    }
    variables["PORT"] = f"tcp://{shown}:3000"
    for port, protocol in (("3000", "tcp"), ("53", "udp")):
        prefix = f"PORT_{port}_{protocol.upper()}"
        parts = {"PROTO": protocol, "PORT": port, "ADDR": address}
        variables[prefix] = f"{protocol}://{shown}:{port}"
        variables |= {f"{prefix}_{part}": value for part, value in parts.items()}
    return {f"{name}_{variable}": value for variable, value in variables.items()}


@pytest.mark.parametrize("address", ["10.96.0.12", "fd00::12"])
@pytest.mark.parametrize(
    ("service", "hidden"),
    [
        ("eventboard", []),
        ("eventboard-server", ["SERVER_PORT"]),
        ("eventboard-server-admin", ["SERVER_ADMIN_PORT"]),
        ("eventboard-mail", ["MAIL_PORT"]),
        ("eventboard-database", []),
        ("eventboard-auth", []),
        ("eventboard-postgres-rw", []),
        ("eventboard-config", []),
        ("eventboard-service", []),
    ],
)
def test_kubernetes_service_links(service: str, hidden: list[str], address: str) -> None:
    """They are no settings. One that hides a setting is named in a warning."""
    environ = links(service, address)
    assert load(environ) == load({})
    found = warnings(load(environ), gateway=True, environ=environ)
    assert [line.partition(": ")[0] for line in found] == [f"EVENTBOARD_{name}" for name in hidden]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVENTBOARD_SERVICE_PORT", "3000"),
        ("EVENTBOARD_SERVICE_HOST", "localhost"),
        ("EVENTBOARD_SERVICE_HOST", ""),
        ("EVENTBOARD_GATEWAY_PORT", "3000"),
        ("EVENTBOARD_PORT", "http://10.0.0.1:80"),
        ("EVENTBOARD_PORT", "tcp://10.0.0.1"),
        ("EVENTBOARD_PORTS", "tcp://10.0.0.1:80"),
        ("EVENTBOARD_PORT_3000", "tcp://10.0.0.1:3000"),
        ("EVENTBOARD_PORT_3000_TCP", "tcp://10.0.0.1:3001"),
        ("EVENTBOARD_PORT_3000_TCP_PORT", "3001"),
        ("EVENTBOARD_PORT_3000_TCP_ADDR", "host"),
        ("EVENTBOARD_PORT_3000_TCP_PROTO", "udp"),
        ("EVENTBOARD_SERVER_POTR", "3000"),
    ],
)
def test_almost_a_service_link(name: str, value: str) -> None:
    """Misspelt settings are rejected still."""
    assert rejected({name: value}).startswith(f"{name}: unknown key")


def test_known_key_with_a_wrong_value_beside_service_links() -> None:
    """The Service next door excuses nothing."""
    assert rejected({**links("eventboard"), "EVENTBOARD_SERVER_PORT": "http://10.0.0.1:80"}).startswith(
        "EVENTBOARD_SERVER_PORT: "
    )
