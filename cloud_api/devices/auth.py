"""Which device a token is, and what a device may hold."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cloud_api.database import Cursor
from cloud_api.tokens import token_hash
from domain.errors import Forbidden, NotSignedIn
from domain.ids import Id
from domain.registry import ScopeKind


class Revocation(StrEnum):
    """What a revoked device is told: to let nobody in; to forget everything once nothing of it is unsent; or to forget everything at once."""

    LOCK = "lock"
    WIPE = "wipe"
    WIPE_DISCARDING_UNSENT = "wipe_discarding_unsent"


@dataclass(frozen=True, slots=True)
class Device:
    """An enrolled device that is not revoked. `clock_offset_ms` is server time minus device time at its last contact, None before.

    `token_is_new` says that it came with a token that was offered to it (cloud_api/devices/tokens.py), `token_since_ms` since when it has
    the one before.
    """

    id: Id
    school_id: Id
    name: str
    app_version: str
    clock_offset_ms: int | None
    last_seen_ms: int | None
    token_is_new: bool = False
    token_since_ms: int = 0


def device_for(cursor: Cursor, token: str, *, lock: bool) -> Device:
    """The device that holds a token, whose school the transaction is about from then on; one statement. `lock` keeps every other push of this
    device waiting until the transaction ends.

    Raises NotSignedIn for a token that nobody holds; Forbidden for a device that was revoked (`device_revoked`), and is to be wiped as well, once
    everything of it is at school (`device_wipe`) or at once (`device_wipe_all`).
    """
    hash_ = token_hash(token)
    cursor.execute(
        "SELECT id, school_id, name, app_version, clock_offset_ms, last_seen_ms, next_token_hash = %s IS TRUE, token_since_ms, revoked_at_ms,"
        " revocation FROM device_by_token(%s, %s)",
        (hash_, hash_, lock),
    )
    if (row := cursor.fetchone()) is None:
        raise NotSignedIn("No device holds this token: enrol the device again.")
    *known, revoked_at_ms, revocation = row
    if revoked_at_ms is None:
        return Device(*known)
    wiped = revocation in (Revocation.WIPE, Revocation.WIPE_DISCARDING_UNSENT)
    raise Forbidden(
        "This device was revoked and is to be wiped." if wiped else "This device was revoked; what it has not sent yet stays on it.",
        "device_wipe" if revocation == Revocation.WIPE else "device_wipe_all" if wiped else "device_revoked",
    )


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
