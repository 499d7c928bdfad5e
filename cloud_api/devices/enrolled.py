"""Enrolled devices: listed, and revoked."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_api import audit
from cloud_api.database import Cursor
from cloud_api.devices.auth import Revocation
from cloud_api.devices.replacement import is_replaced
from domain.errors import NotFound
from domain.ids import Id, IdSource


@dataclass(frozen=True, slots=True)
class DeviceSummary:
    """One device as a list shows it; `grants` like `class:<id>`, those that have not ended.

    `replaced_by` is the device that this one has become, by enrolling again (cloud_api/devices/replacement.py); None for one that is heard of.
    Of a revoked one, `obeyed_at_ms` is when it said that it has done what it was told, `unsent_at_wipe` how many changes it had that were nowhere else.
    """

    id: Id
    name: str
    app_version: str
    enrolled_at_ms: int
    last_seen_ms: int | None
    revoked_at_ms: int | None
    revocation: str | None
    obeyed_at_ms: int | None
    unsent_at_wipe: int | None
    replaced_by: Id | None
    grants: list[str]


_LIST = f"""
SELECT d.id, d.name, d.app_version, d.enrolled_at_ms, d.last_seen_ms, d.revoked_at_ms,
       d.revocation, d.obeyed_at_ms, d.unsent_at_wipe, CASE WHEN {is_replaced("d")} THEN d.replaced_by END,
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
    return [DeviceSummary(*row) for row in cursor.fetchall()]


def revoke(
    cursor: Cursor,
    ids: IdSource,
    school_id: str,
    device_id: str,
    now_ms: int,
    reason: str | None = None,
    order: Revocation = Revocation.LOCK,
    actor: str = audit.OPERATOR,
) -> None:
    """Ends a device's access and its grants, at once and for good, and says what it is to do when it comes next. `reason` goes into the audit log.

    Again, it changes the order alone, and only to one that goes further. The row stays: what the device wrote before keeps its origin. Raises
    NotFound.
    """
    cursor.execute("SELECT revoked_at_ms, revocation FROM devices WHERE school_id = %s AND id = %s FOR UPDATE", (school_id, device_id))
    if (row := cursor.fetchone()) is None:
        raise NotFound("There is no such device in the school.")
    revoked_at_ms, before = row
    steps = list(Revocation)
    if revoked_at_ms is not None and steps.index(order) <= steps.index(Revocation(before or Revocation.LOCK)):
        return
    cursor.execute(
        "UPDATE devices SET revoked_at_ms = coalesce(revoked_at_ms, %s), revocation = %s, obeyed_at_ms = NULL, unsent_at_wipe = NULL"
        " WHERE school_id = %s AND id = %s",
        (now_ms, order, school_id, device_id),
    )
    cursor.execute(
        "UPDATE device_grants SET ended_at_ms = %s WHERE school_id = %s AND device_id = %s AND ended_at_ms IS NULL",
        (now_ms, school_id, device_id),
    )
    detail = {"order": str(order)} | ({"reason": reason} if reason else {})
    audit.record(cursor, school_id, ids.new(), now_ms, actor, "device.revoked", device_id, detail)
