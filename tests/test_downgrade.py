"""`eventboard downgrade`: what it asks, and what it needs."""

import os

from eventboard.db.revisions import MODULES, needed
from tests.support.commands import STRONG, levels, ran, refused
from tests.support.processes import PATIENCE, environment, fork_server


def asked(answer: bytes, *arguments: str, **settings: str) -> tuple[int, bytes]:
    """The exit code and the output at a terminal, where the question is answered."""
    keyboard, terminal = os.openpty()
    values = environment({f"EVENTBOARD_{name}": value for name, value in settings.items()})
    process = fork_server().start(["downgrade", *arguments], values, terminal, terminal)
    output = b""
    try:
        while b"Type yes to go on" not in output:
            output += os.read(keyboard, 4096)
        os.write(keyboard, answer)
        code = process.wait(PATIENCE)
        return code, output + os.read(keyboard, 4096)
    finally:
        process.kill()
        process.wait()
        os.close(keyboard)
        os.close(terminal)


def test_downgrade(database_url: str) -> None:
    """It says what it would do to which database, and does it where the answer is yes; one module's alone, too."""
    top = [[(needed(module),)] for module in MODULES]
    name = database_url.partition("?")[0].rpartition("/")[2].encode()
    one = ("--module", "events", "--revision", "-1")
    for answer in (b"no\n", b"y\n", b"\n", b"\x04"):
        code, output = asked(answer, *one, DATABASE_URL=database_url)
        assert code == 1
        assert b"nothing was changed" in output
    assert b"events from %s" % needed("events").encode() in output
    assert b"auth from" not in output
    assert name in output
    assert levels(database_url) == top
    code, output = asked(b"yes\n", *one, DATABASE_URL=database_url)
    assert code == 0, output
    assert levels(database_url) == [top[0], [(f"{int(needed('events')) - 1:04}",)]]
    settings = {"DATABASE_URL": database_url}
    assert ran("downgrade", "--revision", "base", "--yes", **settings)[0] == 0
    assert levels(database_url) == [[], []]
    code, output = ran("downgrade", "--revision", "base", "--yes", **settings)  # type: ignore[assignment] # text
    assert code == 0
    assert "already" in str(output)
    assert "`eventboard migrate`" in refused("downgrade", "--revision", "0001", "--yes", **settings)


def test_downgrade_that_nobody_confirms(database_url: str) -> None:
    """Without a terminal it needs --yes; in production a flag of its own as well, whoever is at the terminal."""
    base = ("downgrade", "--revision", "base")
    assert "--yes" in refused(*base, DATABASE_URL=database_url)
    production = {"DATABASE_URL": database_url, "ENVIRONMENT": "production", **STRONG}
    assert "--production" in refused(*base, "--yes", **production)
    assert "--yes" in refused(*base, "--production", **production)
    assert levels(database_url) == [[(needed(module),)] for module in MODULES]
    assert ran(*base, "--yes", "--production", **production)[0] == 0
    assert levels(database_url) == [[], []]
