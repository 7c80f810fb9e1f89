"""Settings that production rejects, and those that `serve` and `check` warn of."""

from pathlib import Path
from secrets import token_hex

import msgspec
import pytest

from eventboard.app import build
from eventboard.modules.auth.keys import KeyFileError, KeyRing
from eventboard.settings import Bound, LimitSettings, SettingsError, load, warnings
from eventboard.settings.safety import guessable
from eventboard.settings.targets import target_of

PRODUCTION = {"EVENTBOARD_ENVIRONMENT": "production"}


def rejected(environ: dict[str, str]) -> str:
    with pytest.raises(SettingsError) as rejection:
        load(environ)
    return str(rejection.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            ("EVENTBOARD_SERVER_TRUSTED_PROXIES", proxies)
            for proxies in (
                "0.0.0.0/0",
                "::/0",
                "10.0.0.0/8, ::/0",
                "0.0.0.0/1,128.0.0.0/1",
                "2000::/4,3000::/4",
                "::/1",
            )
        ),
        ("EVENTBOARD_TOKENS_LIFETIME", "315360000"),
        ("EVENTBOARD_TOKENS_LIFETIME", "86401"),
        ("EVENTBOARD_TOKENS_REFRESH_LIFETIME", "315360000"),
        ("EVENTBOARD_TOKENS_SESSION_LIFETIME", "315360000"),
        ("EVENTBOARD_TOKENS_INVITATION_LIFETIME", "315360000"),
    ],
)
def test_out_of_bounds_in_production(name: str, value: str) -> None:
    """Everybody as a trusted proxy, and tokens that outlast whoever they were stolen from."""
    load({name: value})
    assert rejected({**PRODUCTION, name: value}).startswith(f"{name}: production ")


def test_bounds_in_production() -> None:
    """What comes close to them is somebody's choice."""
    load({**PRODUCTION, "EVENTBOARD_SERVER_TRUSTED_PROXIES": "10.0.0.0/8, 104.16.0.0/13, fd00::/8, 2400:cb00::/32"})
    load({**PRODUCTION, "EVENTBOARD_TOKENS_LIFETIME": "86400", "EVENTBOARD_TOKENS_SESSION_LIFETIME": "31536000"})


def test_no_limits_in_production() -> None:
    """Passwords could be guessed; one limit of log-ins will do, and the others are a matter of taste."""
    limits = [field.name for field in msgspec.structs.fields(LimitSettings) if field.type == Bound]
    off = {f"EVENTBOARD_LIMITS_{name.upper()}": "0" for name in limits}
    load(off)
    assert rejected({**PRODUCTION, **off}).startswith("EVENTBOARD_LIMITS_LOGIN_FAILURES: production ")
    load({**PRODUCTION, **off, "EVENTBOARD_LIMITS_LOGIN_FAILURES": "10"})


@pytest.mark.parametrize("gateway", [True, False])
def test_who_stands_in_front(tmp_path: Path, gateway: bool) -> None:
    """Production warns until it is answered: a network, or that nobody does. Only a gateway has somebody in front."""

    def asked(**values: str) -> bool:
        environ = {**PRODUCTION, **{f"EVENTBOARD_SERVER_{name}": value for name, value in values.items()}}
        found = warnings(load(environ), gateway=gateway, environ=environ)
        return any(line.startswith("EVENTBOARD_SERVER_TRUSTED_PROXIES: ") for line in found)

    assert asked() is gateway
    assert asked(TRUSTED_PROXIES=" ") is gateway
    for answer in ("none", "10.0.0.0/8"):
        assert not asked(TRUSTED_PROXIES=answer)
    KeyRing(tmp_path / "key.pem", create=True)
    given = {"EVENTBOARD_DATABASE_URL": "postgresql://host/db", "EVENTBOARD_SERVER_TRUSTED_PROXIES": "none"}
    build(load({**PRODUCTION, **given, "EVENTBOARD_TOKENS_KEY_FILE": str(tmp_path / "key.pem")}), target_of("all"))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "board.example"])  # noqa: S104 - no socket
def test_development_where_others_can_reach_it(host: str) -> None:
    """It is said; a container's port has to be reached from outside."""
    for environ in ({}, {"EVENTBOARD_SERVER_HOST": "::1"}, {"EVENTBOARD_SERVER_HOST": "localhost"}, PRODUCTION):
        assert not any("DEVELOPMENT MODE" in line for line in warnings(load(environ), gateway=True, environ=environ))
    environ = {"EVENTBOARD_SERVER_HOST": host}
    (line,) = warnings(load(environ), gateway=False, environ=environ)
    assert line.startswith(f"EVENTBOARD_SERVER_HOST: DEVELOPMENT MODE on {host}")


@pytest.mark.parametrize("credential", ["x" * 64, "ab" * 20, "changeme" * 5, "0123456789abcdef" * 2])
def test_credential_that_repeats_itself(credential: str) -> None:
    """It is long, and can be guessed."""
    given = {**PRODUCTION, "EVENTBOARD_RPC_CREDENTIAL": credential, "EVENTBOARD_PEERS_AUTH": "http://auth:3001"}
    given["EVENTBOARD_DATABASE_URL"] = "postgresql://host/db"
    with pytest.raises(SettingsError) as refusal:
        build(load(given), target_of("events"))
    assert str(refusal.value).startswith("EVENTBOARD_RPC_CREDENTIAL: it repeats itself")
    assert credential not in str(refusal.value)


def test_random_credential() -> None:
    """One of 32 hexadecimal digits never seems to repeat itself."""
    assert not any(guessable(token_hex(16)) for _ in range(5000))
    given = {**PRODUCTION, "EVENTBOARD_RPC_CREDENTIAL": token_hex(16), "EVENTBOARD_PEERS_AUTH": "http://auth:3001"}
    build(load({**given, "EVENTBOARD_DATABASE_URL": "postgresql://host/db"}), target_of("events"))


@pytest.mark.parametrize(
    ("folder_mode", "key_mode", "named"),
    [
        (0o755, 0o644, ""),
        (0o770, 0o660, ""),
        (0o1777, 0o600, "keys"),
        (0o777, 0o600, "keys"),
        (0o700, 0o666, "first.pem"),
    ],
)
def test_keys_that_others_may_write(tmp_path: Path, folder_mode: int, key_mode: int, named: str) -> None:
    """Production starts with no key that anybody could have put there; a folder of keys and a single file alike."""
    folder = tmp_path / "keys"
    KeyRing(folder, create=True)
    (folder / "first.pem").chmod(key_mode)
    folder.chmod(folder_mode)
    for path in (folder, folder / "first.pem"):
        given = {
            **PRODUCTION,
            "EVENTBOARD_DATABASE_URL": "postgresql://host/db",
            "EVENTBOARD_TOKENS_KEY_FILE": str(path),
        }
        # In a folder like /tmp a single file is its owner's alone.
        if not named or (path.is_file() and folder_mode == 0o1777):
            build(load(given), target_of("all"))
            continue
        with pytest.raises(KeyFileError, match="everybody may write") as refusal:
            build(load(given), target_of("all"))
        assert str(refusal.value).startswith(str(tmp_path / "keys" / named if named != "keys" else folder))
