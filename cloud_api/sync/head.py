"""The cheap poll: how far the school's feed is, and whether anything a device could pull has changed since it last asked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from cloud_api.auth import device_for
from domain.clock import Clock
from domain.wire import HeadAnswer

# A device is written down as seen at most this often by polling alone, so that an idle poll writes nothing.
SEEN_EVERY_MS = 60_000


@dataclass(frozen=True, slots=True)
class Head:
    """The answer and its ETag."""

    answer: HeadAnswer
    etag: str


_STANDING = """
WITH seen AS (
    UPDATE devices SET last_seen_ms = %(now)s
     WHERE school_id = %(school)s AND id = %(device)s AND (last_seen_ms IS NULL OR last_seen_ms < %(old)s OR last_seen_ms > %(now)s)
)
SELECT s.head, e.epoch, (SELECT coalesce(string_agg(g.id::text, ',' ORDER BY g.id), '') FROM device_grants g
                          WHERE g.school_id = s.id AND g.device_id = %(device)s AND g.ended_at_ms IS NULL)
  FROM schools s, server_state e WHERE s.id = %(school)s
"""


def read_head(cursor: Any, token: str, clock: Clock, poll_after_s: float) -> Head:
    """Two statements: the device, and where its school stands. The ETag covers the feed and the device's own grants, which are not in it."""
    now_ms = clock.now_ms()
    device = device_for(cursor, token, lock=False)
    cursor.execute(_STANDING, {"now": now_ms, "old": now_ms - SEEN_EVERY_MS, "school": device.school_id, "device": device.id})
    head, epoch, grants = cursor.fetchone()
    stamp = hashlib.blake2b(f"{epoch}/{head}/{grants}".encode(), digest_size=12).hexdigest()
    return Head(HeadAnswer(head=head, server_time_ms=now_ms, server_epoch=epoch, poll_after_s=poll_after_s), f'"{stamp}"')
