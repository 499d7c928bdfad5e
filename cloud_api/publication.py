"""The server's own changes of synced rows: gathered first, then written set by set under fresh feed numbers.

A synced row without a feed number would never reach a device that already has the number before it, so every insert, update and delete that
the server itself makes goes through a `Publication`. Lock order: the school's edit lock, the counter row, then the rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from psycopg2.extras import execute_values

from cloud_api.database import Cursor
from cloud_api.sync import feed
from cloud_api.sync.rows import upsert_rows
from domain.ids import Id
from domain.registry import TABLE_ORDER, TABLES, ScopeKind, Table
from domain.validation import problem_in

Row = dict[str, Any]  # registry column -> value, ids in internal form
# Told (rows written, rows in all) while a publication is written.
Progress = Callable[[int, int], None]

# Rows of one statement, and so also of one step of progress.
SET_ROWS_MAX = 2_000


class Deletion(NamedTuple):
    """A row that leaves a scope (`school`, `class:<id>`) for good."""

    table: str
    row_id: str
    scope: str


def lock_for_editing(cursor: Cursor, school_id: str) -> None:
    """Lets one transaction at a time edit what the server alone writes in a school; pushes and pulls go on meanwhile.

    Held until the transaction ends, so a connection pooler may stand in between.
    """
    key = hashlib.blake2b(b"carrel edit " + school_id.encode(), digest_size=8).digest()
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (int.from_bytes(key, "big", signed=True),))


def read_rows(cursor: Cursor, table: Table, school_id: str) -> dict[str, Row]:
    """Every row of a school's table by id: registry columns, `feed_no` and `_extra`, in feed order."""
    names = [*table.column_names, "feed_no", "_extra"]
    cursor.execute(f"SELECT {', '.join(names)} FROM {table.name} WHERE school_id = %s ORDER BY feed_no", (school_id,))
    return {values[0]: dict(zip(names, values, strict=True)) for values in cursor.fetchall()}


def row_problems(table: Table, row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(column, what is wrong with it) for every value of a row that breaks the registry's limits."""
    for column in table.columns:
        if column.name in row and (problem := problem_in(column, row[column.name])):
            yield column.name, problem


class Publication:
    """What one transaction of the server changes in one school."""

    def __init__(self, school_id: str) -> None:
        self._school_id = school_id
        self._rows: dict[str, dict[str, Row]] = {}
        self._deletions: list[Deletion] = []

    def put(self, table: str, row: Row) -> None:
        """A whole row (registry columns; `_extra` where the stored row has one), new or changed. The last one put counts."""
        self._rows.setdefault(table, {})[row["id"]] = row

    def delete(self, table: str, row_id: str, scope: str = ScopeKind.SCHOOL) -> None:
        """A row that exists and is to leave a scope for good; a tombstone tells the devices."""
        self._deletions.append(Deletion(table, row_id, scope))

    def __len__(self) -> int:
        return sum(map(len, self._rows.values())) + len(self._deletions)

    def write(self, cursor: Cursor, now_ms: int, progress: Progress = lambda done, total: None) -> range:
        """Takes the feed numbers and writes everything, parents first; the numbers taken, none when nothing changed.

        Call it last in the transaction: no other writer of the school passes until commit. Violated constraints raise psycopg2's
        IntegrityError.
        """
        total = len(self)
        if not total:
            return range(0)
        first = feed.take(cursor, self._school_id, total)
        numbers = iter(range(first, first + total))
        self._write_deletions(cursor, numbers, now_ms)
        done = len(self._deletions)
        for table, rows in self._sets():
            stamped = [{"_extra": None, **row, "feed_no": next(numbers), "origin_no": 0} for row in rows]
            upsert_rows(cursor, table, self._school_id, stamped)
            done += len(rows)
            progress(done, total)
        return range(first, first + total)

    def _sets(self) -> Iterator[tuple[Table, list[Row]]]:
        for name in sorted(self._rows, key=TABLE_ORDER.__getitem__):
            rows = list(self._rows[name].values())
            for start in range(0, len(rows), SET_ROWS_MAX):
                yield TABLES[name], rows[start : start + SET_ROWS_MAX]

    def _write_deletions(self, cursor: Cursor, numbers: Iterator[int], now_ms: int) -> None:
        for name in sorted({deletion.table for deletion in self._deletions}, key=TABLE_ORDER.__getitem__, reverse=True):
            ids = [deletion.row_id for deletion in self._deletions if deletion.table == name]
            cursor.execute(f"DELETE FROM {TABLES[name].name} WHERE school_id = %s AND id = ANY(%s::uuid[])", (self._school_id, ids))
        _write_tombstones(cursor, [(self._school_id, d.scope, d.table, d.row_id, next(numbers), now_ms) for d in self._deletions])


def _write_tombstones(cursor: Cursor, tombstones: Sequence[tuple[Any, ...]]) -> None:
    if tombstones:
        execute_values(
            cursor,
            "INSERT INTO tombstones (school_id, scope, table_name, row_id, feed_no, deleted_at_ms) VALUES %s "
            "ON CONFLICT (school_id, scope, table_name, row_id) "
            "DO UPDATE SET feed_no = excluded.feed_no, deleted_at_ms = excluded.deleted_at_ms",
            tombstones,
            page_size=SET_ROWS_MAX,
        )


def scope_of(kind: ScopeKind, subject_id: Id | str) -> str:
    """The scope of one class or student, as cursors and tombstones name it."""
    return f"{kind}:{subject_id}"
