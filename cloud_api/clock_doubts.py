"""What speaks against the server's clock, asked before anything is let go of by it: under one that runs years ahead everything would be old."""

from __future__ import annotations

from collections.abc import Iterator

from cloud_api.database import Cursor
from domain.counted import counted

DAY_MS = 24 * 3_600_000
# Servers are switched off for the holidays, and for no longer.
PAUSE_MAX_DAYS = 92
# Devices that were heard of within so many days are asked; so long a pause is doubted after it has ended, too.
RECENT_DAYS = 7
# How far a device's clock lies behind before it counts as another's word, and how many have to say so: one alone may be wrong itself.
BEHIND_MS, DEVICES_MIN = DAY_MS, 3

# A note is made every day, by `carrel-cloud tidy`, and with the first push of an hour (cloud_api/sync/feed.py).
_PAUSE = """
SELECT max(until_ms - noted_at_ms) FROM (
       SELECT noted_at_ms, coalesce(lead(noted_at_ms) OVER (ORDER BY noted_at_ms), %(now)s) AS until_ms
         FROM (SELECT DISTINCT noted_at_ms FROM feed_days WHERE noted_at_ms <= %(now)s) AS notes) AS pauses
 WHERE until_ms >= %(recent)s
"""
_DEVICES = """
SELECT count(*) FILTER (WHERE clock_offset_ms > %(behind)s), count(*) FROM devices
 WHERE clock_offset_ms IS NOT NULL AND last_seen_ms BETWEEN %(recent)s AND %(now)s
"""


def doubts(cursor: Cursor, now_ms: int) -> Iterator[str]:
    """Sentences; none where nothing speaks against a clock that says `now_ms`. The transaction has to reach every school."""
    keys = {"now": now_ms, "recent": now_ms - RECENT_DAYS * DAY_MS, "behind": BEHIND_MS}
    cursor.execute(_PAUSE, keys)
    [(pause_ms,)] = cursor.fetchall()
    if pause_ms is not None and pause_ms > PAUSE_MAX_DAYS * DAY_MS:
        yield f"by it this server has done nothing for {counted(pause_ms // DAY_MS, 'day')}"
    cursor.execute(_DEVICES, keys)
    [(behind, heard)] = cursor.fetchall()
    if behind >= DEVICES_MIN and 2 * behind > heard:
        yield f"{behind} of the {counted(heard, 'device')} heard of lately have clocks that lie behind it by more than a day"
