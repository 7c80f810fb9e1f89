"""No process prints a secret. Every process that a test starts is looked through at its end; here is where it talks."""

from pathlib import Path
from uuid import uuid4

import pytest

from tests.support import cluster as clusters
from tests.support.board import PASSWORD, Board
from tests.support.canaries import DATABASE_PASSWORD, leaks, remember
from tests.support.processes import spawned
from tests.support.shapes import CREDENTIAL, deployed

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln"


@pytest.mark.parametrize(
    "line",
    [
        f"login failed with {PASSWORD}",
        f"connecting to postgresql://postgres:{DATABASE_PASSWORD}@/x",
        "connecting to postgresql://somebody:else@db/x",
        f"actor='{JWT}'",
        "hash $argon2id$v=19$m=8",
        "-----BEGIN PRIVATE KEY-----",
        f"credential {CREDENTIAL}",
        f"refresh {'r' * 43}",
        f"mail to nia@example.com: invitation token:\n\nabc\nand then {'r' * 43}",
    ],
)
def test_search(line: str) -> None:
    """It finds what it is for."""
    remember("r" * 43)
    assert leaks(f"before\n{line}\nafter", [CREDENTIAL])


def test_search_finds_nothing_in_what_is_innocent() -> None:
    """Ids, addresses without passwords, and the token of a mail that development prints."""
    remember("t" * 64)
    innocent = f"listening on http://127.0.0.1:3000\n{uuid4()}\nmail to a@b: hello\n\ninvitation token:\n\n{'t' * 64}\n"
    assert leaks(innocent, [CREDENTIAL]) == []


def test_talkative_processes(cluster_url: str, tmp_path: Path) -> None:
    """At the lowest level of the log: log-ins, refusals, wrong fields, an error of the database's, and the like."""
    settings = {"LOGS_LEVEL": "DEBUG", "LOGS_FORMAT": "json"}
    with clusters.database(cluster_url) as url, deployed("gateway,events+auth", url, tmp_path, **settings) as three:
        board = Board(three.public.url, url)
        organization = board.organization()
        http, http_admin = organization.user.http, organization.admin.http
        credentials = {"email": organization.user.email, "password": PASSWORD}
        session = board.client().post("/auth/login", json=credentials).json()
        person = {**credentials, "firstName": "N", "lastName": "N", "organizationName": "Talk"}
        for path, body in (
            ("/auth/login", {**credentials, "password": f"not {PASSWORD}"}),
            ("/auth/login", {**credentials, "secret": PASSWORD, PASSWORD: 1}),
            ("/auth/login", {"email": PASSWORD, "password": [PASSWORD]}),
            ("/auth/signup", person),
            ("/auth/refresh", {"refreshToken": session["refreshToken"]}),
            ("/auth/refresh", {"refreshToken": session["refreshToken"]}),
            ("/auth/logout", {"refreshToken": session["refreshToken"]}),
            ("/auth/join", {"invitationToken": session["accessToken"][:200]}),
            ("/auth/password", {"currentPassword": PASSWORD, "newPassword": f"new {PASSWORD}"}),
            ("/events", {"title": session["accessToken"]}),
        ):
            http.post(path, json=body)
        invited = {"email": f"{uuid4().hex}@example.com", "role": "USER"}
        token = http_admin.post("/invitations", json=invited).json()["token"]
        board.client().post("/auth/signup", json={**person, "email": invited["email"], "invitationToken": token})
        http.get("/events", headers={"authorization": f"Bearer {session['accessToken']}x"})
        board.sql("ALTER TABLE auth.users RENAME TO gone")
        assert board.client().post("/auth/login", json=credentials).status_code == 500
        board.sql("ALTER TABLE events.events RENAME TO gone")
        assert http_admin.get("/events").status_code == 500
        board.close()
        for process in three.processes.values():
            process.stop()
        said = [process.output for process in three.processes.values()]
    assert all("POST /auth/login 401" in output or "POST /rpc/auth.login 401" in output for output in said)
    assert all('"stack":' in output for output in said)
    assert [leaks(output, [CREDENTIAL]) for output in said] == [[], []]


def test_wrong_settings() -> None:
    """What is wrong with a secret is told without it."""
    wrong = {"DATABASE_URL": f"mysql://postgres:{DATABASE_PASSWORD}@/x", "RPC_CREDENTIAL": "a-credential-that-is-short"}
    with spawned("serve", "--target", "auth", ENVIRONMENT="production", **wrong) as process:
        process.popen.wait(30)
        assert process.popen.returncode != 0
