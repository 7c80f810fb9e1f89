"""The signals that end a program: Ctrl-C, what `kill` and orchestrators send, and a closed terminal's."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Handler = Callable[[int, FrameType | None], None]

TERMINATING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def terminating_signals() -> list[signal.Signals]:
    """Without those that this process was started to ignore: SIGHUP under `nohup`, SIGINT in a shell's background."""
    return [number for number in TERMINATING if signal.getsignal(number) is not signal.SIG_IGN]


@contextmanager
def handle_signals(handler: Handler) -> Iterator[None]:
    """Calls `handler` for them during the block; for SIGINT even where the process was started to ignore it."""
    numbers = {signal.SIGINT, *terminating_signals()}
    previous = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, its_handler in previous.items():
            signal.signal(number, its_handler)


@contextmanager
def defer_signals() -> Iterator[None]:
    """A signal takes effect after the block, so that it can't come between starting a process and storing it."""
    received: list[int] = []
    try:
        with handle_signals(lambda number, _: received.append(number)):
            yield
    finally:
        if received:
            signal.raise_signal(received[0])
