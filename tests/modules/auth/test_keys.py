"""Signing keys: their files, and their change."""

import stat
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from loguru import logger

from eventboard.modules.auth import keys
from eventboard.modules.auth.keys import KeyFileError, KeyRing


def test_made_once(tmp_path: Path) -> None:
    """Development's first start makes it, readable by its owner alone; every later one finds it."""
    path = tmp_path / "new" / "key.pem"
    first = KeyRing(path, create=True).signing()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["key.pem"]
    assert first.kid == KeyRing(path, create=True).signing().kid == KeyRing(path, create=False).signing().kid


def test_made_by_several_at_once(tmp_path: Path) -> None:
    """All have the same key, and with it the same key id."""
    for number in range(20):
        path = tmp_path / f"key{number}.pem"
        with ThreadPoolExecutor(8) as threads:
            rings = list(threads.map(lambda path: KeyRing(path, create=True), [path] * 8))
        assert len({ring.published().keys[0]["kid"] for ring in rings}) == 1


def test_missing(tmp_path: Path) -> None:
    """Production makes none."""
    path = tmp_path / "key.pem"
    with pytest.raises(KeyFileError, match=r"key\.pem: no signing key can be read: "):
        KeyRing(path, create=False)
    assert not path.exists()


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, password: bytes | None = None) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption(),
    )


P256 = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not a key", id="text"),
        pytest.param(b"\xff" * 1000, id="bytes"),
        pytest.param(pem(ec.generate_private_key(ec.SECP384R1())), id="another curve"),
        pytest.param(pem(rsa.generate_private_key(65537, 2048)), id="RSA"),
        pytest.param(pem(P256, b"password"), id="encrypted"),
        pytest.param(
            P256.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
            id="a public key",
        ),
    ],
)
def test_what_is_no_key(tmp_path: Path, content: bytes) -> None:
    """One line names the file; development doesn't write over it."""
    path = tmp_path / "key.pem"
    path.write_bytes(content)
    with pytest.raises(KeyFileError) as refusal:
        KeyRing(path, create=True)
    assert str(refusal.value).startswith(f"{path}: ")
    assert "\n" not in str(refusal.value)
    assert path.read_bytes() == content


def test_file_of_any_name(tmp_path: Path) -> None:
    """Such as a mounted secret, in development, too."""
    path = tmp_path / "signing_key"
    path.write_bytes(pem(P256))
    assert [key.path for key in KeyRing(path, create=True).all()] == [path]
    path.write_bytes(b"not a key")
    with pytest.raises(KeyFileError, match="signing_key: no signing key can be read: "):
        KeyRing(path, create=True)


def test_name_with_a_time_that_does_not_exist(tmp_path: Path) -> None:
    """The file is named; a process that runs goes on with the keys that it knows."""
    ring = KeyRing(tmp_path, create=True)
    known = ring.signing().kid
    (tmp_path / "20271301T000000Z-new.pem").write_bytes(pem(P256))
    with pytest.raises(KeyFileError, match=r"-new\.pem: its name begins with a time"):
        KeyRing(tmp_path, create=False)
    logged: list[str] = []
    sink = logger.add(logged.append)
    end = time.monotonic() + 10 * keys.READ_EVERY
    while not logged:
        assert [key.kid for key in ring.all()] == [known]
        assert time.monotonic() < end
    logger.remove(sink)
    assert "-new.pem: its name begins with a time" in logged[0]


def test_where_none_can_be_made(tmp_path: Path) -> None:
    """One line, here as well."""
    (tmp_path / "file").touch()
    with pytest.raises(KeyFileError, match="no signing key can be made"):
        KeyRing(tmp_path / "file" / "key.pem", create=True)


def test_folder(tmp_path: Path) -> None:
    """Development's first start makes a folder with one key, which signs at once."""
    ring = KeyRing(tmp_path / "keys", create=True)
    assert [key.kid for key in ring.all()] == [ring.signing().kid]
    assert KeyRing(tmp_path / "keys", create=True).signing().kid == ring.signing().kid
    (tmp_path / "none").mkdir()
    with pytest.raises(KeyFileError, match="there is no signing key"):
        KeyRing(tmp_path / "none", create=False)


def age(key: keys.SigningKey, seconds: float) -> None:
    """Makes a key look that much older, by the name that says when it was made."""
    created_at = datetime.fromtimestamp(key.created_at - seconds, UTC).strftime("%Y%m%dT%H%M%S")
    key.path.rename(key.path.with_name(f"{created_at}Z-{key.path.name.partition('-')[2]}"))


def test_rotation(tmp_path: Path) -> None:
    """A new key is published at once and signs later; the old one goes when no valid token can need it."""
    first = KeyRing(tmp_path, create=True).signing()
    second = keys.rotate(tmp_path)
    assert stat.S_IMODE(second.path.stat().st_mode) == 0o600
    ring = KeyRing(tmp_path, create=False)
    assert ring.signing().kid == first.kid
    assert {key["kid"] for key in ring.published().keys} == {first.kid, second.kid}
    with pytest.raises(KeyFileError, match="valid tokens may still need it"):
        keys.retire(tmp_path, first.kid, lifetime=3600)
    with pytest.raises(KeyFileError, match="once there is a newer key"):
        keys.retire(tmp_path, second.kid, lifetime=3600)
    with pytest.raises(KeyFileError, match="there is no key"):
        keys.retire(tmp_path, "other", lifetime=3600)
    age(second, keys.PUBLISHED_BEFORE)
    assert KeyRing(tmp_path, create=False).signing().kid == second.kid
    with pytest.raises(KeyFileError, match=r"it can be retired in 36\d\d s"):
        keys.retire(tmp_path, first.kid, lifetime=3600)
    age(keys.load(tmp_path)[-1], keys.READ_EVERY + 3600)
    keys.retire(tmp_path, first.kid, lifetime=3600)
    assert [key.kid for key in keys.load(tmp_path)] == [second.kid]


def test_single_file_is_not_rotated(tmp_path: Path) -> None:
    """A file is one key: the line says where more would be."""
    path = tmp_path / "key.pem"
    KeyRing(path, create=True)
    for change in (lambda: keys.rotate(path), lambda: keys.retire(path, "x", lifetime=1)):
        with pytest.raises(KeyFileError, match="EVENTBOARD_TOKENS_KEY_FILE"):
            change()
