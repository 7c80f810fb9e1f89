"""Several worker processes behind one port: one that dies is replaced, a signal drains them all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from socket import socket
from types import FrameType

from loguru import logger

from eventboard.platform.group import Sharing

# Seconds between two looks at the workers.
POLL = 0.05
# A worker that fails this soon (seconds) after the very start would fail again: a setting is wrong, not the moment.
STARTING = 5.0
# Seconds before a worker is started in place of one that ended, so that a failing one doesn't take a whole core.
PAUSE = 0.2
# Seconds, beyond what a worker may take to drain, until it is killed.
PATIENCE = 5.0


def supervise(arguments: Sequence[str], listeners: Sequence[socket], count: int, *, patience: float) -> int:
    """Runs `count` times `eventboard <arguments>` on the same sockets, until a signal; returns the exit code.

    `patience` is how long (seconds) a worker may take to end after the signal.
    """
    with closing(Sharing(count)) as sharing:
        return _Supervisor(arguments, listeners, sharing, count, patience + PATIENCE).run()


class _Supervisor:
    def __init__(
        self, arguments: Sequence[str], listeners: Sequence[socket], sharing: Sharing, count: int, patience: float
    ) -> None:
        self._shared = [listener.fileno() for listener in listeners]
        place = ["--listeners", ",".join(map(str, self._shared)), "--parent", str(os.getpid())]
        self._command = [sys.executable, "-m", "eventboard", *arguments, *place]
        self._listeners = listeners
        self._sharing = sharing
        self._count = count
        self._patience = patience
        self._stopping = self._hurried = False
        # By their numbers: one that takes another's place takes its part of the shared memory, too.
        self._workers: dict[int, subprocess.Popen[bytes]] = {}

    def run(self) -> int:
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        begun = time.monotonic()
        code = 0
        try:
            for number in range(self._count):
                self._start(number)
            while not self._stopping:
                time.sleep(POLL)
                for number, worker in self._ended():
                    if self._stopping:
                        break
                    if worker.returncode > 0 and time.monotonic() - begun < STARTING:
                        code, self._stopping = worker.returncode, True
                        break
                    logger.warning("worker {} ended with {}: another takes its place", worker.pid, worker.returncode)
                    time.sleep(PAUSE)
                    self._start(number)
            return self._drain() or code
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self, number: int) -> None:
        place = self._sharing.place(number)
        self._workers[number] = subprocess.Popen(
            [*self._command, "--place", str(place)],
            pass_fds=[*self._shared, place.memory, place.listener],
            # A group of their own: Ctrl-C reaches the supervisor, which tells them.
            process_group=0,
        )

    def _stop(self, number: int, _: FrameType | None) -> None:
        self._hurried = self._stopping and number == signal.SIGINT
        self._stopping = True

    def _ended(self) -> list[tuple[int, subprocess.Popen[bytes]]]:
        """Those that have ended since the last look."""
        ended = [(number, worker) for number, worker in self._workers.items() if worker.poll() is not None]
        for number, _ in ended:
            del self._workers[number]
        return ended

    def _drain(self) -> int:
        """0 where every worker ended well within its time."""
        # Who connects when the workers have stopped accepting is refused, instead of waiting for nobody.
        for listener in self._listeners:
            listener.close()
        for worker in self._workers.values():
            worker.terminate()
        code, end = 0, time.monotonic() + self._patience
        while self._workers and time.monotonic() < end:
            time.sleep(POLL)
            if self._hurried:
                # A second Ctrl-C: they don't wait for requests any more.
                self._hurried = False
                for worker in self._workers.values():
                    worker.send_signal(signal.SIGINT)
            for _, worker in self._ended():
                # A worker that was told before its first line could hear has nothing to finish.
                if worker.returncode not in (0, -signal.SIGTERM):
                    logger.error("worker {} ended with {}", worker.pid, worker.returncode)
                    code = 1
        return 1 if self._workers else code

    def _end(self) -> None:
        for worker in self._workers.values():
            worker.kill()
            worker.wait()
