"""Renewing a device's token, and hearing from revoked devices that they have done as they were told.

    due (said by the poll) ──▶ offered: both are valid ──▶ the new one is used: the old one ends

Whatever dies in between, the device holds one that is valid: the old one until it has the new one on its disk, and uses it.
"""

from __future__ import annotations

from cloud_api import audit
from cloud_api.database import Cursor
from cloud_api.devices.auth import Device
from cloud_api.tokens import new_token, token_hash
from domain.errors import NotSignedIn
from domain.ids import IdSource

DAY_MS = 24 * 3_600_000


def is_due(device: Device, now_ms: int, days: int) -> bool:
    """Whether the device should ask for a new token. One that has just come with its new token has it; one of a time to come is of a clock that ran ahead."""
    return not device.token_is_new and not 0 <= now_ms - device.token_since_ms <= days * DAY_MS


def offer(cursor: Cursor, device: Device) -> str:
    """A new token for the device, in the place of one that was offered before and never used. The present one stays valid until it is used."""
    token = new_token()
    # A device that asks with the token it was offered has it: that one must not be replaced.
    settle = ", token_hash = next_token_hash" if device.token_is_new else ""
    cursor.execute(
        f"UPDATE devices SET next_token_hash = %s{settle} WHERE school_id = %s AND id = %s",
        (token_hash(token), device.school_id, device.id),
    )
    return token


def settle(cursor: Cursor, ids: IdSource, device: Device, token: str, now_ms: int) -> None:
    """The device has used its new token: the old one ends."""
    cursor.execute(
        "UPDATE devices SET token_hash = next_token_hash, next_token_hash = NULL, token_since_ms = %s"
        " WHERE school_id = %s AND id = %s AND next_token_hash = %s",
        (now_ms, device.school_id, device.id, token_hash(token)),
    )
    if cursor.rowcount:
        audit.record(cursor, device.school_id, ids.new(), now_ms, f"device:{device.id}", "device.token_renewed", device.id)


def note_obeyed(cursor: Cursor, ids: IdSource, token: str, wiped: bool, unsent: int, now_ms: int) -> None:
    """A revoked device says that it is locked, or wiped, or that it was not, for so many changes that are nowhere else.

    Raises NotSignedIn for a token that is not a revoked device's.
    """
    cursor.execute("SELECT school_id, id, revocation FROM device_by_token(%s, true) WHERE revoked_at_ms IS NOT NULL", (token_hash(token),))
    if (row := cursor.fetchone()) is None:
        raise NotSignedIn("No revoked device holds this token.")
    school_id, device_id, revocation = row
    done = wiped or revocation == "lock"
    cursor.execute(
        "UPDATE devices SET obeyed_at_ms = %s, unsent_at_wipe = %s WHERE school_id = %s AND id = %s AND obeyed_at_ms IS NULL"
        " AND unsent_at_wipe IS DISTINCT FROM %s",
        (now_ms if done else None, unsent, school_id, device_id, -1 if done else unsent),
    )
    if cursor.rowcount:  # said for the first time
        action = "device.wiped" if wiped else "device.locked" if done else "device.wipe_refused"
        audit.record(cursor, school_id, ids.new(), now_ms, f"device:{device_id}", action, device_id, {"unsent": unsent})
