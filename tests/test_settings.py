"""Settings: where values come from, and how one that can't be is refused."""

import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from eventboard.app import build
from eventboard.settings import PORTS, Settings, SettingsError, load
from eventboard.settings.targets import target_of

ROOT = Path(__file__).parents[1]
PRODUCTION = {"EVENTBOARD_ENVIRONMENT": "production"}
CREDENTIAL = "8d1f3c07b26e49a5f0c4e8b7d2936a1c"

# Every key there is, as (section, key, type).
KEYS = [
    (section.name, key.name, key.type)
    for section in msgspec.structs.fields(Settings)
    if section.name != "environment"
    for key in msgspec.structs.fields(section.type)
]
each_key = pytest.mark.parametrize(("section", "key", "type_"), KEYS, ids=[f"{key[0]}.{key[1]}" for key in KEYS])


def refused(environ: Mapping[str, str]) -> str:
    """The one line of the refusal."""
    with pytest.raises(SettingsError) as refusal:
        load(environ)
    line = str(refusal.value)
    assert "\n" not in line
    return line


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of config/, to change."""
    return shutil.copytree(ROOT / "config", tmp_path / "config")


def change(file: Path, section: str, line: str) -> None:
    """Puts a line into a section, in the place of the one with the same key."""
    header, key = f"[{section}]", line.split("=")[0].strip()
    lines = [*file.read_text().splitlines(), header]
    start = next(at for at, text in enumerate(lines) if text.startswith(header))
    if start < len(lines) - 1:
        lines.pop()
    end = next((at for at in range(start + 1, len(lines)) if lines[at].startswith("[")), len(lines))
    kept = [text for text in lines[start + 1 : end] if text.split("=")[0].strip() != key]
    file.write_text("\n".join([*lines[: start + 1], line, *kept, *lines[end:]]) + "\n")


# ---------------------------------------------------------------------------------------------------------------------
# Where values come from


def test_nothing_set() -> None:
    """Development needs no variable at all."""
    settings = load({})
    assert settings.environment == "development"
    assert settings.server.max_body == 1_048_576


def test_layers(folder: Path) -> None:
    """base.toml is under the environment's file, which is under the variables; each key by itself."""
    change(folder / "base.toml", "tokens", 'issuer = "base"')
    change(folder / "base.toml", "tokens", 'audience = "base"')
    change(folder / "base.toml", "tokens", "lifetime = 1")
    change(folder / "development.toml", "tokens", "lifetime = 2")
    change(folder / "development.toml", "tokens", 'audience = "development"')
    change(folder / "production.toml", "tokens", 'issuer = "production"')
    config = {"EVENTBOARD_CONFIG": str(folder)}
    tokens = load({**config, "EVENTBOARD_TOKENS_LIFETIME": "3"}).tokens
    assert (tokens.issuer, tokens.audience, tokens.lifetime) == ("base", "development", 3)
    tokens = load({**config, **PRODUCTION}).tokens
    assert (tokens.issuer, tokens.audience, tokens.lifetime) == ("production", "base", 1)


def test_other_variables() -> None:
    """Only EVENTBOARD_ variables are looked at."""
    assert load({"PORT": "x", "DATABASE_URL": "x", "XEVENTBOARD_SERVER_PORT": "x", "eventboard_x": ""}) == load({})


def test_empty_config_variable() -> None:
    """An empty EVENTBOARD_CONFIG is as none."""
    assert load({"EVENTBOARD_CONFIG": ""}) == load({})


def test_module_urls() -> None:
    """A module's own database goes before the common one, the migrations' too."""
    url = {"EVENTBOARD_DATABASE_URL": "postgresql://all/all"}
    database = load({**url, "EVENTBOARD_DATABASE_EVENTS_URL": "postgres://events/events"}).database
    assert database.for_module("auth") == database.for_migration() == "postgresql://all/all"
    assert database.for_module("events") == "postgres://events/events"
    database = load({**url, "EVENTBOARD_DATABASE_MIGRATION_URL": "postgresql://owner@all/all"}).database
    assert database.for_migration() == "postgresql://owner@all/all"


