"""Signing keys: PEM files, one for each key, in a folder that all processes of the auth module share.

A file's name begins with the time that the key was created at. A key is published at once and signs later, so that
every verifier has it before the first token that needs it. Older keys stay published until they are retired.
"""

import hashlib
import json
import os
import re
import time
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from loguru import logger
from msgspec import Struct

from eventboard.core.errors import Code, CommandError, ServiceError
from eventboard.identity.access_tokens import ALGORITHM, KEYS_REFRESH, PublicKeys

# Seconds until a new key signs: twice the longest time between two fetches of a verifier.
PUBLISHED_BEFORE = 2 * KEYS_REFRESH
# Seconds between two reads of the folder.
READ_EVERY = 1.0

_CREATED_AT = re.compile(r"(\d{8}T\d{6})Z-.*\.pem")
_FORMAT = "%Y%m%dT%H%M%S"


class KeyFileError(CommandError):
    """One line that names the file."""


class SigningKey(Struct, frozen=True):
    """`created_at` is in Unix seconds, 0 where the file's name has no time. `kid` is RFC 7638's thumbprint."""

    kid: str
    private: ec.EllipticCurvePrivateKey
    public: dict[str, str]
    created_at: float
    path: Path

    def signs_at(self) -> float:
        return self.created_at + PUBLISHED_BEFORE if self.created_at else 0.0


class Keys(Protocol):
    def signing(self) -> SigningKey: ...

    def published(self) -> PublicKeys: ...


