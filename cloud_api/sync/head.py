"""The cheap poll: how far the school's feed is, and whether anything a device could pull has changed since it last asked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from cloud_api.devices import tokens
from cloud_api.devices.auth import device_for
from cloud_api.sync.admission import SEEN_WITHIN_MS, Pace
from domain.clock import Clock
from domain.ids import IdSource
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
                          WHERE g.school_id = s.id AND g.device_id = %(device)s AND g.ended_at_ms IS NULL),
       (SELECT coalesce(sum(i.durable_seq), 0) FROM device_incarnations i WHERE i.school_id = s.id AND i.device_id = %(device)s),
       CASE WHEN %(count)s THEN (SELECT seen FROM devices_at_work(%(lately)s, %(now)s)) END
  FROM schools s, server_state e WHERE s.id = %(school)s
"""


def read_head(cursor: Any, token: str, clock: Clock, pace: Pace, ids: IdSource, token_days: int) -> Head:
    """Two statements: the device, and where its school stands. The ETag covers the feed, and what of the device's is not in it: its own grants,
    how much of its log is in a backup, whether it should ask for a new token. One that has come with its new token has the old one end.
    """
    now_ms = clock.now_ms()
    device = device_for(cursor, token, lock=False)
    if device.token_is_new:
        tokens.settle(cursor, ids, device, token, now_ms)
    due = tokens.is_due(device, now_ms, token_days)
    cursor.execute(
        _STANDING,
        {
            "now": now_ms,
            "old": now_ms - SEEN_EVERY_MS,
            "lately": now_ms - SEEN_WITHIN_MS,
            "count": pace.is_to_be_counted(),
            "school": device.school_id,
            "device": device.id,
        },
    )
    head, epoch, grants, durable, devices = cursor.fetchone()
    if devices is not None:
        pace.heard(devices)
    stamp = hashlib.blake2b(f"{epoch}/{head}/{grants}/{durable}{'/due' if due else ''}".encode(), digest_size=12).hexdigest()
    answer = HeadAnswer(head=head, server_time_ms=now_ms, server_epoch=epoch, poll_after_s=pace.told_s, token_due=due)
    return Head(answer, f'"{stamp}"')
