"""Where a server holds something about one student: the one answer that export and erasure share.

Most of it is found by the schema itself: every table with a school and a column `student_id` or `user_id` holds something about a person, also
tables that this module has never heard of. The rest is named here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cloud_api.database import Cursor, one_row
from domain.errors import NotFound
from domain.registry import TABLE_ORDER, TABLES, ScopeKind, tables_in

# What must outlive an erasure: the list of erasures itself.
KEPT = ("erasures", "erased_rows")

_BY_COLUMN = """
SELECT c.relname, min(a.attname::text)
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname IN ('student_id', 'user_id') AND NOT a.attisdropped
 WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND EXISTS (SELECT FROM pg_attribute s WHERE s.attrelid = c.oid AND s.attname = 'school_id' AND NOT s.attisdropped)
 GROUP BY c.relname ORDER BY c.relname
"""

# A letter keeps what a device sent, to the letter: it is the student's when it names the student anywhere, or is about one of the rows.
_LETTERS = (
    "school_id = %(school)s AND (row_id = %(student)s OR row_id = ANY(%(rows)s::uuid[])"
    " OR strpos(replace(lower(payload::text), '-', ''), %(student)s) > 0 OR strpos(replace(lower(base::text), '-', ''), %(student)s) > 0)"
)


@dataclass(frozen=True, slots=True)
class Holding:
    """Rows of one table that are about the student: `condition` is SQL over the parameters of `parameters_for`."""

    table: str
    condition: str


def school_of(cursor: Cursor, student_id: str) -> str:
    """The school of a student, also of one who was erased or has become a teacher. Raises NotFound, also for somebody of whom there is nothing that a
    student has.
    """
    cursor.execute(_BY_COLUMN)
    tables = [(table, column) for table, column in cursor.fetchall() if column == "student_id" and table not in KEPT]
    own = [("student_profiles", "id"), *tables]
    has_rows = "".join(f" OR EXISTS (SELECT FROM {table} t WHERE t.school_id = u.school_id AND t.{column} = u.id)" for table, column in own)
    cursor.execute(
        f"SELECT u.school_id FROM users u WHERE u.id = %(student)s AND (u.role = 'student'{has_rows})"
        " UNION SELECT school_id FROM erasures WHERE student_id = %(student)s",
        {"student": student_id},
    )
    if (row := cursor.fetchone()) is None:
        raise NotFound("There is no student of that id on this server; `carrel-cloud user list` shows the ids.")
    return str(row[0])


def parameters_for(cursor: Cursor, school_id: str, student_id: str) -> dict[str, Any]:
    """What the conditions ask for; `rows` are the ids of the student's synced rows."""
    rows = list[str]()
    for table in tables_in(ScopeKind.STUDENT):
        cursor.execute(f"SELECT id FROM {table.name} WHERE school_id = %s AND {table.scope_column} = %s", (school_id, student_id))
        rows.extend(row_id for (row_id,) in cursor.fetchall())
    return {"school": school_id, "student": student_id, "rows": rows, "scope": f"{ScopeKind.STUDENT}:{student_id}"}


def holdings(cursor: Cursor) -> Sequence[Holding]:
    """Everything, children before parents; the person's own row is the last."""
    cursor.execute(_BY_COLUMN)
    found = [
        Holding(table, f"school_id = %(school)s AND {column} = %(student)s") for table, column in cursor.fetchall() if table not in KEPT
    ]
    found += [
        Holding("dead_letters", _LETTERS),
        Holding("device_grants", "school_id = %(school)s AND kind = 'student' AND subject_id = %(student)s"),
        Holding("tombstones", "school_id = %(school)s AND scope = %(scope)s"),
        Holding("student_profiles", "school_id = %(school)s AND id = %(student)s"),
        Holding("users", "school_id = %(school)s AND id = %(student)s"),
    ]
    # What is not synced hangs on what is, and never the other way round; among synced tables children come first too.
    return sorted(found, key=lambda holding: -TABLE_ORDER[holding.table] if holding.table in TABLES else -len(TABLES))


def counts(cursor: Cursor, school_id: str, student_id: str) -> dict[str, int]:
    """Rows about the student by table, those without any left out."""
    parameters = parameters_for(cursor, school_id, student_id)
    found = {}
    for holding in holdings(cursor):
        cursor.execute(f"SELECT count(*) FROM {holding.table} WHERE {holding.condition}", parameters)
        found[holding.table] = int(one_row(cursor)[0])
    return {table: count for table, count in sorted(found.items()) if count}
