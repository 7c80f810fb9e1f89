"""What deploy/secrets.sh and deploy/postgres/roles.sh make: secrets in a folder, and the accounts that they name."""

import os
import shutil
import subprocess
from pathlib import Path

from eventboard.dev.postgres import SUPERUSER, Postgres

ROOT = Path(__file__).parents[2]
# Where both expect the secrets in a container.
MOUNTED = "/run/secrets"


def make_secrets(folder: Path) -> Path:
    """Runs deploy/secrets.sh for this folder; returns the secrets' own."""
    (folder / "deploy").mkdir()
    script = shutil.copy(ROOT / "deploy" / "secrets.sh", folder / "deploy")
    subprocess.run([script], check=True, stdout=subprocess.DEVNULL)
    return folder / "secrets"


def make_accounts(server: Postgres, secrets: Path, *, rule: str, port: int = 5432) -> None:
    """The database `eventboard` with its accounts; from now on the server asks them for passwords, by a line `rule`."""
    environ = {**os.environ, "PGHOST": str(server.socket), "PGPORT": str(port), "POSTGRES_DB": "eventboard"}
    environ |= {"PATH": f"{server.bin}:{os.environ['PATH']}", "POSTGRES_USER": SUPERUSER}
    subprocess.run(["createdb", "-U", SUPERUSER, "eventboard"], env=environ, check=True)
    script = (ROOT / "deploy" / "postgres" / "roles.sh").read_text().replace(MOUNTED, str(secrets))
    subprocess.run(["sh", "-s"], env=environ, input=script, text=True, check=True)
    rules = server.data / "pgdata" / "pg_hba.conf"
    rules.write_text(f"local all {SUPERUSER} trust\n{rule}\n")
    reload = ["psql", "-qAt", "-U", SUPERUSER, "-d", "eventboard", "-c", "SELECT pg_reload_conf()"]
    subprocess.run(reload, env=environ, check=True, stdout=subprocess.DEVNULL)
