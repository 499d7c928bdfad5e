"""The audit log: who did what that a school may have to answer for. It holds ids and counts, never names, answers or secrets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg2.extras import Json

from cloud_api.database import Cursor
from domain.ids import Id

# The actor of what is done at the server's own terminal.
OPERATOR = "operator"


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
