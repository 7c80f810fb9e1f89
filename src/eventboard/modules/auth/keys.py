"""Signing keys: PEM files, one for each key, in a folder that all of the auth module's processes share.

A key's name begins with when it was made. It is published at once and signs later, so that every verifier knows it
before the first token that needs it; the older ones stay published until they are retired.
"""

import hashlib
import json
import os
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol
from uuid import uuid4

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from jwt.utils import base64url_encode
from msgspec import Struct

from eventboard.platform.identity import ALGORITHM, KEYS_REFRESH, PublicKeys

# Seconds after which a new key signs: two of the verifiers' refresh periods.
PUBLISHED_BEFORE = 2 * KEYS_REFRESH
# Seconds between two looks at the folder.
LOOK_EVERY = 5.0

_MADE_AT = re.compile(r"(\d{8}T\d{6})Z-.*\.pem")
_FORMAT = "%Y%m%dT%H%M%S"


class KeyFileError(Exception):
    """One line that names the file."""


class SigningKey(Struct, frozen=True):
    """`made_at` is in Unix seconds, 0 for one whose name doesn't say. `kid` is RFC 7638's thumbprint."""

    kid: str
    private: ec.EllipticCurvePrivateKey
    public: dict[str, str]
    made_at: float
    path: Path

    def signs_at(self) -> float:
        return self.made_at + PUBLISHED_BEFORE if self.made_at else 0.0


class Keys(Protocol):
    def signing(self) -> SigningKey: ...

    def published(self) -> PublicKeys: ...


class KeyRing:
    """`path` is a PEM file, or a folder of them. `create` makes the first one where there is none.

    Raises KeyFileError, when it is made; later, keys that can't be read leave the known ones in force.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self._path = path
        if create:
            self._create_first()
        self._keys = load(path)
        self._looked_at = time.monotonic()

    def signing(self) -> SigningKey:
        """The newest that was published for long enough; the oldest, where none was."""
        now = time.time()
        return next((key for key in reversed(self.all()) if key.signs_at() <= now), self._keys[0])

    def published(self) -> PublicKeys:
        return PublicKeys([key.public for key in self.all()])

    def all(self) -> list[SigningKey]:
        """From the oldest to the newest."""
        if time.monotonic() - self._looked_at > LOOK_EVERY:
            self._looked_at = time.monotonic()
            try:
                self._keys = load(self._path)
            except KeyFileError:
                return self._keys
        return self._keys

    def _create_first(self) -> None:
        try:
            if self._path.suffix == ".pem":
                if not self._path.exists():
                    _write(self._path)
                return
            self._path.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not any(self._path.glob("*.pem")):
                # One name for all who come first at once: the first of them wins, and it signs at once.
                _write(self._path / "first.pem")
        except OSError as error:
            raise KeyFileError(f"{self._path}: no signing key can be made: {error}") from None


def load(path: Path) -> list[SigningKey]:
    """Every key, from the oldest to the newest. Raises KeyFileError."""
    files = sorted(path.glob("*.pem")) if path.is_dir() else [path]
    if not files:
        raise KeyFileError(f"{path}: there is no signing key in this folder")
    return sorted((_read(file) for file in files), key=lambda key: (key.made_at, key.kid))


def rotate(folder: Path) -> SigningKey:
    """Adds a key, which signs once it was published for long enough. Raises KeyFileError."""
    _need_folder(folder)
    made_at = datetime.now(UTC).strftime(_FORMAT)
    path = folder / f"{made_at}Z-{uuid4().hex[:8]}.pem"
    try:
        _write(path)
    except OSError as error:
        raise KeyFileError(f"{path}: no signing key can be made: {error}") from None
    return _read(path)


def retire(folder: Path, kid: str, *, lifetime: int) -> Path:
    """Takes a key away that no valid token needs: tokens live for `lifetime` seconds. Raises KeyFileError."""
    _need_folder(folder)
    keys = load(folder)
    found = [index for index, key in enumerate(keys) if key.kid == kid]
    if not found:
        raise KeyFileError(f"{folder}: there is no key {kid}")
    successors = keys[found[0] + 1 :]
    unneeded_at = min((key.signs_at() for key in successors), default=float("inf")) + LOOK_EVERY + lifetime
    if time.time() < unneeded_at:
        when = "once there is a newer key" if not successors else f"in {unneeded_at - time.time():.0f} s"
        raise KeyFileError(f"{keys[found[0]].path}: valid tokens may still need it; it can be retired {when}")
    keys[found[0]].path.unlink()
    return keys[found[0]].path


def _need_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise KeyFileError(f"{folder}: keys are rotated in a folder of them; EVENTBOARD_TOKENS_KEY_FILE may name one")


def _read(path: Path) -> SigningKey:
    try:
        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise KeyFileError(f"{path}: no signing key can be read: {error}") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey) or not isinstance(private.curve, ec.SECP256R1):
        raise KeyFileError(f"{path}: it holds no P-256 private key, which {ALGORITHM} needs")
    return signing_key(private, path)


def signing_key(private: ec.EllipticCurvePrivateKey, path: Path) -> SigningKey:
    stated = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
    public = {name: str(stated[name]) for name in ("crv", "kty", "x", "y")}
    kid = base64url_encode(hashlib.sha256(json.dumps(public, separators=(",", ":")).encode()).digest()).decode()
    name = _MADE_AT.fullmatch(path.name)
    made_at = datetime.strptime(name[1], _FORMAT).replace(tzinfo=UTC).timestamp() if name else 0.0
    return SigningKey(kid, private, {**public, "kid": kid, "use": "sig", "alg": ALGORITHM}, made_at, path)


def _write(path: Path) -> None:
    """The file appears whole, readable by its owner alone, and only once: whoever comes second keeps the first's."""
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
