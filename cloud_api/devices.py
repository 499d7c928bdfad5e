"""Enrolled devices: listed, and revoked."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_api import audit
from cloud_api.database import Cursor
from domain.errors import NotFound
from domain.ids import Id, IdSource


@dataclass(frozen=True, slots=True)
class DeviceSummary:
    """One device as a list shows it; `grants` like `class:<id>`, those that have not ended."""

    id: Id
    name: str
    app_version: str
    enrolled_at_ms: int
    last_seen_ms: int | None
    revoked_at_ms: int | None
    grants: tuple[str, ...]


_LIST = """
SELECT d.id, d.name, d.app_version, d.enrolled_at_ms, d.last_seen_ms, d.revoked_at_ms,
       array_remove(array_agg(g.kind || ':' || replace(g.subject_id::text, '-', '') ORDER BY g.kind, g.subject_id), NULL)
  FROM devices d
  LEFT JOIN device_grants g ON g.school_id = d.school_id AND g.device_id = d.id AND g.ended_at_ms IS NULL
 WHERE d.school_id = %s
 GROUP BY d.school_id, d.id
 ORDER BY d.enrolled_at_ms, d.id
"""


def list_devices(cursor: Cursor, school_id: str) -> list[DeviceSummary]:
    """The devices of a school, oldest first, revoked ones included."""
    cursor.execute(_LIST, (school_id,))
    return [
        DeviceSummary(id_, name, app_version, enrolled, seen, revoked, tuple(grants))
        for id_, name, app_version, enrolled, seen, revoked, grants in cursor.fetchall()
    ]


def revoke(cursor: Cursor, ids: IdSource, school_id: str, device_id: str, now_ms: int, reason: str | None = None) -> None:
    """Ends a device's access and its grants, at once and for good; again changes nothing. `reason` goes into the audit log. Raises NotFound.

    The row stays: what the device wrote before keeps its origin.
    """
    cursor.execute("SELECT revoked_at_ms FROM devices WHERE school_id = %s AND id = %s FOR UPDATE", (school_id, device_id))
    if (row := cursor.fetchone()) is None:
        raise NotFound("There is no such device in the school.")
    if row[0] is not None:
        return
    cursor.execute("UPDATE devices SET revoked_at_ms = %s WHERE school_id = %s AND id = %s", (now_ms, school_id, device_id))
    cursor.execute(
        "UPDATE device_grants SET ended_at_ms = %s WHERE school_id = %s AND device_id = %s AND ended_at_ms IS NULL",
        (now_ms, school_id, device_id),
    )
    audit.record(cursor, school_id, ids.new(), now_ms, audit.OPERATOR, "device.revoked", device_id, {"reason": reason} if reason else None)
