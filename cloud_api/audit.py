"""The audit log: who did what that a school may have to answer for. It holds ids and counts, never names, answers or secrets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from psycopg2.extras import Json

from cloud_api.database import Cursor
from domain.ids import Id

# The actor of what is done at the server's own terminal.
OPERATOR = "operator"
# Entries that one look gives.
LIMIT_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that was done; `actor` and `action` as `record` takes them, `detail` counts and ids."""

    at_ms: int
    actor: str
    action: str
    subject: str | None
    detail: Mapping[str, Any] | None


def record(
    cursor: Cursor,
    school_id: str,
    entry_id: Id,
    at_ms: int,
    actor: str,
    action: str,
    subject: str | None = None,
    detail: Mapping[str, Any] | None = None,
) -> None:
    """Adds one entry in the caller's transaction. `actor` is OPERATOR, `device:<id>` or `user:<id>`; `action` like `device.enrolled`."""
    cursor.execute(
        "INSERT INTO audit_log (school_id, id, at_ms, actor, action, subject, detail) VALUES (%s, %s, %s, %s, %s, %s, %s)",
        (school_id, entry_id, at_ms, actor, action, subject, Json(detail) if detail is not None else None),
    )


def entries(cursor: Cursor, school_id: str, *, about: Id | None, action: str | None, limit: int) -> list[Entry]:
    """Entries of a school, newest first: all, those about or by whatever has the id `about`, those of one `action`."""
    cursor.execute(
        "SELECT at_ms, actor, action, subject, detail FROM audit_log WHERE school_id = %(school)s"
        " AND (%(about)s IS NULL OR replace(subject, '-', '') = %(about)s OR actor IN ('user:' || %(about)s, 'device:' || %(about)s))"
        " AND (%(action)s IS NULL OR action = %(action)s) ORDER BY at_ms DESC, id DESC LIMIT %(limit)s",
        {"school": school_id, "about": about, "action": action, "limit": limit},
    )
    return [Entry(*row) for row in cursor.fetchall()]


def forget(cursor: Cursor, school_id: str, before_ms: int, rows_max: int) -> int:
    """Deletes at most so many entries of a school that are older; returns how many. PostgreSQL refuses every other change of an entry."""
    cursor.execute("SELECT set_config('carrel.audit_retention', 'on', true)")
    cursor.execute(
        "DELETE FROM audit_log WHERE (school_id, id) IN (SELECT school_id, id FROM audit_log WHERE school_id = %s AND at_ms < %s LIMIT %s)",
        (school_id, before_ms, rows_max),
    )
    count = cursor.rowcount
    cursor.execute("SELECT set_config('carrel.audit_retention', '', true)")
    return count
