"""The port for operators: what it shows, and that production shows nobody else."""

from pathlib import Path

import httpx

from eventboard.modules.auth.keys import KeyRing
from tests.support.processes import admin_of, serving


def test_health_in_production(database_url: str, tmp_path: Path) -> None:
    """Clients hear up or down, operators which part."""
    KeyRing(tmp_path / "signing-key.pem", create=True)
    strong = {"PASSWORDS_MEMORY_KIB": "19456", "PASSWORDS_ITERATIONS": "2"}
    with serving(database_url, tmp_path, ENVIRONMENT="production", SERVER_HOST="127.0.0.1", **strong) as process:
        admin = admin_of(process)
        assert httpx.get(f"{process.url}/health").json() == {"status": "up"}
        for path, parts in (("/health", {"auth", "events", "keys", "serving"}), ("/health/live", set())):
            told = httpx.get(f"{admin}{path}").json()
            assert told["status"] == "up"
            assert set(told.get("parts", {})) == parts
        refused = httpx.post(f"{admin}/health")
        assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")
        # What there is instead.
        nothing = httpx.get(f"{admin}/events")
        assert nothing.status_code == 404
        assert "/health" in nothing.text
