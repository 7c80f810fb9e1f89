"""The context of a call: correlation id, and how long it may take."""

import asyncio
import subprocess
import sys
import time
from contextlib import suppress
from uuid import RFC_4122, UUID

import pytest

from eventboard.platform import context
from eventboard.platform.context import Context


@pytest.mark.parametrize("text", ["a", "A-Z.a_z:0-9", "x" * 128, "01a20729-7140-7ff2-a64b-8e4f36dcf9e8"])
def test_correlation_id(text: str) -> None:
    """Taken as it is."""
    assert context.CORRELATION_ID.fullmatch(text)


@pytest.mark.parametrize("text", ["", "x" * 129, "a b", "a\n", "\n", "a/b", "a,b", "ä", "a\x00", '"a"', "٣"])
def test_no_correlation_id(text: str) -> None:
    """Nothing that could end a line or a header, or fill a log."""
    assert not context.CORRELATION_ID.fullmatch(text)


def test_new_ids() -> None:
    """A random UUID as any other program makes it, and another each time; the trace id is that without its dashes."""
    made = [context.new_ids() for _ in range(1000)]
    uuids = [UUID(ids.correlation_id) for ids in made]
    assert {(uuid.version, uuid.variant) for uuid in uuids} == {(4, RFC_4122)}
    assert [(str(uuid), uuid.hex, uuid.int & context.CHANCE, uuid.int >> 65) for uuid in uuids] == [
        (ids.correlation_id, ids.trace_id, ids.chance, ids.first_id) for ids in made
    ]
    assert len(set(uuids)) == 1000


def test_new_ids_after_a_fork() -> None:
    """Parent and child don't give out the same ones, whatever was made before."""
    program = """
import os
from eventboard.platform.context import new_ids
new_ids()
os.fork()
os.write(1, "".join(f"{new_ids().trace_id}\\n" for _ in range(64)).encode())
"""
    told = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    assert len(told) == len(set(told)) == 128


def test_outside_any_call() -> None:
    """There is a correlation id all the same, another each time, and no deadline."""
    assert context.current().correlation_id != context.current().correlation_id
    assert context.remaining() is None


def test_use() -> None:
    """Inside the block, and no longer, whatever ends it."""
    with context.use(Context("outer")):
        with suppress(ZeroDivisionError), context.use(Context("inner")):
            assert context.current().correlation_id == "inner"
            _ = 1 / 0
        assert context.current().correlation_id == "outer"


async def test_tasks() -> None:
    """A task has its starter's context; what it uses itself is its own."""

    async def inside(name: str) -> tuple[str, str]:
        before = context.current().correlation_id
        with context.use(Context(name)):
            await asyncio.sleep(0)
            return before, context.current().correlation_id

    with context.use(Context("starter")):
        assert list(await asyncio.gather(inside("a"), inside("b"))) == [("starter", "a"), ("starter", "b")]
        assert context.current().correlation_id == "starter"


def test_budget() -> None:
    """A deadline that comes nearer, and is gone after the block; the rest of the context stays."""
    with context.use(Context("a")), context.budget(10) as deadline:
        assert context.current() == Context("a", deadline=deadline)
        first = context.remaining()
        assert first is not None
        assert 9 < first <= 10
        second = context.remaining()
        assert second is not None
        assert second <= first
    assert context.remaining() is None


def test_budget_within_a_budget() -> None:
    """The shorter one counts, whichever it is."""
    with context.budget(1) as outer, context.budget(10) as inner:
        assert inner == outer
    with context.budget(10) as outer:
        with context.budget(1) as inner:
            assert inner < outer
        left = context.remaining()
        assert left is not None
        assert left > 9


def test_budget_that_is_spent() -> None:
    """Nothing is left, and not less than that."""
    with context.budget(0) as deadline:
        assert deadline <= time.monotonic()
        assert context.remaining() == 0
