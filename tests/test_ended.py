"""Commands that a signal ends before they are done."""

import os
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.support import cluster as clusters
from tests.support.commands import NOBODY_LISTENS
from tests.support.processes import PATIENCE, PROGRAM, address_of, patiently, serving, spawned, until_it_hears


@pytest.fixture
def folder() -> Iterator[Path]:
    with clusters.public_folder() as folder:
        yield folder


SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
each_signal = pytest.mark.parametrize("number", SIGNALS, ids=[number.name for number in SIGNALS])


@pytest.mark.parametrize(
    ("command", "number"),
    [
        *(("migrate", number) for number in SIGNALS),
        *((command, signal.SIGTERM) for command in ("downgrade --revision=base --yes", "demo", "check", "health")),
    ],
)
def test_ended_while_it_waits(folder: Path, command: str, number: signal.Signals) -> None:
    """Whoever waits for it, such as Compose and Kubernetes, doesn't take it for done."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        settings = {"SERVER_PORT": str(port), "TOKENS_KEY_FILE": str(folder / "key.pem")}
        url = f"postgresql://me:sesame@127.0.0.1:{port}/eventboard"
        with spawned(*command.split(), DATABASE_URL=url, **settings) as process:
            silent.settimeout(PATIENCE)
            with silent.accept()[0]:
                assert process.stop(number) == 128 + number
            assert "Traceback" not in process.output


def test_keys_ended_while_they_are_read(folder: Path) -> None:
    os.mkfifo(folder / "key.pem")
    with spawned("keys", "list", TOKENS_KEY_FILE=str(folder / "key.pem")) as process:
        for _ in patiently(process):
            with suppress(OSError):  # nobody reads yet
                writer = os.open(folder / "key.pem", os.O_WRONLY | os.O_NONBLOCK)
                break
        assert process.stop(signal.SIGTERM) == 128 + signal.SIGTERM
        os.close(writer)
        assert process.output == ""


@each_signal
@pytest.mark.parametrize("command", ["migrate", "serve"])
def test_ended_while_it_is_imported(command: str, number: signal.Signals) -> None:
    """From the first line on; what serves has nothing to finish, so it ended well."""
    with spawned(command, program=PROGRAM, DATABASE_URL=NOBODY_LISTENS) as process:
        until_it_hears(process, number)
        assert process.stop(number) == (0 if command == "serve" else 128 + number)
        assert process.output == ""


def test_serve_at_a_terminal_that_is_closed(folder: Path, database_url: str) -> None:
    """It drains, as with Ctrl-C."""
    settings = {"DATABASE_URL": database_url, "SERVER_PORT": "0", "TOKENS_KEY_FILE": str(folder / "key.pem")}
    with spawned("serve", **settings) as process:
        address_of(process)
        assert process.stop(signal.SIGHUP) == 0
        assert "Traceback" not in process.output


UNDER_NOHUP = """
import signal, sys
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from eventboard.__main__ import main
sys.exit(main())
"""


def test_serve_under_nohup(folder: Path, database_url: str) -> None:
    """There the terminal may be closed."""
    with serving(database_url, folder, program=("-c", UNDER_NOHUP)) as process:
        process.popen.send_signal(signal.SIGHUP)
        assert httpx.get(f"{process.url}/health/ready").status_code == 200
