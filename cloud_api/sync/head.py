"""The cheap poll: how far the school's feed is, and whether anything a device could pull has changed since it last asked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from cloud_api.auth import Device, device_for
from domain.clock import Clock
from domain.wire import HeadAnswer

# A device is written down as seen at most this often by polling alone, so that an idle poll writes nothing.
SEEN_EVERY_MS = 60_000


@dataclass(frozen=True, slots=True)
class Head:
    """The answer, its ETag, and whether the device should be noted as seen."""

    device: Device
    answer: HeadAnswer
    etag: str
    seen_is_old: bool


def read_head(cursor: Any, token: str, clock: Clock, poll_after_s: float) -> Head:
    """Two statements: the device, and where its school stands. The ETag covers the feed and the device's own grants, which are not in it."""
    now_ms = clock.now_ms()
    device = device_for(cursor, token, lock=False)
    cursor.execute(
        "SELECT s.head, e.epoch, (SELECT coalesce(string_agg(g.id::text, ',' ORDER BY g.id), '') FROM device_grants g"
        " WHERE g.school_id = s.id AND g.device_id = d.id AND g.ended_at_ms IS NULL), d.last_seen_ms"
        " FROM devices d JOIN schools s ON s.id = d.school_id, server_state e WHERE d.school_id = %s AND d.id = %s",
        (device.school_id, device.id),
    )
    head, epoch, grants, seen_ms = cursor.fetchone()
    stamp = hashlib.blake2b(f"{epoch}/{head}/{grants}".encode(), digest_size=12).hexdigest()
    answer = HeadAnswer(head=head, server_time_ms=now_ms, server_epoch=epoch, poll_after_s=poll_after_s)
    return Head(device, answer, f'"{stamp}"', seen_ms is None or now_ms - seen_ms > SEEN_EVERY_MS)


def note_seen(cursor: Any, device: Device, clock: Clock) -> None:
    """Writes down that the device was here."""
    cursor.execute("UPDATE devices SET last_seen_ms = %s WHERE school_id = %s AND id = %s", (clock.now_ms(), device.school_id, device.id))
