"""Several worker processes behind one port: one that dies is replaced, a signal drains them all."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from socket import socket
from types import FrameType

from loguru import logger

# Seconds between two looks at the workers.
POLL = 0.05
# A worker that fails this soon (seconds) after the very start would fail again: a setting is wrong, not the moment.
STARTING = 5.0
# Seconds before a worker is started in place of one that ended, so that a failing one doesn't take a whole core.
PAUSE = 0.2
# Seconds, beyond what a worker may take to drain, until it is killed.
PATIENCE = 5.0


def supervise(arguments: Sequence[str], listener: socket, count: int, *, patience: float) -> int:
    """Runs `count` times `eventboard <arguments>` on one listening socket, until a signal; returns the exit code.

    `patience` is how long (seconds) a worker may take to end after the signal.
    """
    return _Supervisor(arguments, listener, count, patience + PATIENCE).run()


class _Supervisor:
    def __init__(self, arguments: Sequence[str], listener: socket, count: int, patience: float) -> None:
        place = ["--listener", str(listener.fileno()), "--parent", str(os.getpid())]
        self._command = [sys.executable, "-m", "eventboard", *arguments, *place]
        self._listener = listener
        self._count = count
        self._patience = patience
        self._stopping = False
        self._workers: list[subprocess.Popen[bytes]] = []

    def run(self) -> int:
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGINT, signal.SIGTERM)}
        begun = time.monotonic()
        code = 0
        try:
            self._workers = [self._start() for _ in range(self._count)]
            while not self._stopping:
                time.sleep(POLL)
                for worker in self._ended():
                    if self._stopping:
                        break
                    if worker.returncode > 0 and time.monotonic() - begun < STARTING:
                        code, self._stopping = worker.returncode, True
                        break
                    logger.warning("worker {} ended with {}: another takes its place", worker.pid, worker.returncode)
                    time.sleep(PAUSE)
                    self._workers.append(self._start())
            return self._drain() or code
        finally:
            self._end()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _start(self) -> subprocess.Popen[bytes]:
        # A group of their own: Ctrl-C reaches the supervisor, which tells them.
        return subprocess.Popen(self._command, pass_fds=[self._listener.fileno()], process_group=0)

    def _stop(self, _: int, __: FrameType | None) -> None:
        self._stopping = True

    def _ended(self) -> list[subprocess.Popen[bytes]]:
        """Those that have ended since the last look."""
        ended = [worker for worker in self._workers if worker.poll() is not None]
        self._workers = [worker for worker in self._workers if worker not in ended]
        return ended

    def _drain(self) -> int:
        """0 where every worker ended well within its time."""
        # Who connects when the workers have stopped accepting is refused, instead of waiting for nobody.
        self._listener.close()
        for worker in self._workers:
            worker.terminate()
        code, end = 0, time.monotonic() + self._patience
        while self._workers and time.monotonic() < end:
            time.sleep(POLL)
            for worker in self._ended():
                # A worker that was told before its first line could hear has nothing to finish.
                if worker.returncode not in (0, -signal.SIGTERM):
                    logger.error("worker {} ended with {}", worker.pid, worker.returncode)
                    code = 1
        return 1 if self._workers else code

    def _end(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()
