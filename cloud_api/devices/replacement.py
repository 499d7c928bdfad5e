"""A device that is enrolled again becomes another device; the one that it was is replaced by it, and nobody waits for it any more.

With its enrolment a device shows the token that it has. Nothing is taken from whoever holds that token: a copy of the device may share it, and the
answer to the enrolment may be lost. Whoever comes with it later is therefore what it was before, waited for and counted as any other.
"""

from __future__ import annotations

from cloud_api import audit
from cloud_api.database import Cursor
from cloud_api.tokens import token_hash
from domain.ids import IdSource

# A request that was under way when the device was enrolled anew is no sign of life of the device that it was.
UNDER_WAY_MAX_MS = 5 * 60_000


def is_replaced(devices: str) -> str:
    """The condition that a device of the table, or alias, is replaced: by its own word, and not heard of since."""
    return (
        f"({devices}.replaced_at_ms IS NOT NULL AND coalesce({devices}.last_seen_ms, 0) <= {devices}.replaced_at_ms + {UNDER_WAY_MAX_MS})"
    )


def replace(cursor: Cursor, ids: IdSource, school_id: str, token: str, device_id: str, now_ms: int) -> None:
    """Has the new device stand for the one of the same school that holds `token`; nothing happens, and nothing is told, where there is none.

    An enrolment whose answer was lost has left a device of which nothing was ever heard: that one is replaced as well.
    """
    hash_ = token_hash(token)
    cursor.execute(
        "SELECT id, replaced_by, coalesce(data_since_ms, enrolled_at_ms) FROM devices WHERE school_id = %s"
        " AND (token_hash = %s OR next_token_hash = %s) AND revoked_at_ms IS NULL AND id <> %s FOR UPDATE",
        (school_id, hash_, hash_, device_id),
    )
    if (row := cursor.fetchone()) is None:
        return
    old_id, lost_id, since_ms = row
    cursor.execute("UPDATE devices SET data_since_ms = %s WHERE school_id = %s AND id = %s", (since_ms, school_id, device_id))
    cursor.execute(
        "UPDATE devices SET replaced_by = %s, replaced_at_ms = %s WHERE school_id = %s"
        " AND (id = %s OR id = %s AND last_seen_ms IS NULL AND revoked_at_ms IS NULL) RETURNING id",
        (device_id, now_ms, school_id, old_id, lost_id),
    )
    for (replaced_id,) in cursor.fetchall():
        audit.record(cursor, school_id, ids.new(), now_ms, f"device:{device_id}", "device.replaced", replaced_id, {"by": device_id})
