"""Erasing a student on the server: rows, dead letters, conflicts and grants go, an order goes down to every device, and nothing comes back.

    edit lock → every device of the school → rows → feed numbers: the deletions that devices see, and the order

The devices' rows are locked before anything is read, as a push locks its own: a push is settled wholly before the erasure or wholly after it, and
then drops what is the student's (cloud_api/sync/erased.py). What stays is the student's id, in `erasures` and in the audit log, and hashes
of field values that merges remember for 120 days (cloud_api/sync/settled.py), from which nothing can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from psycopg2.extras import Json, execute_values

from cloud_api import audit
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.erasure.holdings import holdings, parameters_for
from cloud_api.erasure.register import Entry
from cloud_api.publication import Publication, lock_for_editing, scope_of
from cloud_api.sync import feed
from domain.clock import Clock
from domain.ids import IdSource
from domain.registry import Policy, ScopeKind, tables_in

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Erased:
    """What an erasure removed: rows by table. `entry` is what the register must hold of it."""

    entry: Entry
    rows: dict[str, int]


def erase(database: CloudDatabase, clock: Clock, ids: IdSource, school_id: str, student_id: str) -> Erased:
    """Erases one student in one transaction. Again, it erases what is there by then, and changes nothing where there is nothing."""
    return database.retrying(lambda cursor: erase_in(cursor, ids, school_id, student_id, clock.now_ms()))


def erase_again(database: CloudDatabase, clock: Clock, ids: IdSource, entries: Iterable[Entry]) -> int:
    """What was erased before a backup was restored, or in another life of the database, is erased here too; returns how many students.

    Entries of schools that this database does not have are passed over.
    """
    with database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT id FROM schools")
        schools = {school_id for (school_id,) in cursor.fetchall()}
    due = [entry for entry in entries if entry.school_id in schools]
    for entry in due:
        database.retrying(partial(erase_in, ids=ids, school_id=entry.school_id, student_id=entry.student_id, now_ms=entry.erased_at_ms))
    return len(due)


def write_anew(database: CloudDatabase, write: Callable[[Sequence[str]], T]) -> T:
    """Has `write` write the tables anew that may have held students who were erased, and notes for which that was done. Where it fails it stays to be done."""
    with database.transaction(read_only=True) as cursor:
        due = unwritten(cursor)
        tables = sorted({holding.table for holding in holdings(cursor)} | {"enrolment_codes"})
    written = write(tables)

    database.retrying(partial(_note_written, due=due))
    return written


def _note_written(cursor: Cursor, due: Sequence[tuple[str, str, int]]) -> None:
    """Somebody who was erased again meanwhile has another number, and is still to be done."""
    execute_values(
        cursor,
        "UPDATE erasures e SET written = true FROM (VALUES %s) AS d (school_id, student_id, feed_no)"
        " WHERE e.school_id = d.school_id AND e.student_id = d.student_id AND e.feed_no = d.feed_no",
        due,
        template="(%s::uuid, %s::uuid, %s)",
        page_size=max(1, len(due)),
    )


def unwritten(cursor: Cursor) -> list[tuple[str, str, int]]:
    """(school, student, number) of erasures since which the tables were not written anew."""
    cursor.execute("SELECT school_id, student_id, feed_no FROM erasures WHERE NOT written")
    return cursor.fetchall()


def erase_in(cursor: Cursor, ids: IdSource, school_id: str, student_id: str, now_ms: int, *, reason: str | None = None) -> Erased:
    """The same in the caller's transaction. `reason` stands in the audit log, where it was not a person who wanted it."""
    lock_for_editing(cursor, school_id)
    cursor.execute("SELECT id FROM devices WHERE school_id = %s ORDER BY id FOR UPDATE", (school_id,))
    parameters = parameters_for(cursor, school_id, student_id)
    known = _known(cursor, school_id, student_id)
    publication = _shared_rows(cursor, parameters)
    _remember_rows(cursor, parameters, now_ms)
    rows = {holding.table: _delete(cursor, holding.table, holding.condition, parameters) for holding in holdings(cursor)}
    rows["enrolment_codes"] = _strike_from_codes(cursor, parameters)
    rows = {table: count for table, count in sorted(rows.items()) if count}
    if known is not None and not rows:
        return Erased(known, {})
    publication.write(cursor, now_ms)
    order_no = feed.take(cursor, school_id, 1)
    cursor.execute(
        "UPDATE erasures SET feed_no = %s, written = false WHERE school_id = %s AND student_id = %s", (order_no, school_id, student_id)
    )
    audit.record(
        cursor,
        school_id,
        ids.new(),
        now_ms,
        audit.OPERATOR,
        "student.erased",
        student_id,
        {"rows": rows} | ({"reason": reason} if reason else {}),
    )
    return Erased(known or Entry(school_id, student_id, now_ms), rows)


