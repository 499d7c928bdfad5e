"""Device tokens, and what a device may hold.

A token is 256 random bits, so one fast hash is enough to make the stored form useless to whoever reads the database, and looking it up by
its hash needs no comparison in constant time.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from cloud_api.database import Cursor
from domain.errors import Forbidden, NotSignedIn
from domain.ids import Id
from domain.registry import ScopeKind

TOKEN_BYTES = 32
HASH_BYTES = 32
# Longer headers are nobody's token; nothing is hashed for them.
TOKEN_LENGTH_MAX = 200
_SCHEME = "bearer "


@dataclass(frozen=True, slots=True)
class Device:
    """An enrolled device that is not revoked. `clock_offset_ms` is server time minus device time at its last contact, None before."""

    id: Id
    school_id: Id
    name: str
    app_version: str
    clock_offset_ms: int | None
    last_seen_ms: int | None


def new_token() -> str:
    """A fresh device token: 32 random bytes as URL-safe base64 without padding."""
    return secrets.token_urlsafe(TOKEN_BYTES)


def token_hash(token: str) -> bytes:
    """What is stored of a token: BLAKE2b-256."""
    return hashlib.blake2b(token.encode(), digest_size=HASH_BYTES).digest()


def bearer(header: str | None) -> str:
    """The token of an `Authorization: Bearer …` header. Raises NotSignedIn when there is none."""
    if not header or not header.lower().startswith(_SCHEME) or len(header) > TOKEN_LENGTH_MAX:
        raise NotSignedIn("A device token is needed: Authorization: Bearer <token>.")
    token = header[len(_SCHEME) :].strip()
    if not token or not token.isascii():
        raise NotSignedIn("A device token is needed: Authorization: Bearer <token>.")
    return token


def device_for(cursor: Cursor, token: str, *, lock: bool) -> Device:
    """The device that holds a token; one statement. `lock` keeps every other push of this device waiting until the transaction ends.

    Raises NotSignedIn for a token that nobody holds, Forbidden (`device_revoked`) for a device that was revoked.
    """
    cursor.execute(
        "SELECT id, school_id, name, app_version, clock_offset_ms, last_seen_ms, revoked_at_ms FROM devices WHERE token_hash = %s"
        + (" FOR UPDATE" if lock else ""),
        (token_hash(token),),
    )
    if (row := cursor.fetchone()) is None:
        raise NotSignedIn("No device holds this token: enrol the device again.")
    id_, school_id, name, app_version, clock_offset_ms, last_seen_ms, revoked_at_ms = row
    if revoked_at_ms is not None:
        raise Forbidden("This device was revoked; what it has not sent yet stays on it.", code="device_revoked")
    return Device(id_, school_id, name, app_version, clock_offset_ms, last_seen_ms)


# The classes and students granted, and the students who are members of the classes granted. Ended grants reach nothing.
_SCOPES = """
SELECT kind, subject_id FROM device_grants WHERE school_id = %(school)s AND device_id = %(device)s AND ended_at_ms IS NULL
UNION
SELECT 'student', m.user_id
  FROM device_grants g JOIN class_members m ON m.school_id = g.school_id AND m.class_id = g.subject_id AND m.role = 'student'
 WHERE g.school_id = %(school)s AND g.device_id = %(device)s AND g.kind = 'class' AND g.ended_at_ms IS NULL
"""


def scopes_of(cursor: Cursor, device: Device) -> frozenset[str]:
    """The scopes that a device may hold now: `school`, `class:<id>`, `student:<id>`, ids in internal form; one statement."""
    cursor.execute(_SCOPES, {"school": device.school_id, "device": device.id})
    return frozenset({str(ScopeKind.SCHOOL), *(f"{kind}:{subject}" for kind, subject in cursor.fetchall())})