def test_value_from_a_file(tmp_path: Path) -> None:
    """`…_FILE` names a file that holds the value, such as a mounted secret."""
    secret = tmp_path / "url"
    secret.write_text("postgresql://me:secret@host/db\n")
    assert load({"EVENTBOARD_DATABASE_URL_FILE": str(secret)}).database.url == "postgresql://me:secret@host/db"
    # A key of that very name is no such file.
    assert load({"EVENTBOARD_TOKENS_KEY_FILE": "key.pem"}).tokens.key_file == "key.pem"


def of_type(type_: Any) -> list[str]:
    """Good values of a key's type, as variables hold them."""
    if isinstance(get_args(type_)[0] if get_args(type_) else None, str):
        return list(get_args(type_))
    kind = re.search(r"int|float|str", str(type_))
    assert kind, type_
    return {"int": ["8", "100"], "float": ["1", "0.5", "1e-1"], "str": ["postgresql://host/x"]}[kind.group()]


@each_key
def test_variable_of_every_key(section: str, key: str, type_: Any) -> None:
    """Every key can be set by its variable, as text."""
    for value in ["https://app.example"] if key == "cors_origins" else of_type(type_):
        settings = load({f"EVENTBOARD_{section}_{key}".upper(): value})
        assert str(getattr(getattr(settings, section), key)) in (value, f"{value}.0", "0.1")


# ---------------------------------------------------------------------------------------------------------------------
# What is refused


@each_key
def test_wrong_variable_of_every_key(section: str, key: str, type_: Any) -> None:
    """What isn't of the key's type is refused by a line that names the variable and says what it wants."""
    name = f"EVENTBOARD_{section}_{key}".upper()
    kind = "str" if "str" in str(type_) else "choice" if "Literal" in str(type_) else "number"
    wrong = {
        "str": [],
        "choice": ["", "debug", "null", "TEXT"],
        "number": ["", "x", "0x10", " 1", "1,5", "true", "-1", "nan", "inf", "1e999"],
    }[kind]
    for value in wrong:
        line = refused({name: value})
        assert line.startswith(f"{name}: "), line
        assert line.endswith(f", not {value!r}"), line
        assert line.startswith(f"{name}: must ") or "number" in line.lower(), line
        assert "`" not in line, "no names of Python's types"


def test_empty_where_text_is_needed() -> None:
    """An empty variable is a value, and no address to listen on."""
    assert refused({"EVENTBOARD_SERVER_HOST": ""}) == "EVENTBOARD_SERVER_HOST: must be text that isn't empty, not ''"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("EVENTBOARD_", None),
        ("EVENTBOARD_SERVER", None),
        ("EVENTBOARD_SECRET", None),
        ("EVENTBOARD_SERVER_PROT", "EVENTBOARD_SERVER_PORT"),
        ("EVENTBOARD_SERVER_PORTS", "EVENTBOARD_SERVER_PORT"),
        ("EVENTBOARD_SERVER_PORTS_FILE", "EVENTBOARD_SERVER_PORT"),
        ("EVENTBOARD_PORT", "EVENTBOARD_SERVER_PORT"),
        ("EVENTBOARD_LOG_LEVEL", "EVENTBOARD_LOGS_LEVEL"),
        ("EVENTBOARD_DATABASE", "EVENTBOARD_DATABASE_URL"),
        ("EVENTBOARD_DATABASE_URLS", "EVENTBOARD_DATABASE_URL"),
        ("EVENTBOARD_ENVIRONMENT_NAME", "EVENTBOARD_ENVIRONMENT"),
    ],
)
def test_unknown_variable(name: str, meant: str | None) -> None:
    """A misspelt name isn't passed over, and the line says what was probably meant."""
    assert refused({name: "1"}) == f"{name}: unknown key" + (f"; did you mean {meant}?" if meant else "")


@pytest.mark.parametrize(
    ("section", "given", "meant"), [("sever", "x = 1", "server"), ("server", "prot = 1", "port"), ("mail", "x = 1", "")]
)
def test_unknown_key_in_a_file(folder: Path, section: str, given: str, meant: str) -> None:
    """Likewise."""
    change(folder / "base.toml", section, given)
    line = refused({"EVENTBOARD_CONFIG": str(folder)})
    assert line.endswith(f"; did you mean {meant}?" if meant else "unknown key")


@pytest.mark.parametrize("name", ["", "prod", "Production", "test"])
def test_unknown_environment(name: str) -> None:
    """The line says which environments there are."""
    line = refused({"EVENTBOARD_ENVIRONMENT": name})
    assert line == f"EVENTBOARD_ENVIRONMENT: {name!r} must be development or production"


