"""TLS by the server's own settings."""

import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from eventboard.settings import load
from eventboard.web.server import ServeError, encryption
from tests.support.certificates import Certificate, certificate
from tests.support.commands import ran
from tests.support.processes import Process, address_of, spawned
from tests.support.shapes import CREDENTIAL

NOBODY = {"PEERS_AUTH": "http://127.0.0.1:1", "PEERS_EVENTS": "http://127.0.0.1:1", "RPC_CREDENTIAL": CREDENTIAL}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def gateway(made: Certificate) -> Iterator[Process]:
    files = {"SERVER_TLS_CERTIFICATE": str(made.certificate), "SERVER_TLS_KEY": str(made.key)}
    with spawned("serve", "--target", "gateway", SERVER_PORT="0", SERVER_HSTS="on", **NOBODY, **files) as process:
        process.url = address_of(process)
        yield process


def trusting(made: Certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=made.certificate)


def test_tls(gateway: Process, made: Certificate) -> None:
    """Who trusts the certificate is served, and told to come this way only."""
    assert gateway.url.startswith("https://")
    answer = httpx.get(f"{gateway.url}/health/live", verify=trusting(made))
    assert (answer.status_code, answer.json()) == (200, {"status": "up"})
    assert answer.headers["strict-transport-security"].startswith("max-age=")


def test_certificate_that_nobody_trusts(gateway: Process) -> None:
    """It is the one that was given."""
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{gateway.url}/health/live", verify=ssl.create_default_context())


def test_plain_http_where_there_is_tls(gateway: Process) -> None:
    """Nothing is answered in the clear, not even where to go."""
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{gateway.url.replace('https', 'http')}/health/live")


def only(version: ssl.TLSVersion) -> ssl.SSLContext:
    """A client that would take whatever the server offers, in one version of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_of_today(gateway: Process, version: ssl.TLSVersion) -> None:
    """Either will do."""
    assert httpx.get(f"{gateway.url}/health/live", verify=only(version)).status_code == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_tls_of_yesterday(gateway: Process, version: ssl.TLSVersion) -> None:
    """The server hangs up, mostly before it has said why."""
    with pytest.raises(httpx.ConnectError, match=r"ALERT_PROTOCOL_VERSION|UNEXPECTED_EOF"):
        httpx.get(f"{gateway.url}/health/live", verify=only(version))


def test_health_command(gateway: Process, made: Certificate) -> None:
    """It asks by TLS where that is what is served, whomever the certificate is for."""
    port = str(urlsplit(gateway.url).port)
    files = {"SERVER_TLS_CERTIFICATE": str(made.certificate), "SERVER_TLS_KEY": str(made.key)}
    assert ran("health", SERVER_PORT=port, **files) == (0, f"https://127.0.0.1:{port} is alive\n")
    assert ran("health", SERVER_PORT=port)[0] == 1


def refused(**settings: str) -> str:
    """The one line of the refusal."""
    with pytest.raises(ServeError) as refusal:
        encryption(load({f"EVENTBOARD_{name}": value for name, value in settings.items()}).server)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_file_that_is_none(made: Certificate, tmp_path: Path) -> None:
    """The files are named, missing or wrong."""
    for wrong in (tmp_path / "nowhere.pem", tmp_path, made.key):
        line = refused(SERVER_TLS_CERTIFICATE=str(wrong), SERVER_TLS_KEY=str(made.key))
        assert line.startswith(f"{wrong} and {made.key}: no certificate with its key can be read: ")


def test_key_of_another_certificate(made: Certificate, tmp_path: Path) -> None:
    """They have to fit."""
    line = refused(SERVER_TLS_CERTIFICATE=str(made.certificate), SERVER_TLS_KEY=str(certificate(tmp_path).key))
    assert "no certificate with its key can be read" in line


def test_half_of_it(made: Certificate) -> None:
    """A certificate alone is a mistake, and so is a key."""
    line = refused(SERVER_TLS_CERTIFICATE=str(made.certificate))
    assert line.startswith("EVENTBOARD_SERVER_TLS_KEY: it is not set")
    line = refused(SERVER_TLS_KEY=str(made.key))
    assert line.startswith("EVENTBOARD_SERVER_TLS_CERTIFICATE: it is not set")