class KeyRing:
    """`path` is a PEM file, or a folder of them. `create`: the first key is created where there is none.

    The constructor raises KeyFileError. Later, a missing or empty file is a removed key. Where a file can't be read for
    another reason, or the folder is missing, the known keys stay in use.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self._path = path
        if create:
            self._create_first()
        self._folder = path.is_dir()
        self._keys = load(path)
        self._read_at = time.monotonic()

    def signing(self) -> SigningKey:
        """The newest key that was published long enough ago, or else the oldest. Raises `unavailable` without a key."""
        now, known = time.time(), self.all()
        if not known:
            raise ServiceError(Code.UNAVAILABLE, "There is no signing key now.", retry_after=1, shed=True)
        return next((key for key in reversed(known) if key.signs_at() <= now), known[0])

    def published(self) -> PublicKeys:
        return PublicKeys([key.public for key in self.all()])

    def all(self) -> list[SigningKey]:
        """All keys, the oldest first."""
        if time.monotonic() - self._read_at > READ_EVERY:
            self._read_at = time.monotonic()
            self._reload()
        return self._keys

    def _reload(self) -> None:
        known = {key.path: key for key in self._keys}
        keys = []
        for file in self._files():
            try:
                keys.append(_read(file))
            except KeyFileError as error:
                logger.warning("{}", error)
                if file in known:
                    keys.append(known[file])
        for path in known.keys() - {key.path for key in keys}:
            logger.warning(
                "{}: this signing key was removed: its access tokens are rejected, and clients have to refresh", path
            )
        self._keys = _in_order(keys)

    def _files(self) -> list[Path]:
        """Without empty ones. The known files where the folder is missing."""
        try:
            if self._folder:
                files = list(self._path.iterdir())
                return sorted(file for file in files if file.suffix == ".pem" and file.stat().st_size)
            return [self._path] if self._path.stat().st_size else []
        except FileNotFoundError:
            return [key.path for key in self._keys] if self._folder else []
        except OSError:
            return [key.path for key in self._keys]

    def _create_first(self) -> None:
        try:
            if self._path.exists() and not self._path.is_dir():
                return
            if self._path.suffix == ".pem":
                _write(self._path)
                return
            self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not any(self._path.glob("*.pem")):
                # Processes that start at once use one name: the first one's key wins, and it signs at once.
                _write(self._path / "first.pem")
        except OSError as error:
            raise KeyFileError(f"{self._path}: no signing key can be made: {error}") from None


def load(path: Path) -> list[SigningKey]:
    """All keys, the oldest first. Raises KeyFileError."""
    try:
        files = sorted(file for file in path.iterdir() if file.suffix == ".pem") if path.is_dir() else [path]
    except OSError as error:
        raise KeyFileError(f"{path}: no signing key can be read: {error}") from None
    if not files:
        raise KeyFileError(f"{path}: there is no signing key in this folder")
    return _in_order([_read(file) for file in files])


def _in_order(keys: list[SigningKey]) -> list[SigningKey]:
    return sorted(keys, key=lambda key: (key.created_at, key.kid))


def rotate(folder: Path) -> SigningKey:
    """Adds a key, which signs after it has been published for PUBLISHED_BEFORE seconds. Raises KeyFileError."""
    _need_folder(folder)
    created_at = datetime.now(UTC).strftime(_FORMAT)
    path = folder / f"{created_at}Z-{uuid4().hex[:8]}.pem"
    try:
        _write(path)
    except OSError as error:
        raise KeyFileError(f"{path}: no signing key can be made: {error}") from None
    return _read(path)


def retire(folder: Path, kid: str, *, lifetime: int) -> Path:
    """Deletes a key that no valid token needs: tokens live for `lifetime` seconds. Raises KeyFileError."""
    _need_folder(folder)
    keys = load(folder)
    index = next((index for index, key in enumerate(keys) if key.kid == kid), None)
    if index is None:
        raise KeyFileError(f"{folder}: there is no key {kid}")
    successors = keys[index + 1 :]
    unneeded_at = min((key.signs_at() for key in successors), default=float("inf")) + READ_EVERY + lifetime
    if time.time() < unneeded_at:
        when = "once there is a newer key" if not successors else f"in {unneeded_at - time.time():.0f} s"
        raise KeyFileError(f"{keys[index].path}: valid tokens may still need it; it can be retired {when}")
    try:
        keys[index].path.unlink()
    except OSError as error:
        raise KeyFileError(f"{keys[index].path}: it can't be deleted: {error}") from None
    return keys[index].path


def _need_folder(folder: Path) -> None:
    try:
        files = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        why = "keys are rotated in a folder of them; EVENTBOARD_TOKENS_KEY_FILE may name one"
        raise KeyFileError(f"{folder}: {why}") from None
    except OSError as error:
        raise KeyFileError(f"{folder}: no signing key can be read: {error}") from None
    if files and not any(file.suffix == ".pem" for file in files):
        raise KeyFileError(f"{folder}: it holds other files, such as {files[0].name}, and no key; is it the folder?")


def _read(path: Path) -> SigningKey:
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyFileError(f"{path}: no signing key can be read: {error}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise KeyFileError(f"{path}: it holds no P-256 private key, which {ALGORITHM} needs")
    try:
        return signing_key(private, path)
    except ValueError:
        raise KeyFileError(f"{path}: its name begins with a time that doesn't exist") from None


def signing_key(private: ec.EllipticCurvePrivateKey, path: Path) -> SigningKey:
    stated = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    public = {name: str(stated[name]) for name in ("crv", "kty", "x", "y")}
    digest = hashlib.sha256(json.dumps(public, separators=(",", ":")).encode()).digest()
    kid = urlsafe_b64encode(digest).rstrip(b"=").decode()
    name = _CREATED_AT.fullmatch(path.name)
    created_at = datetime.strptime(name[1], _FORMAT).replace(tzinfo=UTC).timestamp() if name else 0.0
    return SigningKey(kid, private, {**public, "kid": kid, "use": "sig", "alg": ALGORITHM}, created_at, path)


def _write(path: Path) -> None:
    """Writes the file at once, readable by its owner alone. A file that another process has written meanwhile stays."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    draft = path.with_name(f".{path.name}.{uuid4().hex}")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft.touch(mode=0o600, exist_ok=False)
    try:
        draft.write_bytes(pem)
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