@pytest.mark.parametrize("name", ["HOST", "ISSUER", "AUDIENCE"])
def test_empty_text(name: str) -> None:
    """An empty host would listen everywhere, an empty issuer or audience be anybody's."""
    variable = f"EVENTBOARD_{'SERVER' if name == 'HOST' else 'TOKENS'}_{name}"
    assert refused({variable: ""}).startswith(f"{variable}: ")


@pytest.mark.parametrize(
    "url", ["mysql://me:secret@host/db", "host/db?password=secret", "postgresql+asyncpg://me:secret@h/d"]
)
@pytest.mark.parametrize("key", ["URL", "AUTH_URL", "EVENTS_URL", "MIGRATION_URL"])
def test_url_of_something_else(key: str, url: str) -> None:
    """A database is PostgreSQL; the line doesn't repeat the password."""
    name = f"EVENTBOARD_DATABASE_{key}"
    line = refused({name: url})
    assert line.startswith(f"{name}: ")
    assert "secret" not in line


def test_value_and_file(tmp_path: Path) -> None:
    """Which of the two would count isn't for anybody to guess."""
    line = refused({"EVENTBOARD_RPC_CREDENTIAL": "a", "EVENTBOARD_RPC_CREDENTIAL_FILE": str(tmp_path / "b")})
    assert line.startswith("EVENTBOARD_RPC_CREDENTIAL_FILE: ")
    assert "EVENTBOARD_RPC_CREDENTIAL is set" in line


def test_file_of_a_value(tmp_path: Path) -> None:
    """One that can't be read is named; what one holds is not repeated."""
    (tmp_path / "secret").write_text("not a number")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("nowhere", ".", "binary"):
        line = refused({"EVENTBOARD_TOKENS_LIFETIME_FILE": str(tmp_path / name)})
        assert line.startswith(f"EVENTBOARD_TOKENS_LIFETIME_FILE: {tmp_path / name} can't be read"), line
    line = refused({"EVENTBOARD_TOKENS_LIFETIME_FILE": str(tmp_path / "secret")})
    assert line.startswith("EVENTBOARD_TOKENS_LIFETIME_FILE: ")
    assert "not a number" not in line


@pytest.mark.parametrize("variable", ["URL", "AUTH_URL", "MIGRATION_URL_FILE"])
@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:ses@me@host:5432/db",
        "postgresql://me:ses@me:x@host/db",
        "postgresql://me:ses/me@host/db",
        "postgresql://me:ses?me@host/db",
        "postgresql://me:ses#me@host/db",
        "postgresql://me:ses[me@host/db",
        "postgresql://me:sesame@host:port/db",
    ],
)
def test_url_that_cannot_be_read(tmp_path: Path, variable: str, url: str) -> None:
    """Told at the start, by name, and without the password: a process that never becomes ready says it too late."""
    (tmp_path / "url").write_text(url)
    line = refused({f"EVENTBOARD_DATABASE_{variable}": str(tmp_path / "url") if variable.endswith("FILE") else url})
    assert line.startswith(f"EVENTBOARD_DATABASE_{variable}: can't be parsed")
    assert "ses" not in line


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:ses%40%2Fme@host:5432/db?sslmode=verify-full",
        "postgresql://me@one:5432,two/db",
        "postgresql://[::1]:5432/db",
        "postgresql://me:sesame@[fe80::1],host:1/db",
        "postgresql:///db?host=/var/run/postgresql",
        "postgresql://%2Fvar%2Frun/db",
    ],
)
def test_url_that_can_be_read(url: str) -> None:
    """Several hosts, IPv6, a socket, a password that is encoded."""
    assert load({"EVENTBOARD_DATABASE_URL": url}).database.url == url


