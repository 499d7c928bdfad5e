"""Secret and public halves of keys, signatures, and sealing to one reader: what makes a bundle safe on a stick (docs/bundles.md).

Signatures are Ed25519 (RFC 8032). Sealing is X25519 (RFC 7748) with a fresh key for every message, HKDF-SHA256 (RFC 5869) over the shared secret,
and ChaCha20-Poly1305 (RFC 8439). Each key so made encrypts one message only, so the nonce may be constant.

The library `cryptography` is imported by the functions that need it: it takes 9 MB, and a daemon at rest needs none of it. Every half of a key is
32 raw bytes.
"""

from __future__ import annotations

import secrets
from typing import NamedTuple

KEY_BYTES = 32
SIGNATURE_BYTES = 64
# What sealing adds to a text: the fresh public key before it, the tag behind it.
SEAL_BYTES = KEY_BYTES + 16
_NONCE = bytes(12)
_PURPOSE = b"carrel bundle 1"


class SecretKeys(NamedTuple):
    """What only their owner has: to sign with, and to open with what was sealed to it."""

    sign: bytes
    seal: bytes


class PublicKeys(NamedTuple):
    """What everybody may have: to tell the owner's signature, and to seal to the owner."""

    verify: bytes
    seal: bytes


class BrokenSeal(ValueError):
    """Not sealed to this key, or altered since."""


def new_keys() -> SecretKeys:
    """Fresh keys from the system's source of randomness; any 32 bytes are a key of either kind."""
    return SecretKeys(secrets.token_bytes(KEY_BYTES), secrets.token_bytes(KEY_BYTES))


def public_keys(keys: SecretKeys) -> PublicKeys:
    """The public halves."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return PublicKeys(Ed25519PrivateKey.from_private_bytes(keys.sign).public_key().public_bytes_raw(), _public_seal(keys.seal))


def sign(data: bytes, sign_key: bytes) -> bytes:
    """The signature, 64 bytes."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(sign_key).sign(data)


def is_signed(data: bytes, signature: bytes, verify_key: bytes) -> bool:
    """Whether the owner of the key has signed these very bytes."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(verify_key).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def seal(plain: bytes, seal_key: bytes, context: bytes) -> bytes:
    """The text for the owner of the public key alone, bound to `context`: it opens only together with the same. Raises BrokenSeal for no key."""
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    fresh = secrets.token_bytes(KEY_BYTES)
    fresh_public = _public_seal(fresh)
    key = _shared_key(fresh, seal_key, fresh_public, seal_key)
    return fresh_public + ChaCha20Poly1305(key).encrypt(_NONCE, plain, context)


def unseal(sealed: bytes, secret_key: bytes, context: bytes) -> bytes:
    """What was sealed to the owner of the secret key. Raises BrokenSeal."""
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

    if len(sealed) < SEAL_BYTES:
        raise BrokenSeal("too short")
    fresh_public = sealed[:KEY_BYTES]
    key = _shared_key(secret_key, fresh_public, fresh_public, _public_seal(secret_key))
    try:
        return ChaCha20Poly1305(key).decrypt(_NONCE, sealed[KEY_BYTES:], context)
    except InvalidTag as error:
        raise BrokenSeal("not sealed to this key, or altered") from error


def _public_seal(secret_key: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(secret_key).public_key().public_bytes_raw()


def _shared_key(secret_key: bytes, public_key: bytes, fresh_public: bytes, reader_public: bytes) -> bytes:
    """The key of one message. Both public keys go into it, so that it belongs to this message and this reader (as in RFC 9180)."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    try:
        shared = X25519PrivateKey.from_private_bytes(secret_key).exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError as error:  # a point of low order, or not 32 bytes
        raise BrokenSeal("not a key") from error
    return HKDF(SHA256(), KEY_BYTES, salt=None, info=_PURPOSE + fresh_public + reader_public).derive(shared)
