"""PgBouncer of another Debian suite on a free port of this machine, in front of a PostgreSQL's socket."""

import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe
from urllib.parse import parse_qsl, urlsplit

from eventboard.dev.postgres_programs import find_binaries
from tests.deploy.engines import fetch
from tests.support.cluster import public_folder
from tests.support.ports import free_port
from tests.support.processes import PATIENCE

ROOT = Path(__file__).parents[3]
CONFIGURATION = ROOT / "deploy" / "pgbouncer" / "pgbouncer.ini"
# 1.24, with a libc of its own, since it is newer than this machine's.
PACKAGES = (
    *("pgbouncer", "libcares2", "libevent-2.1-7t64", "libssl3t64", "libc6", "libsystemd0", "libldap2", "libsasl2-2"),
    *("libcap2", "libpam0g", "libaudit1", "libcap-ng0", "zlib1g", "libzstd1"),
)
# 1.18, which knows no prepared statements.
OLD_PACKAGES = (
    *("pgbouncer", "libc-ares2", "libevent-2.1-7", "libssl3", "libc6", "libsystemd0", "libcap2", "libpam0g"),
    *("libaudit1", "libcap-ng0", "zlib1g", "libzstd1", "liblzma5", "liblz4-1", "libgcrypt20", "libgpg-error0"),
)


DATABASE = re.compile(r"^eventboard = host=postgres port=5432$", re.MULTILINE)
ADMINISTRATOR = "administrator"


@dataclass
class PgBouncer:
    """`passwords` are those of the accounts that it knows."""

    port: int
    passwords: dict[str, str]
    _command: Sequence[str]
    _log: Path
    _process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            process = self._process = subprocess.Popen(self._command, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end and process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.01)
        raise AssertionError(f"PgBouncer doesn't listen: {self._log.read_text()}")

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def url(self, account: str, database: str) -> str:
        address = f"{account}:{self.passwords[account]}@127.0.0.1:{self.port}"
        return f"postgresql://{address}/{database}?sslmode=disable"

    def console(self, command: str) -> str:
        """Runs a command of its administrator's console."""
        psql = [str(find_binaries(None) / "psql"), "-qAtX", self.url(ADMINISTRATOR, "pgbouncer"), "-c", command]
        return subprocess.run(psql, check=True, capture_output=True, text=True).stdout


@contextmanager
def pgbouncer(
    program: Sequence[str], url: str, passwords: Mapping[str, str], **settings: object
) -> Iterator[PgBouncer]:
    """In front of the server that has this URL, configured by deploy/pgbouncer/pgbouncer.ini and `settings`.

    A setting that is None is left out.
    """
    known = {**passwords, ADMINISTRATOR: token_urlsafe()}
    port = free_port()
    # For root it runs as `nobody`, as PostgreSQL does: neither runs as root.
    with public_folder() as folder:
        chosen = {
            "listen_port": port,
            "unix_socket_dir": "",
            "auth_file": folder / "userlist.txt",
            "admin_users": ADMINISTRATOR,
            **({"user": "nobody"} if os.geteuid() == 0 else {}),
            **settings,
        }
        users = "".join(f'"{name}" "{password}"\n' for name, password in known.items())
        (folder / "userlist.txt").write_text(users)
        configuration = folder / "pgbouncer.ini"
        lines = "\n".join(f"{name} = {value}" for name, value in chosen.items() if value is not None)
        address = dict(parse_qsl(urlsplit(url).query))
        deployed, replaced = DATABASE.subn(
            f"* = host={address['host']} port={address['port']}", CONFIGURATION.read_text()
        )
        assert replaced == 1
        for name in (name for name, value in chosen.items() if value is None):
            deployed = re.sub(rf"^{name} = .*\n", "", deployed, flags=re.MULTILINE)
        # A later line replaces an earlier one.
        configuration.write_text(f"{deployed}\n{lines}\n")
        found = PgBouncer(port, known, [*program, str(configuration)], folder / "log")
        try:
            found.start()
            yield found
        finally:
            found.kill()


def new() -> Sequence[str]:
    return _command(fetch.debian("trixie", *PACKAGES))


def old() -> Sequence[str]:
    return _command(fetch.debian("bookworm", *OLD_PACKAGES))


def _command(folder: Path) -> Sequence[str]:
    (libraries,) = (folder / "usr" / "lib").glob("*-linux-gnu")
    # Some packages of bookworm still have theirs in /lib.
    paths = [libraries, folder / "lib" / libraries.name]
    loader = next(found for path in paths for found in path.glob("ld-linux-*.so.*"))
    return (str(loader), "--library-path", ":".join(map(str, paths)), str(folder / "usr" / "sbin" / "pgbouncer"))
