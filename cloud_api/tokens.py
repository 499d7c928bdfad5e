"""Random tokens of sessions and devices: how they are made, sent and stored.

A token is 256 random bits, so one fast hash is enough to make the stored form useless to whoever reads the database, and looking it up by
its hash needs no comparison in constant time.
"""

from __future__ import annotations

import hashlib
import secrets

from domain.errors import NotSignedIn

TOKEN_BYTES = 32
HASH_BYTES = 32
# Longer headers are nobody's token; nothing is hashed for them.
TOKEN_LENGTH_MAX = 200
_SCHEME = "bearer "


def new_token() -> str:
    """A fresh token: 32 random bytes as URL-safe base64 without padding."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_hash(token: str) -> bytes:
    """What is stored of a token: BLAKE2b-256."""
    return hashlib.blake2b(token.encode(), digest_size=HASH_BYTES).digest()


def bearer(header: str | None) -> str:
    """The token of an `Authorization: Bearer …` header. Raises NotSignedIn when there is none."""
    if not header or not header.lower().startswith(_SCHEME) or len(header) > TOKEN_LENGTH_MAX:
        raise NotSignedIn("A token is needed: Authorization: Bearer <token>.")
    token = header[len(_SCHEME) :].strip()
    if not token or not token.isascii():
        raise NotSignedIn("A token is needed: Authorization: Bearer <token>.")
    return token
