"""What a command reads and writes: where nobody said, and as an account that may do little."""

import os
import site
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from eventboard.modules.auth.keys import KeyRing, rotate
from tests.support import cluster as clusters
from tests.support.commands import NOBODY_LISTENS, STRONG, ran, refused, the_line
from tests.support.ports import free_port
from tests.support.processes import PATIENCE

ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder() -> Iterator[Path]:
    with clusters.public_folder() as folder:
        yield folder


@pytest.mark.parametrize("arguments", [("list",), ("rotate",), ("retire", "x")])
def test_keys_without_a_key_file(folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    """The line names the setting; nothing is written into the folder that somebody happens to be in, or taken away."""
    monkeypatch.chdir(folder)
    for settings in ({"ENVIRONMENT": "production", **STRONG}, {"TOKENS_KEY_FILE": ""}):
        assert refused("keys", *arguments, **settings).startswith("eventboard: EVENTBOARD_TOKENS_KEY_FILE: ")
    assert not any(folder.iterdir())


def test_keys_in_a_folder_of_something_else(folder: Path) -> None:
    """A mistyped folder is given no key."""
    (folder / "notes.txt").write_text("")
    assert "notes.txt" in refused("keys", "rotate", TOKENS_KEY_FILE=str(folder))
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("command", ["keys retire", "trace"])
@pytest.mark.parametrize("id_", ["-GpE7ZWS7d8Caf1UJjZ7UzYGH8W8ynWGm", "-1", "--", "-x=1"])
def test_id_that_begins_with_a_hyphen(folder: Path, command: str, id_: str) -> None:
    """One key id in 64 does: it is no option."""
    settings = {"TOKENS_KEY_FILE": str(folder), "SERVER_ADMIN_PORT": str(free_port())}
    KeyRing(folder, create=True)
    said = refused(*command.split(), id_, **settings)
    assert id_ in said or command == "trace", said
    for option in ("-h", "--help"):
        assert ran(*command.split(), option)[0] == 0


# An account that the machine doesn't know, as containers are given.
STRANGER: dict[str, Any] = {"user": 54321, "group": 54321, "extra_groups": []}


@pytest.fixture(scope="module")
def strangers_python() -> tuple[str, dict[str, str]]:
    """A Python that such an account can run, and the environment in which it finds the program."""
    if os.geteuid() != 0:
        pytest.skip("only root can become somebody else")
    paths = [str(ROOT / "src"), *site.getsitepackages()]
    values = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1"}
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        with suppress(OSError):
            command = [python, "-c", "import eventboard.app"]
            if (
                subprocess.run(command, env=values, capture_output=True, check=False, cwd="/", **STRANGER).returncode
                == 0
            ):
                return python, values
    pytest.skip("no Python here can be run by another account")


@pytest.mark.parametrize(
    "command", ["check", "migrate", "health", "keys list", "keys rotate", "keys retire {kid}", "dev"]
)
@pytest.mark.parametrize("mode", [0o755, 0o700], ids=["read-only", "closed"])
def test_account_without_a_name_or_a_home(
    folder: Path, strangers_python: tuple[str, dict[str, str]], command: str, mode: int
) -> None:
    """It works, or one line says what it may not read or write."""
    python, values = strangers_python
    keys, home = folder / "keys", folder / "home"
    kid = KeyRing(keys, create=True).signing().kid
    # Made long ago, so that it signs, and the first one may go.
    (keys / "20200101T000000Z-1.pem").write_bytes(rotate(keys).path.read_bytes())
    home.mkdir()
    for path in keys.iterdir():
        path.chmod(0o644)
    keys.chmod(mode)
    home.chmod(mode)
    settings = {"TOKENS_KEY_FILE": str(keys), "SERVER_PORT": str(free_port()), "DATABASE_URL": NOBODY_LISTENS}
    ran = subprocess.run(
        [python, "-m", "eventboard", *command.format(kid=kid).split()],
        env={**values, "HOME": str(home), **{f"EVENTBOARD_{name}": value for name, value in settings.items()}},
        cwd=home if mode == 0o755 else "/",
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        **STRANGER,
    )
    if (command, mode) == ("keys list", 0o755):
        assert ran.returncode == 0, ran.stderr
    else:
        assert ran.returncode == 1
        the_line(ran.stderr)


def test_dev_without_a_data_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one would be the folder that somebody happens to be in."""
    monkeypatch.chdir(folder)
    assert "EVENTBOARD_POSTGRES_DATA" in refused("dev", POSTGRES_DATA="", SERVER_PORT="0")
    assert not any(folder.iterdir())
