"""The orders by which devices erase a student, and which devices have carried them out.

An order is a number of the feed. A device names the last one that it has carried out with every pull, and is given those after it: a device
that was restored from an older copy names an older one, and is given the order again.
"""

from __future__ import annotations

from dataclasses import dataclass

from cloud_api import audit
from cloud_api.database import Cursor
from cloud_api.devices.auth import Device
from cloud_api.devices.replacement import is_replaced
from domain.ids import Id, IdSource
from domain.wire import ErasureOrder, PullRequest

# Orders that one page holds; the rest come with the next pull.
ORDERS_MAX = 1_000


def orders_after(cursor: Cursor, device: Device, feed_no: int) -> list[ErasureOrder]:
    """The orders that a device has not carried out, oldest first."""
    cursor.execute(
        "SELECT student_id, feed_no FROM erasures WHERE school_id = %s AND feed_no > %s ORDER BY feed_no LIMIT %s",
        (device.school_id, feed_no, ORDERS_MAX),
    )
    return [ErasureOrder(*row) for row in cursor.fetchall()]


def confirm(cursor: Cursor, ids: IdSource, device: Device, told: PullRequest, now_ms: int) -> None:
    """Notes what a device says that it has carried out; numbers of another life of the server count for nothing."""
    cursor.execute(
        "INSERT INTO erasure_confirmations AS c (school_id, device_id, feed_no, confirmed_at_ms)"
        " SELECT %(school)s, %(device)s, max(e.feed_no), %(now)s FROM erasures e WHERE e.school_id = %(school)s AND e.feed_no <= %(through)s"
        "    AND EXISTS (SELECT FROM server_state s WHERE replace(s.epoch::text, '-', '') = %(epoch)s)"
        " HAVING max(e.feed_no) IS NOT NULL ON CONFLICT (school_id, device_id) DO UPDATE SET feed_no = excluded.feed_no,"
        " confirmed_at_ms = excluded.confirmed_at_ms WHERE c.feed_no < excluded.feed_no RETURNING feed_no",
        {"school": device.school_id, "device": device.id, "now": now_ms, "through": told.erased_through, "epoch": told.server_epoch},
    )
    if (row := cursor.fetchone()) is not None:
        audit.record(
            cursor, device.school_id, ids.new(), now_ms, f"device:{device.id}", "erasure.confirmed", device.id, {"through": row[0]}
        )


@dataclass(frozen=True, slots=True)
class Waiting:
    """A device that has not confirmed an erasure; `revoked` ones never will."""

    id: Id
    name: str
    last_seen_ms: int | None
    revoked: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one erasure has come: devices that have carried it out, and those that are silent."""

    school_id: Id
    student_id: Id
    erased_at_ms: int
    confirmed: int
    waiting: tuple[Waiting, ...]


def standings(cursor: Cursor) -> list[Standing]:
    """Every erasure, newest first. A device that was enrolled after it has nothing to erase, unless it was another device before; that one is not
    waited for.
    """
    cursor.execute("SELECT school_id, student_id, erased_at_ms, feed_no FROM erasures ORDER BY erased_at_ms DESC, student_id")
    return [_standing(cursor, *row) for row in cursor.fetchall()]


def _standing(cursor: Cursor, school_id: Id, student_id: Id, erased_at_ms: int, feed_no: int) -> Standing:
    cursor.execute(
        "SELECT d.id, d.name, d.last_seen_ms, d.revoked_at_ms IS NOT NULL, coalesce(c.feed_no, 0) >= %s FROM devices d"
        " LEFT JOIN erasure_confirmations c ON c.school_id = d.school_id AND c.device_id = d.id"
        " WHERE d.school_id = %s AND coalesce(d.data_since_ms, d.enrolled_at_ms) <= %s"
        f" AND (c.feed_no >= %s OR d.revoked_at_ms IS NOT NULL OR NOT {is_replaced('d')}) ORDER BY d.last_seen_ms NULLS FIRST, d.id",
        (feed_no, school_id, erased_at_ms, feed_no),
    )
    found = cursor.fetchall()
    waiting = tuple(Waiting(*row[:4]) for row in found if not row[4])
    return Standing(school_id, student_id, erased_at_ms, len(found) - len(waiting), waiting)
