"""`make services`: gateway, auth and events as three processes on this machine, over real sockets."""

import os
import secrets
import signal
import sys
import time
from contextlib import suppress
from subprocess import PIPE, STDOUT, Popen
from threading import Thread

from msgspec.structs import asdict

from eventboard.core.signals import defer_signals
from eventboard.settings import ADMIN_ABOVE, Settings

# How far a port is above the gateway's, and a colour. Services start before the gateway and end after it.
_SERVICES = {"auth": (1, "\033[35m"), "events": (2, "\033[33m"), "gateway": (0, "\033[36m")}


def serve_as_services(settings: Settings, port: int, *, announce: str) -> int:
    """`announce` is printed once all three listen. Returns 1 when one of them has ended by itself."""
    colours = {"FORCE_COLOR": "1"} if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else {}
    shared = {
        "PEERS_AUTH": f"http://127.0.0.1:{port + 1}",
        "PEERS_EVENTS": f"http://127.0.0.1:{port + 2}",
        "RPC_CREDENTIAL": settings.rpc.credential or secrets.token_urlsafe(32),
        "SERVER_DRAIN": "0",
    }
    urls = database_variables(settings)
    services, outputs, listening = dict[str, Popen[bytes]](), list[Thread](), set[str]()
    try:
        for name, (offset, colour) in _SERVICES.items():
            values = shared | {"SERVER_PORT": port + offset, "SERVER_ADMIN_PORT": port + offset + ADMIN_ABOVE}
            environment = (
                os.environ | colours | urls | {f"EVENTBOARD_{key}": str(value) for key, value in values.items()}
            )
            command = [sys.executable, "-m", "eventboard", "serve", "--target", name, "--parent", str(os.getpid())]
            with defer_signals():
                # Ctrl-C at the terminal is for this process, which ends them in order.
                services[name] = Popen(command, env=environment, stdout=PIPE, stderr=STDOUT, process_group=0)
            label = f"{colour}{name:<7} | \033[0m" if colours else f"{name:<7} | "
            outputs.append(Thread(target=_copy, args=(services[name], label, listening, announce), daemon=True))
            outputs[-1].start()
        while not (ended := [name for name, service in services.items() if service.poll() is not None]):
            time.sleep(0.1)
        for name in ended:
            print(f"eventboard: {name} {_how(services[name].returncode)}, so all are stopped", file=sys.stderr)
    finally:
        with defer_signals():
            for service in reversed(services.values()):
                service.terminate()
                service.wait()
        for output in outputs:
            output.join(1.0)  # longer only where nobody reads the output
    return 1


def database_variables(settings: Settings) -> dict[str, str]:
    """For a child process, which has to find the embedded database."""
    urls = {name: value for name, value in asdict(settings.database).items() if name.endswith("url") and value}
    return {f"EVENTBOARD_DATABASE_{name.upper()}": url for name, url in urls.items()}


def _how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _copy(service: Popen[bytes], label: str, listening: set[str], announce: str) -> None:
    for line in service.stdout or ():
        # A closed terminal takes nothing. Not through Python's buffer: a thread blocked in there would delay the end.
        with suppress(OSError):
            os.write(sys.stdout.fileno(), label.encode() + line)
            if b"listening on http" in line:
                listening.add(label)
                if len(listening) == len(_SERVICES):
                    os.write(sys.stdout.fileno(), announce.encode())