@pytest.mark.parametrize("file", ["base.toml", "development.toml"])
@pytest.mark.parametrize(
    ("section", "given", "named"),
    [
        ("server", "ports = 1", "server.ports"),
        ("server", "port = '3000'", "server.port"),
        ("server", "port = true", "server.port"),
        ("server", "port = 3000.5", "server.port"),
        ("server", "port = 70000", "server.port"),
        ("server", "host = 1", "server.host"),
        ("server", "host = 2027-01-01", "server.host"),
        ("budgets", "read = 'five'", "budgets.read"),
        ("budgets", "read = inf", "budgets.read"),
        ("budgets", "read = nan", "budgets.read"),
        ("budgets", "read = 0", "budgets.read"),
        ("budgets", "read = []", "budgets.read"),
        ("budgets", "read = {}", "budgets.read"),
        ("logs", "level = 'debug'", "logs.level"),
        ("database", "url = 'mysql://host/db'", "database.url"),
        ("nonsense", "x = 1", "nonsense"),
        ("nonsense", "", "nonsense"),
        ("server.tls", "x = 1", "server.tls"),
        ("environment", "name = 'x'", "environment"),
        ("environment", "", "environment"),
    ],
)
def test_wrong_file(folder: Path, file: str, section: str, given: str, named: str) -> None:
    """The line names the file and the key."""
    change(folder / file, section, given)
    line = refused({"EVENTBOARD_CONFIG": str(folder)})
    assert line.startswith(f"{folder / file}: ")
    assert named in line


def test_key_outside_a_section(folder: Path) -> None:
    """Every key is in a section."""
    file = folder / "base.toml"
    file.write_text("port = 3000\n" + file.read_text())
    assert refused({"EVENTBOARD_CONFIG": str(folder)}) == f"{file}: unknown key 'port'"


@pytest.mark.parametrize(
    "content",
    [
        b"[server",
        b"[server]\nport = \n",
        b"[server]\nport = 1\nport = 2\n",
        b"[server]\n[server]\n",
        b"\xff\xfe",
        b"\x00",
    ],
)
def test_file_that_is_no_toml(folder: Path, content: bytes) -> None:
    """The line names the file, and no traceback does."""
    (folder / "development.toml").write_bytes(content)
    assert refused({"EVENTBOARD_CONFIG": str(folder)}).startswith(f"{folder / 'development.toml'}: ")


def test_missing_file(folder: Path, tmp_path: Path) -> None:
    """No file is optional, and neither is the folder."""
    (folder / "development.toml").unlink()
    assert refused({"EVENTBOARD_CONFIG": str(folder)}) == f"{folder / 'development.toml'}: no such file"
    (folder / "base.toml").unlink()
    (folder / "base.toml").mkdir()
    assert refused({"EVENTBOARD_CONFIG": str(folder)}).startswith(f"{folder / 'base.toml'}: ")
    nowhere = tmp_path / "nowhere"
    assert refused({"EVENTBOARD_CONFIG": str(nowhere)}) == f"{nowhere / 'base.toml'}: no such file"


@pytest.mark.parametrize(("section", "key"), [("server", "host"), ("budgets", "write"), ("passwords", "queue")])
def test_missing_key(folder: Path, section: str, key: str) -> None:
    """A value that nobody gave is named with its section."""
    file = folder / "base.toml"
    file.write_text(
        re.sub(rf"(^\[{section}\].*?)^{key} *=.*?\n", r"\1", file.read_text(), flags=re.DOTALL | re.MULTILINE)
    )
    line = refused({"EVENTBOARD_CONFIG": str(folder)})
    assert line == f"{folder / 'development.toml'}: {section}.{key} is missing, here and in base.toml"


# ---------------------------------------------------------------------------------------------------------------------
# Production


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    """Made as development makes it."""
    path = tmp_path / "key.pem"
    build(load({"EVENTBOARD_TOKENS_KEY_FILE": str(path)}), target_of("auth,events,gateway"))
    return path


def start(environ: Mapping[str, str], target: str) -> None:
    build(load({**PRODUCTION, **environ}), target_of(target))


