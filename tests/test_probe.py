"""`eventboard health`, and what the log says of a process that isn't ready."""

from pathlib import Path

from tests.support.ports import free_port
from tests.support.processes import PATIENCE, address_of, logged_so_far, spawned

# Port 1 refuses at once; the password is one to look for.
NOBODY = "postgresql://eventboard:canary@127.0.0.1:1/eventboard"


def health(port: str | int, *arguments: str) -> tuple[int, str]:
    with spawned("health", *arguments, SERVER_PORT=str(port)) as process:
        return process.popen.wait(PATIENCE), process.output


def test_alive_and_not_ready(tmp_path: Path) -> None:
    """A database that is away makes a process not ready, and no reason to end it; the log says why, once."""
    key = str(tmp_path / "signing-key.pem")
    with spawned("serve", SERVER_PORT="0", DATABASE_URL=NOBODY, TOKENS_KEY_FILE=key) as process:
        process.url = address_of(process)
        port = process.url.rpartition(":")[2]
        assert health(port) == (0, f"http://127.0.0.1:{port} is alive\n")
        for _ in range(2):
            code, line = health(port, "--ready")
            assert code == 1
            assert line.startswith(f'eventboard: 127.0.0.1:{port}: 503 {{"status":"down"')
        output = logged_so_far(process)
        told = [line for line in output.splitlines() if "auth is down" in line]
        assert len(told) == 1
        assert "auth is down: The database can't be reached now. (ConnectionRefusedError: " in told[0]
        assert "canary" not in output


def test_nothing_there() -> None:
    port = free_port()
    assert health(port) == (1, f"eventboard: nothing listens on 127.0.0.1, port {port}\n")


def test_ports_to_try() -> None:
    """Without a port of its own it tries the known ones: the same command is right for every role."""
    # Nobody serves on this address of the machine itself.
    with spawned("health", SERVER_HOST="127.0.0.77") as process:
        assert process.popen.wait(PATIENCE) == 1
        assert process.output == "eventboard: nothing listens on 127.0.0.77, port 3000, 3001, 3002\n"
