"""What came from a school's devices hour by hour, and how much they said was still waiting: a row an hour, written along with pushes.

The first push of an hour sees to it that the day's place in the feed is noted as well (cloud_api/sync/feed.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from cloud_api.database import Cursor
from cloud_api.devices.replacement import is_replaced
from cloud_api.sync import feed

HOUR_MS = 3_600_000
# What waits on all devices is added up anew at most this often.
COUNT_EVERY_MS = 60_000
# Hours older than this go.
KEPT_MS = 92 * 24 * HOUR_MS


@dataclass(frozen=True, slots=True)
class Hour:
    """The hour that began at `began_ms` (UTC): operations that came in it, and the backlog by the devices' words when it was last counted.

    `backlog` is None when nothing came: nobody counted then.
    """

    began_ms: int
    operations: int
    backlog: int | None


_BACKLOG = (
    "(SELECT coalesce(sum(d.pending_ops), 0) FROM devices d"
    f" WHERE d.school_id = %(school)s AND d.revoked_at_ms IS NULL AND NOT {is_replaced('d')})"
)
_STALE = "h.counted_at_ms NOT BETWEEN %(now)s - %(every)s AND %(now)s"
_ADD = f"""
UPDATE sync_hours h SET operations = h.operations + %(operations)s,
       backlog = CASE WHEN {_STALE} THEN {_BACKLOG} ELSE h.backlog END,
       counted_at_ms = CASE WHEN {_STALE} THEN %(now)s ELSE h.counted_at_ms END
 WHERE h.school_id = %(school)s AND h.hour_ms = %(hour)s
"""
_BEGIN = f"""
INSERT INTO sync_hours AS h (school_id, hour_ms, operations, backlog, counted_at_ms)
VALUES (%(school)s, %(hour)s, %(operations)s, {_BACKLOG}, %(now)s)
    ON CONFLICT (school_id, hour_ms) DO UPDATE SET operations = h.operations + excluded.operations
"""


def count(cursor: Cursor, school_id: str, operations: int, now_ms: int) -> None:
    """So many operations have just come; in the transaction that took them."""
    values = {
        "school": school_id,
        "hour": now_ms - now_ms % HOUR_MS,
        "operations": operations,
        "now": now_ms,
        "every": COUNT_EVERY_MS,
    }
    cursor.execute(_ADD, values)
    if cursor.rowcount == 0:
        cursor.execute(_BEGIN, values)
        feed.note_day(cursor, school_id, now_ms)


def latest(cursor: Cursor, school_id: str, hours: int, now_ms: int) -> list[Hour]:
    """The last so many hours with the present one, oldest first, without a gap."""
    last_ms = now_ms - now_ms % HOUR_MS
    first_ms = last_ms - (hours - 1) * HOUR_MS
    cursor.execute(
        "SELECT hour_ms, operations, backlog FROM sync_hours WHERE school_id = %s AND hour_ms BETWEEN %s AND %s",
        (school_id, first_ms, last_ms),
    )
    found = {hour_ms: Hour(hour_ms, operations, backlog) for hour_ms, operations, backlog in cursor.fetchall()}
    return [found.get(at_ms) or Hour(at_ms, 0, None) for at_ms in range(first_ms, last_ms + 1, HOUR_MS)]


def forget(cursor: Cursor, school_id: str, now_ms: int, rows_max: int) -> int:
    """Deletes at most so many hours that are older than KEPT_MS; returns how many."""
    cursor.execute(
        "DELETE FROM sync_hours WHERE (school_id, hour_ms) IN (SELECT school_id, hour_ms FROM sync_hours"
        " WHERE school_id = %s AND hour_ms < %s LIMIT %s)",
        (school_id, now_ms - KEPT_MS, rows_max),
    )
    return cursor.rowcount