def refused_start(environ: Mapping[str, str], target: str) -> str:
    with pytest.raises(SettingsError) as refusal:
        start(environ, target)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_production(key_file: Path) -> None:
    """What each target needs, and that it needs no more."""
    urls = {f"EVENTBOARD_DATABASE_{module}_URL": "postgresql://host/db" for module in ("AUTH", "EVENTS")}
    key, credential = {"EVENTBOARD_TOKENS_KEY_FILE": str(key_file)}, {"EVENTBOARD_RPC_CREDENTIAL": CREDENTIAL}
    peers = {f"EVENTBOARD_PEERS_{module}": "http://there:3001" for module in ("AUTH", "EVENTS")}
    start({**urls, **key}, "all")
    start({**urls, **key, **credential}, "auth")
    start({**urls, **credential, **peers}, "events")
    start({**credential, **peers}, "gateway")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("EVENTBOARD_LOGS_LEVEL", "DEBUG"),
        ("EVENTBOARD_PASSWORDS_MEMORY_KIB", "19455"),
        ("EVENTBOARD_PASSWORDS_ITERATIONS", "1"),
        ("EVENTBOARD_SERVER_CORS_ORIGINS", "*"),
        ("EVENTBOARD_SERVER_CORS_ORIGINS", "https://app.example, *"),
        ("EVENTBOARD_SERVER_CORS_ORIGINS", "https://*.example"),
        ("EVENTBOARD_SERVER_CORS_ORIGINS", "null"),
    ],
)
def test_unsafe_in_production(name: str, value: str) -> None:
    """What development may do is refused by the name of what asked for it."""
    load({name: value})
    assert refused({**PRODUCTION, name: value}).startswith(f"{name}: production ")


@pytest.mark.parametrize("environment", [{}, PRODUCTION], ids=["development", "production"])
@pytest.mark.parametrize("origin", ["foo", "app.example", "https://app.example/", "https://app.example/x", "ftp://x"])
def test_sites_that_no_browser_sends(environment: dict[str, str], origin: str) -> None:
    """They would allow nothing, in any environment."""
    line = refused({**environment, "EVENTBOARD_SERVER_CORS_ORIGINS": f"https://app.example, {origin}"})
    assert line.startswith("EVENTBOARD_SERVER_CORS_ORIGINS: must be origins such as https://app.example")
    assert line.endswith(f", not {origin!r}")


def test_named_sites_in_production() -> None:
    """With and without a port."""
    origins = "https://app.example, http://127.0.0.1:8080,https://[::1]:8443"
    assert load({**PRODUCTION, "EVENTBOARD_SERVER_CORS_ORIGINS": origins}).server.cors_origins == origins


def test_unsafe_file_in_production(folder: Path) -> None:
    """The file is named where it is the file that asks."""
    change(folder / "production.toml", "logs", 'level = "DEBUG"')
    line = refused({**PRODUCTION, "EVENTBOARD_CONFIG": str(folder)})
    assert line.startswith(f"{folder / 'production.toml'}: logs.level: production ")


@pytest.mark.parametrize(
    ("target", "missing"),
    [
        ("all", "EVENTBOARD_TOKENS_KEY_FILE"),
        ("auth", "EVENTBOARD_TOKENS_KEY_FILE"),
        ("auth", "EVENTBOARD_RPC_CREDENTIAL"),
        ("events", "EVENTBOARD_RPC_CREDENTIAL"),
        ("events", "EVENTBOARD_PEERS_AUTH"),
        ("gateway", "EVENTBOARD_PEERS_AUTH"),
        ("gateway", "EVENTBOARD_PEERS_EVENTS"),
        ("gateway", "EVENTBOARD_RPC_CREDENTIAL"),
    ],
)
def test_forgotten_in_production(key_file: Path, target: str, missing: str) -> None:
    """A forgotten secret or address stops the start, by name."""
    given = {
        "EVENTBOARD_DATABASE_URL": "postgresql://host/db",
        "EVENTBOARD_TOKENS_KEY_FILE": str(key_file),
        "EVENTBOARD_RPC_CREDENTIAL": CREDENTIAL,
        "EVENTBOARD_PEERS_AUTH": "http://auth:3001",
        "EVENTBOARD_PEERS_EVENTS": "http://events:3002",
    }
    start(given, target)
    del given[missing]
    assert refused_start(given, target).startswith(f"{missing}: ")


@pytest.mark.parametrize(
    "address",
    [
        "events:3002",
        "http://",
        "http://:3002",
        "ftp://events:3002",
        "http://events:none",
        "http://events:99999",
        "http://events:0",
        "http://[::1:3002",
        "http://events:3002/rpc",
        "http://events:3002?x",
        "http://me:sesame@events:3002",
        "http://events one:3002",
        "http://events:3002, elsewhere",
    ],
)
def test_address_that_is_none(address: str) -> None:
    """It stops the start, by name and without a password, instead of failing with the first call."""
    given = {"EVENTBOARD_RPC_CREDENTIAL": CREDENTIAL, "EVENTBOARD_PEERS_AUTH": "http://auth:3001"}
    line = refused_start({**given, "EVENTBOARD_PEERS_EVENTS": address}, "gateway")
    assert line.startswith("EVENTBOARD_PEERS_EVENTS: ")
    assert "http://events:3002" in line, "what one looks like"
    assert "sesame" not in line


