"""Starts `eventboard` processes by forking one that has imported the program, which takes more than a second of CPU.

What is forked is a process like any other: it has its own session, environment and output, runs `eventboard.__main__`
and ends as Python does. What happens before `main` is not the same: tests of that name the program that they execute.
"""

import atexit
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# All that the commands import.
PRELOADED = (
    "eventboard.cli",
    "eventboard.commands.database",
    "eventboard.commands.health",
    "eventboard.commands.serve",
    "eventboard.commands.trace",
    "eventboard.db.migrations",
    "eventboard.dev.demo",
    "eventboard.web.server",
)
# Bytes of a request: arguments and an environment.
_LARGEST = 1 << 20


class ForkServer:
    """One for a process of the tests; it ends with it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # -P: this folder's modules have names of packages.
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        atexit.register(self.close)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()

    def start(
        self, arguments: Sequence[str], environment: Mapping[str, str], output: int, keyboard: int = 0
    ) -> "Forked":
        """`eventboard <arguments>` in this process's working directory; `output` gets all that it prints."""
        request = {"arguments": arguments, "environment": environment, "cwd": str(Path.cwd())}
        return Forked(self, self.ask(request, keyboard, output))

    def ask(self, request: Mapping[str, Any], *descriptors: int) -> Any:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode()], descriptors)
            answer = self._socket.recv(_LARGEST)
        assert answer, "the fork server has ended"
        return json.loads(answer)


class Forked:
    """A process, with the methods of `subprocess.Popen`."""

    def __init__(self, server: ForkServer, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._server = server

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask({"ended": self.pid})
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and timeout is not None and time.monotonic() > end:
                raise subprocess.TimeoutExpired(str(self.pid), timeout)
            time.sleep(0.002)  # between two looks at another process, which can't call back
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# ---------------------------------------------------------------------------------------------------------------------
# In the server


def _serve(requests: socket.socket) -> None:
    """Returns in each process that is forked, and never in the server itself."""
    running = set[int]()
    while True:
        message, descriptors, _, _ = socket.recv_fds(requests, _LARGEST, 2)
        if not message:
            # Tests that were interrupted leave theirs behind.
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            sys.exit()
        request = json.loads(message)
        if "ended" in request:
            pid, status = os.waitpid(request["ended"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
            running.discard(pid)
        elif answer := os.fork():
            running.add(answer)
            for descriptor in descriptors:
                os.close(descriptor)
        else:
            requests.close()
            _become(request, *descriptors)
            return
        requests.send(json.dumps(answer).encode())


def _become(request: Mapping[str, Any], keyboard: int, output: int) -> None:
    os.setsid()
    for descriptor, number in ((keyboard, 0), (output, 1), (output, 2)):
        os.dup2(descriptor, number)
    os.closerange(3, max(keyboard, output) + 1)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    time.tzset()
    sys.argv[1:] = request["arguments"]


if __name__ == "__main__":
    for _name in PRELOADED:
        importlib.import_module(_name)
    # What is shared stays so: the forked processes' collections don't look at it.
    gc.collect()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from eventboard.__main__ import main

    sys.exit(main())
