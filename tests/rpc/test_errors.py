"""An error crosses as what it is; what isn't one of a module's errors is never taken for one."""

from collections.abc import Awaitable, Callable

import msgspec
import pytest

from eventboard.core.asgi import App, Receive, Scope, Send
from eventboard.core.errors import Code, FieldError, KeyStatus, ServiceError
from eventboard.core.quotas import Quota
from eventboard.rpc import codec
from eventboard.rpc.errors import UnreachableError
from eventboard.rpc.server import RpcServer
from tests.support.rpc import CREDENTIAL, Ask, Desk, DeskService, Told, calling, echo, listening


def failing(error: Exception) -> Callable[[Ask], Awaitable[Told]]:
    async def fail(_: Ask) -> Told:
        raise error

    return fail


def answering(status: int, body: bytes, media_type: str = codec.MEDIA_TYPE) -> App:
    """An application that has one answer."""

    async def app(_: Scope, __: Receive, send: Send) -> None:
        headers = [(b"content-type", media_type.encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


async def outcome_of(app: App, method: str = "tell", *, credential: str = CREDENTIAL) -> ServiceError:
    async with listening(app) as url, calling(Desk, [url], credential=credential) as (desk, _):
        with pytest.raises(ServiceError) as raised:
            await getattr(desk, method)(Ask("hi"))
        return raised.value


def everything(error: ServiceError) -> tuple[object, ...]:
    return (
        error.code,
        error.detail,
        error.errors,
        error.retry_after,
        error.shed,
        error.key_status,
        error.quotas,
    )


# The end of the budget is told by the caller itself, whoever noticed it: see rpc/client.py.
@pytest.mark.parametrize("code", [code for code in Code if code is not Code.DEADLINE_EXCEEDED])
@pytest.mark.parametrize("shed", [False, True], ids=["ran", "shed"])
async def test_each_code(code: Code, shed: bool) -> None:
    """All that an error says crosses, and nothing is asked twice: a module has spoken."""
    fields = (FieldError("/a~1b", "Ünïcödé."), FieldError("", ""))
    quotas = (Quota("login-by-address", 60, 60, 59, 30),)
    sent = ServiceError(code, "Détail.", fields, 7, shed=shed, key_status=KeyStatus.REPLAYED, quotas=quotas)
    service = DeskService(failing(sent))
    received = await outcome_of(RpcServer({Desk: service}, credential=CREDENTIAL))
    assert everything(received) == everything(sent)
    assert type(received) is ServiceError
    assert len(service.asked) == 1


@pytest.mark.parametrize("method", ["tell", "write"])
async def test_end_of_the_budget(method: str) -> None:
    """It is a 504, and isn't tried again: there is nothing left to try with."""
    service = DeskService(failing(ServiceError(Code.DEADLINE_EXCEEDED, "The statement was cancelled.")))
    received = await outcome_of(RpcServer({Desk: service}, credential=CREDENTIAL), method)
    assert received.code is Code.DEADLINE_EXCEEDED
    assert not received.shed
    assert len(service.asked) == 1


async def test_bug() -> None:
    """A bug in a module stays one; nothing of it is told."""
    service = DeskService(failing(ZeroDivisionError("canary")))
    received = await outcome_of(RpcServer({Desk: service}, credential=CREDENTIAL))
    assert received.code is Code.INTERNAL
    assert "canary" not in received.detail
    assert "ZeroDivision" not in received.detail
    assert len(service.asked) == 1


@pytest.mark.parametrize("status", [400, 418, 499, 503, 599])
async def test_code_to_come(status: int) -> None:
    """A newer service's code is an internal error here, whatever its status."""
    frame = msgspec.msgpack.encode({"code": "brand-new", "detail": "canary", "colour": "red"})
    received = await outcome_of(answering(status, frame))
    assert received.code is Code.INTERNAL
    assert "canary" not in received.detail


async def test_more_than_is_known_of_an_error() -> None:
    """A newer service may say more of an error."""
    frame = msgspec.msgpack.encode({"code": "forbidden", "detail": "No.", "colour": "red", "retry_after": 3})
    received = await outcome_of(answering(403, frame))
    assert everything(received) == (Code.FORBIDDEN, "No.", (), 3, False, None, ())


TOLD = msgspec.msgpack.encode(Told("hi"))


@pytest.mark.parametrize(
    ("status", "body", "media_type"),
    [
        pytest.param(200, TOLD, "application/json", id="another media type"),
        pytest.param(200, b"<html>hi</html>", "text/html", id="a captive portal"),
        pytest.param(502, b"Bad Gateway", "text/plain", id="a proxy's error"),
        pytest.param(301, b"", codec.MEDIA_TYPE, id="a redirect"),
        pytest.param(200, b"", codec.MEDIA_TYPE, id="nothing"),
        pytest.param(200, TOLD[:-1], codec.MEDIA_TYPE, id="half an answer"),
        pytest.param(200, TOLD + b"x", codec.MEDIA_TYPE, id="more than an answer"),
        pytest.param(200, msgspec.msgpack.encode({"text": 5}), codec.MEDIA_TYPE, id="a wrong type"),
        pytest.param(200, b"\x81\xa4text\xa1\xff", codec.MEDIA_TYPE, id="no UTF-8"),
        pytest.param(200, b"\x81\xa1x" + b"\x91" * 5000, codec.MEDIA_TYPE, id="too deep"),
        pytest.param(500, b"\x81\xa4code\xa1\xff", codec.MEDIA_TYPE, id="an error in no UTF-8"),
        pytest.param(404, TOLD, codec.MEDIA_TYPE, id="an error that isn't one"),
        pytest.param(500, b"", codec.MEDIA_TYPE, id="an error without a word"),
    ],
)
@pytest.mark.parametrize("method", ["tell", "write"])
async def test_no_answer_of_a_module(method: str, status: int, body: bytes, media_type: str) -> None:
    """Whether it ran isn't known: 503, and not called safe to repeat."""
    received = await outcome_of(answering(status, body, media_type), method)
    assert isinstance(received, UnreachableError)
    assert received.code is Code.UNAVAILABLE
    assert not received.shed


async def test_wrong_credential() -> None:
    """Services that don't trust each other are an error of ours, and never the caller's token."""
    service = DeskService(echo)
    received = await outcome_of(RpcServer({Desk: service}, credential=CREDENTIAL), credential="another")
    assert received.code is Code.INTERNAL
    assert not service.asked


async def test_refused_token() -> None:
    """The module's own 401 is the caller's."""
    service = DeskService(failing(ServiceError(Code.INVALID_TOKEN, "The access token is rejected: it has expired.")))
    received = await outcome_of(RpcServer({Desk: service}, credential=CREDENTIAL))
    assert received.code is Code.INVALID_TOKEN