@pytest.mark.parametrize("address", ["http://events", "http://10.0.0.1:1/", " http://[::1]:3002 , HTTP://e-1.x:2,"])
def test_addresses(address: str) -> None:
    given = {"EVENTBOARD_RPC_CREDENTIAL": CREDENTIAL, "EVENTBOARD_PEERS_AUTH": "http://auth:3001"}
    start({**given, "EVENTBOARD_PEERS_EVENTS": address}, "gateway")


def test_short_credential_in_production() -> None:
    """One that could be guessed, or came with the source."""
    line = refused_start({"EVENTBOARD_RPC_CREDENTIAL": "x" * 31, "EVENTBOARD_PEERS_AUTH": "http://auth:3001"}, "events")
    assert line.startswith("EVENTBOARD_RPC_CREDENTIAL: ")
    assert "xxx" not in line


@pytest.mark.parametrize("credential", ["with a\nline", "with a\ttab", "café", " x", "x "])
def test_credential_that_no_header_can_hold(credential: str) -> None:
    """It would be another header, or come out as another one."""
    line = refused_start(
        {"EVENTBOARD_RPC_CREDENTIAL": credential, "EVENTBOARD_PEERS_AUTH": "http://auth:3001"}, "events"
    )
    assert line.startswith("EVENTBOARD_RPC_CREDENTIAL: ")
    assert credential not in line


def test_mail_in_the_clear_in_production() -> None:
    """Development may send to a server next door; in production an invitation's token isn't for the wire."""
    mail = {"EVENTBOARD_MAIL_HOST": "mail.example", "EVENTBOARD_MAIL_SENDER": "board@example.com"}
    load({**mail, "EVENTBOARD_MAIL_TLS": "off"})
    load({**PRODUCTION, **mail, "EVENTBOARD_MAIL_TLS": "implicit"})
    assert refused({**PRODUCTION, **mail, "EVENTBOARD_MAIL_TLS": "off"}).startswith("EVENTBOARD_MAIL_TLS: production ")


@pytest.mark.parametrize("sender", ["", "EventBoard", "board@", "Board <board>", "a@example.com\nBcc: b@example.com"])
def test_sender_that_is_no_address(key_file: Path, sender: str) -> None:
    """Mail needs to come from somebody."""
    mail = {"EVENTBOARD_MAIL_HOST": "mail.example", "EVENTBOARD_MAIL_SENDER": sender}
    given = {"EVENTBOARD_DATABASE_URL": "postgresql://host/db", "EVENTBOARD_TOKENS_KEY_FILE": str(key_file), **mail}
    assert refused_start(given, "all").startswith("EVENTBOARD_MAIL_SENDER: ")


@pytest.mark.parametrize("value", ["10.0.0.1/8", "proxy", "*", "10.0.0.0/8; fd00::/8"])
def test_proxies_that_are_no_networks(key_file: Path, value: str) -> None:
    """They stop the start: an address that nobody meant would be believed, or none."""
    with pytest.raises(SettingsError) as refusal:
        build(
            load({"EVENTBOARD_TOKENS_KEY_FILE": str(key_file), "EVENTBOARD_SERVER_TRUSTED_PROXIES": value}),
            target_of("all"),
        )
    assert str(refusal.value).startswith("EVENTBOARD_SERVER_TRUSTED_PROXIES: ")


def test_store_of_limits_that_is_none(key_file: Path) -> None:
    """It is Redis or Valkey; the line doesn't repeat the password."""
    url = "postgresql://me:secret@host/db"
    with pytest.raises(SettingsError) as refusal:
        build(load({"EVENTBOARD_TOKENS_KEY_FILE": str(key_file), "EVENTBOARD_LIMITS_STORE_URL": url}), target_of("all"))
    assert str(refusal.value).startswith("EVENTBOARD_LIMITS_STORE_URL: ")
    assert "secret" not in str(refusal.value)


def test_every_target_has_a_port() -> None:
    """A process without a port of its own is where its peers look for it."""
    assert PORTS == {"gateway": 3000, "auth": 3001, "events": 3002}