def _known(cursor: Cursor, school_id: str, student_id: str) -> Entry | None:
    cursor.execute("SELECT erased_at_ms FROM erasures WHERE school_id = %s AND student_id = %s", (school_id, student_id))
    row = cursor.fetchone()
    return Entry(school_id, student_id, row[0]) if row else None


def _shared_rows(cursor: Cursor, parameters: dict[str, Any]) -> Publication:
    """Tombstones for the rows that other students' devices have, too."""
    publication = Publication(parameters["school"])
    cursor.execute("SELECT id, class_id FROM class_members WHERE school_id = %(school)s AND user_id = %(student)s", parameters)
    for member_id, class_id in cursor.fetchall():
        publication.delete("class_members", member_id, scope_of(ScopeKind.CLASS, class_id))
    cursor.execute("SELECT 1 FROM users WHERE school_id = %(school)s AND id = %(student)s", parameters)
    if cursor.fetchone():
        publication.delete("users", parameters["student"])
    return publication


def _remember_rows(cursor: Cursor, parameters: dict[str, Any], now_ms: int) -> None:
    """Notes the erasure, and the rows of which a late change would not name the student."""
    cursor.execute(
        "INSERT INTO erasures (school_id, student_id, erased_at_ms, feed_no) VALUES (%s, %s, %s, 0) ON CONFLICT DO NOTHING",
        (parameters["school"], parameters["student"], now_ms),
    )
    for table in tables_in(ScopeKind.STUDENT):
        if table.policy is Policy.LAST_WRITER and table.scope_column != "id":
            cursor.execute(
                "INSERT INTO erased_rows (school_id, row_id, student_id) SELECT school_id, id, %(student)s FROM"
                f" {table.name} WHERE school_id = %(school)s AND {table.scope_column} = %(student)s ON CONFLICT DO NOTHING",
                parameters,
            )


def _delete(cursor: Cursor, table: str, condition: str, parameters: dict[str, Any]) -> int:
    cursor.execute(f"DELETE FROM {table} WHERE {condition}", parameters)
    return int(cursor.rowcount)


def _strike_from_codes(cursor: Cursor, parameters: dict[str, Any]) -> int:
    """Codes that were made for the student grant the rest; those that would grant nothing go."""
    cursor.execute(
        "SELECT id, grants FROM enrolment_codes WHERE school_id = %(school)s"
        " AND grants @> jsonb_build_array(jsonb_build_object('subject_id', %(student)s::text)) FOR UPDATE",
        parameters,
    )
    found = cursor.fetchall()
    left = [(code_id, [g for g in grants if g["subject_id"] != parameters["student"]]) for code_id, grants in found]
    cursor.execute(
        "DELETE FROM enrolment_codes WHERE school_id = %s AND id = ANY(%s::uuid[])", (parameters["school"], [c for c, g in left if not g])
    )
    if rest := [(parameters["school"], code_id, grants) for code_id, grants in left if grants]:
        _write_grants(cursor, rest)
    return len(found)


def _write_grants(cursor: Cursor, codes: Iterable[tuple[str, str, list[dict[str, str]]]]) -> None:
    execute_values(
        cursor,
        "UPDATE enrolment_codes c SET grants = n.grants FROM (VALUES %s) AS n (school_id, id, grants) WHERE c.school_id = n.school_id AND c.id = n.id",
        [(school_id, code_id, Json(grants)) for school_id, code_id, grants in codes],
        template="(%s::uuid, %s::uuid, %s::jsonb)",
    )
