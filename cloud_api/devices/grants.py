"""What a device holds by its grants: told, and ended one by one. Ending the last leaves it the course."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cloud_api import audit
from cloud_api.database import Cursor
from domain.errors import NotFound
from domain.ids import Id, IdSource


@dataclass(frozen=True, slots=True)
class Held:
    """A grant that has not ended, with what a class or a student is called; `username` is empty for a class."""

    id: Id
    kind: Literal["class", "student"]
    name: str
    username: str


_HELD = """
SELECT g.id, g.kind, coalesce(c.name, u.display_name, ''), coalesce(u.username, '') FROM device_grants g
  LEFT JOIN classes c ON c.school_id = g.school_id AND c.id = g.subject_id
  LEFT JOIN users u ON u.school_id = g.school_id AND u.id = g.subject_id
 WHERE g.school_id = %s AND g.device_id = %s AND g.ended_at_ms IS NULL ORDER BY 2, 3, 1
"""
# By which of its classes a device goes on holding the student of an ended grant.
_STILL = """
SELECT c.name FROM device_grants ended
  JOIN device_grants g ON g.school_id = ended.school_id AND g.device_id = ended.device_id AND g.kind = 'class' AND g.ended_at_ms IS NULL
  JOIN class_members m ON m.school_id = g.school_id AND m.class_id = g.subject_id AND m.user_id = ended.subject_id AND m.role = 'student'
  JOIN classes c ON c.school_id = m.school_id AND c.id = m.class_id
 WHERE ended.school_id = %s AND ended.id = %s AND ended.kind = 'student' ORDER BY c.name
"""


def held_by(cursor: Cursor, school_id: str, device_id: str) -> list[Held]:
    """What a device holds, classes first."""
    cursor.execute(_HELD, (school_id, device_id))
    return [Held(*row) for row in cursor.fetchall()]


def find_grant(cursor: Cursor, school_id: str, device_id: str, kind: str, name: str) -> Id:
    """The grant of the class of that name, or of the student of that user name. Raises NotFound."""
    for held in held_by(cursor, school_id, device_id):
        if held.kind == kind and (held.username.lower() == name.strip().lower() if kind == "student" else held.name == name.strip()):
            return held.id
    raise NotFound(f"The device has no grant of its own for that {kind}; `carrel-cloud device list` shows what it has.")


def end_grant(
    cursor: Cursor, ids: IdSource, school_id: str, device_id: str, grant_id: str, now_ms: int, actor: str = audit.OPERATOR
) -> list[str]:
    """Ends one grant: with its next contact the device forgets what it holds by it alone; what was written there before is still taken.

    Returns the names of the classes by which it goes on holding the student. Raises NotFound for a grant that is not there or has ended.
    """
    cursor.execute(
        "UPDATE device_grants SET ended_at_ms = %s WHERE school_id = %s AND device_id = %s AND id = %s AND ended_at_ms IS NULL"
        " RETURNING kind, replace(subject_id::text, '-', '')",
        (now_ms, school_id, device_id, grant_id),
    )
    if (row := cursor.fetchone()) is None:
        raise NotFound("The device has no such grant (any more).")
    audit.record(cursor, school_id, ids.new(), now_ms, actor, "device.grant_ended", device_id, {"grant": f"{row[0]}:{row[1]}"})
    cursor.execute(_STILL, (school_id, grant_id))
    return [name for (name,) in cursor.fetchall()]
