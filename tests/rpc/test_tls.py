"""Calls between processes over TLS: real certificates, real sockets."""

import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from loguru import logger
from msgspec.structs import replace

from eventboard import settings
from eventboard.app import build
from eventboard.core.errors import Code, ServiceError
from eventboard.rpc.breaker import BreakerState
from eventboard.rpc.http_client import client_tls
from eventboard.rpc.server import RpcServer
from eventboard.settings import SettingsError
from eventboard.web.server import encryption
from tests.support.certificates import Authority, Certificate
from tests.support.rpc import CREDENTIAL, QUICK, Ask, Desk, DeskService, Told, calling, echo, listening


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def ca(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture(scope="module")
def other_ca(folder: Path) -> Authority:
    return Authority(folder, "other")


@pytest.fixture(scope="module")
def server(ca: Authority) -> Certificate:
    return ca.issue("127.0.0.1")


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []
    sink = logger.add(lines.append, format="{level} {message}")
    yield lines
    logger.remove(sink)


def trusting(ca: Authority, shown: Certificate | None = None) -> ssl.SSLContext:
    return client_tls(str(ca.certificate), *((str(shown.certificate), str(shown.key)) if shown else ()))


@asynccontextmanager
async def served(shown: Certificate, client_ca: Authority | None = None) -> AsyncIterator[tuple[str, DeskService]]:
    """As the server's settings say."""
    given = {"TLS_CERTIFICATE": str(shown.certificate), "TLS_KEY": str(shown.key)}
    if client_ca is not None:
        given["TLS_CLIENT_CA"] = str(client_ca.certificate)
    known = settings.load({f"EVENTBOARD_SERVER_{name}": value for name, value in given.items()})
    service = DeskService(echo)
    app = RpcServer({Desk: service}, credential=CREDENTIAL)
    async with listening(app, encryption(known.server)) as url:
        yield url, service


async def assert_untrusted(url: str, tls: ssl.SSLContext, service: DeskService, logged: list[str]) -> None:
    """It is an error of the settings: logged, neither repeated nor held against the module, and nothing has run."""
    async with calling(Desk, [url], tls=tls, retries=replace(QUICK, first_wait=60)) as (desk, transport):
        for _ in range(25):
            with pytest.raises(ServiceError) as raised:
                await desk.tell(Ask("hi"))
            assert raised.value.code is Code.INTERNAL
            assert "certificate" not in raised.value.detail
        assert transport.breaker.state is BreakerState.CLOSED
        with pytest.raises(ServiceError):
            await transport.check()
    assert not service.asked
    assert all(line.startswith("ERROR desk: TLS with https://127.0.0.1:") for line in logged)
    assert logged


async def test_peer_of_our_ca(ca: Authority, server: Certificate) -> None:
    """Calls cross as without TLS."""
    async with served(server) as (url, _), calling(Desk, [url], tls=trusting(ca)) as (desk, transport):
        assert await desk.tell(Ask("hi")) == Told("hi")
        assert await desk.write(Ask("ho")) == Told("ho")
        with pytest.raises(ServiceError):
            await transport.check()  # it has no page for that, and could be asked


async def test_certificate_for_a_name(ca: Authority) -> None:
    """It is held to the name in the settings, though the address that it stands for is connected to."""
    named = ca.issue("localhost", name="named")
    async with served(named) as (url, _):
        url = url.replace("127.0.0.1", "localhost")
        async with calling(Desk, [url], tls=trusting(ca)) as (desk, _):
            assert await desk.tell(Ask("hi")) == Told("hi")


async def test_certificate_for_another_name(ca: Authority, logged: list[str]) -> None:
    """Whoever has an address of ours isn't believed."""
    async with served(ca.issue("auth.internal", name="another")) as (url, service):
        await assert_untrusted(url, trusting(ca), service, logged)
    assert "127.0.0.1" in logged[0]


async def test_certificate_of_another_ca(other_ca: Authority, server: Certificate, logged: list[str]) -> None:
    """Nor is whoever has a certificate of somebody else's."""
    async with served(server) as (url, service):
        await assert_untrusted(url, trusting(other_ca), service, logged)


async def test_certificate_that_has_expired(ca: Authority, logged: list[str]) -> None:
    """The log says that it has."""
    async with served(ca.issue("127.0.0.1", name="expired", expired=True)) as (url, service):
        await assert_untrusted(url, trusting(ca), service, logged)
    assert "expired" in logged[0]


async def test_peer_without_tls(ca: Authority, logged: list[str]) -> None:
    """It isn't talked to in the clear."""
    service = DeskService(echo)
    async with listening(RpcServer({Desk: service}, credential=CREDENTIAL)) as url:
        await assert_untrusted(url.replace("http:", "https:"), trusting(ca), service, logged)


async def test_client_certificate(ca: Authority, server: Certificate) -> None:
    """A server that asks for one takes one of its CA."""
    mine = ca.issue(name="gateway")
    async with served(server, ca) as (url, _), calling(Desk, [url], tls=trusting(ca, mine)) as (desk, _):
        assert await desk.tell(Ask("hi")) == Told("hi")


@pytest.mark.parametrize("which", ["none", "another CA's"])
async def test_client_without_its_certificate(
    ca: Authority, other_ca: Authority, server: Certificate, which: str
) -> None:
    """Nobody else is let in, whatever credential they have. Our server resets the connection, without a word."""
    shown = None if which == "none" else other_ca.issue(name="stranger")
    async with served(server, ca) as (url, service), calling(Desk, [url], tls=trusting(ca, shown)) as (desk, _):
        with pytest.raises(ServiceError) as raised:
            await desk.tell(Ask("hi"))
    assert raised.value.code is Code.UNAVAILABLE
    assert not service.asked


@contextmanager
def rejecting(shown: Certificate, client_ca: Authority) -> Iterator[str]:
    """A server that says why it rejects a client, and waits until that has arrived."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=client_ca.certificate)
    context.load_cert_chain(shown.certificate, shown.key)
    context.verify_mode = ssl.CERT_REQUIRED

    def reject(connection: socket.socket) -> None:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = context.wrap_bio(incoming, outgoing, server_side=True)
        with connection:
            while data := connection.recv(65536):
                incoming.write(data)
                with suppress(ssl.SSLError):
                    session.do_handshake()
                connection.sendall(outgoing.read())

    def serve() -> None:
        with suppress(OSError):
            while True:
                reject(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        yield "https://127.0.0.1:{}".format(*listener.getsockname()[1:2])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


async def test_client_that_hears_why(ca: Authority, server: Certificate, logged: list[str]) -> None:
    """TLS 1.3 judges a client's certificate after its handshake: what comes then is an error of the settings, too."""
    with rejecting(server, ca) as url:
        await assert_untrusted(url, trusting(ca), DeskService(echo), logged)
    assert "CERTIFICATE_REQUIRED" in logged[0]


GATEWAY = {
    "EVENTBOARD_RPC_CREDENTIAL": CREDENTIAL,
    "EVENTBOARD_PEERS_AUTH": "https://auth:3001",
    "EVENTBOARD_PEERS_EVENTS": "https://events:3002",
}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"TLS_CA": "/nowhere.pem"}, "EVENTBOARD_RPC_TLS_…: /nowhere.pem can't be read as PEM files: "),
        (
            {"TLS_CERTIFICATE": "/some.pem"},
            "EVENTBOARD_RPC_TLS_KEY: not set; a certificate and its key are needed together",
        ),
        (
            {"TLS_KEY": "/some.pem"},
            "EVENTBOARD_RPC_TLS_CERTIFICATE: not set; a certificate and its key are needed together",
        ),
    ],
)
def test_files_that_are_none(given: dict[str, str], said: str) -> None:
    """The start says so, and not the first call."""
    with pytest.raises(SettingsError) as raised:
        build(
            settings.load({**GATEWAY, **{f"EVENTBOARD_RPC_{name}": value for name, value in given.items()}}),
            frozenset({"gateway"}),
        )
    assert str(raised.value).startswith(said)
