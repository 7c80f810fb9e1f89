"""Signing keys without files."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from eventboard.identity.access_tokens import PublicKeys
from eventboard.modules.auth.keys import SigningKey, signing_key


class OneKey:
    """A key ring of one key; a new one, if none is given."""

    def __init__(self, private: ec.EllipticCurvePrivateKey | None = None) -> None:
        self._key = signing_key(private or ec.generate_private_key(ec.SECP256R1()), Path("test.pem"))

    def signing(self) -> SigningKey:
        return self._key

    def published(self) -> PublicKeys:
        return PublicKeys([self._key.public])
