"""The context of a call: correlation id, and how long it may take."""

import asyncio
import time
from contextlib import suppress

import pytest

from eventboard.core import request_context
from eventboard.core.request_context import Context
from tests.support.processes import PATIENCE


@pytest.mark.parametrize("text", ["a", "A-Z.a_z:0-9", "x" * 128, "01a20729-7140-7ff2-a64b-8e4f36dcf9e8"])
def test_correlation_id(text: str) -> None:
    """Taken as it is."""
    assert request_context.CORRELATION_ID.fullmatch(text)


@pytest.mark.parametrize("text", ["", "x" * 129, "a b", "a\n", "\n", "a/b", "a,b", "ä", "a\x00", '"a"', "٣"])
def test_no_correlation_id(text: str) -> None:
    """Nothing that could end a line or a header, or fill a log."""
    assert not request_context.CORRELATION_ID.fullmatch(text)


def test_outside_any_call() -> None:
    """There is a correlation id all the same, another each time, and no deadline."""
    assert request_context.current().correlation_id != request_context.current().correlation_id
    assert request_context.remaining() is None


def test_use() -> None:
    """Inside the block, and no longer, whatever ends it."""
    with request_context.use(Context("outer")):
        with suppress(ZeroDivisionError), request_context.use(Context("inner")):
            assert request_context.current().correlation_id == "inner"
            _ = 1 / 0
        assert request_context.current().correlation_id == "outer"


async def test_tasks() -> None:
    """A task has its starter's context; what it uses itself is its own."""

    async def inside(name: str) -> tuple[str, str]:
        before = request_context.current().correlation_id
        with request_context.use(Context(name)):
            await asyncio.sleep(0)
            return before, request_context.current().correlation_id

    with request_context.use(Context("starter")):
        assert list(await asyncio.gather(inside("a"), inside("b"))) == [("starter", "a"), ("starter", "b")]
        assert request_context.current().correlation_id == "starter"


def test_budget() -> None:
    """A deadline that comes nearer, and is gone after the block; the rest of the context stays."""
    with request_context.use(Context("a")), request_context.budget(3600) as deadline:
        assert request_context.current() == Context("a", deadline=deadline)
        first = request_context.remaining()
        assert first is not None
        assert 3600 - PATIENCE < first <= 3600
        second = request_context.remaining()
        assert second is not None
        assert second <= first
    assert request_context.remaining() is None


def test_budget_within_a_budget() -> None:
    """The shorter one counts, whichever it is."""
    with request_context.budget(1) as outer, request_context.budget(10) as inner:
        assert inner == outer
    with request_context.budget(3600) as outer:
        with request_context.budget(1) as inner:
            assert inner < outer
        left = request_context.remaining()
        assert left is not None
        assert left > 3600 - PATIENCE


def test_budget_that_is_spent() -> None:
    """Nothing is left, and not less than that."""
    with request_context.budget(0) as deadline:
        assert deadline <= time.monotonic()
        assert request_context.remaining() == 0
