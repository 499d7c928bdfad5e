"""Browsers in which somebody has signed in before: others' wrong tries, under the same name or from the same address, do not keep that person out there.

A browser keeps a proof for each of the last few people. It opens nothing: with it, a try is counted by the browser alone, in place of the account and
the address, and judged like any other. Whoever steals one gains a handful of tries.

A proof is `MS.NONCE.MAC`: when it was given, random bytes, and a keyed hash over both and the person. The key is what is stored of the password, its
random salt included; so nothing has to be stored, a new password ends every proof, and nobody learns anything of the password from one.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence

from cloud_api.access.accounts import Account
from cloud_api.tokens import HASH_BYTES

# A browser that was not signed in with for so long is one like any other.
KNOWN_DAYS = 180
KNOWN_MS = KNOWN_DAYS * 24 * 3_600_000
# People whose proofs one browser keeps, in a staff room: those who have not signed in for longest go.
PROOFS_MAX = 8
PROOF_LENGTH_MAX = 150
COOKIE_LENGTH_MAX = PROOFS_MAX * (PROOF_LENGTH_MAX + 1)
_NONCE_BYTES = 16
_BETWEEN = "~"


def read_proofs(cookie: str) -> list[str]:
    """The proofs that a browser shows, the newest first; none of what cannot be any."""
    if len(cookie) > COOKIE_LENGTH_MAX or not cookie.isascii():
        return []
    return [proof for proof in cookie.split(_BETWEEN) if 0 < len(proof) <= PROOF_LENGTH_MAX][:PROOFS_MAX]


def write_proofs(proofs: Sequence[str]) -> str:
    """What a browser is to keep."""
    return _BETWEEN.join(proofs[:PROOFS_MAX])


def new_proof(account: Account, now_ms: int) -> str:
    """A proof for whoever has just shown the password of this account."""
    begin = f"{now_ms}.{secrets.token_urlsafe(_NONCE_BYTES)}"
    return f"{begin}.{_mac(account, begin)}"


def known_by(account: Account, proofs: Sequence[str], now_ms: int) -> str | None:
    """The one of the proofs that is for this account; None when there is none. A clock that was set back makes none valid for longer."""
    if account.password_hash is None:
        return None
    for proof in proofs:
        begin, _, mac = proof.rpartition(".")
        given, _, _ = begin.partition(".")
        if hmac.compare_digest(mac, _mac(account, begin)) and abs(now_ms - int(given)) <= KNOWN_MS:
            return proof
    return None


def _mac(account: Account, begin: str) -> str:
    key = hashlib.blake2b(str(account.password_hash).encode(), digest_size=HASH_BYTES, person=b"carrel browser").digest()
    return hmac.new(key, f"{account.school_id}\0{account.user_id}\0{begin}".encode(), hashlib.sha256).hexdigest()
