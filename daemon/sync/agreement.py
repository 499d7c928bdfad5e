"""The rows that this device has from the server, summed up to be compared with the server's own, and put right where they differ.

Only versions that the server has named count: rows whose number it has not told yet are this device's business. Every function takes the
connection of a transaction that its caller holds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from daemon import inbox
from daemon.erasure import answers
from domain.agreement import BUCKETS, HASH_MODULUS, Result, Sum, bucket_of, content_text, result_to_keep, row_hash, sums_by_bucket
from domain.registry import TABLES, Kind, Policy, ScopeKind, Table, tables_in
from domain.wire import Place, VerifyAnswer

# A row of this device that is set against the server's: column to stored value.
StoredRow = dict[str, Any]


@dataclass(frozen=True, slots=True)
class LastVerify:
    """When this device was last compared with its school (UTC ms), and what `status` shows of it."""

    at_ms: int | None = None
    result: str | None = None


@dataclass(frozen=True, slots=True)
class Repair:
    """What became of the rows of one answer: rows written, rows removed, ids of rows that the server lacks and that are kept here, and
    whether this device still has the operations of some of them, to send them again.
    """

    written: int = 0
    removed: int = 0
    kept: tuple[str, ...] = ()
    resend: bool = False


def last_verify(conn: sqlite3.Connection) -> LastVerify:
    """What the last comparison said."""
    row = conn.execute("SELECT last_verify_ms, last_verify_result FROM sync_progress").fetchone()
    return LastVerify(*row) if row else LastVerify()


def note_result(conn: sqlite3.Connection, result: Result, now_ms: int) -> None:
    """Writes down what a comparison said."""
    kept = result_to_keep(last_verify(conn).result, result)
    conn.execute("UPDATE sync_progress SET last_verify_ms = ?, last_verify_result = ?", (now_ms, kept))


def is_settled(conn: sqlite3.Connection) -> bool:
    """Whether there is anything to compare: enrolled, nothing queued or to be let go of, and not in the middle of pulling everything anew."""
    return answers.due(conn) is None and bool(
        conn.execute(
            "SELECT EXISTS (SELECT 1 FROM sync_progress WHERE rebaselining = 'no')"
            " AND NOT EXISTS (SELECT 1 FROM sync_operations WHERE state = 'pending')"
        ).fetchone()[0]
    )


def followed_places(conn: sqlite3.Connection) -> list[Place]:
    """Every table of every scope that this device follows."""
    return [
        Place(scope, table.name, cursor)
        for scope, cursor in sorted(inbox.read_cursors(conn).items())
        for table in tables_in(ScopeKind(scope.partition(":")[0]))
    ]


def held_sums(conn: sqlite3.Connection, places: Iterable[Place], *, content: bool) -> dict[Place, Sum]:
    """Our sum of every place, by one pass over each table."""
    wanted = {(place.table, _subject(place)): place for place in places}
    counts, totals = dict.fromkeys(wanted.values(), 0), dict.fromkeys(wanted.values(), 0)
    for name in {table for table, _ in wanted}:
        for subject, _, value in _held(conn, TABLES[name], content):
            if place := wanted.get((name, subject)):
                counts[place] += 1
                totals[place] += value
    return {place: Sum(counts[place], totals[place] % HASH_MODULUS) for place in wanted.values()}


def held_bucket_sums(conn: sqlite3.Connection, place: Place, *, content: bool) -> list[Sum]:
    """The sums of one place's buckets."""
    return sums_by_bucket((row_id, value) for _, row_id, value in _held(conn, TABLES[place.table], content, place))


def held_versions(conn: sqlite3.Connection, place: Place, buckets: Collection[int], *, content: bool) -> dict[str, int]:
    """Our rows in some buckets of one place, id to hash."""
    wanted = [number in buckets for number in range(BUCKETS)]
    return {row_id: value for _, row_id, value in _held(conn, TABLES[place.table], content, place) if wanted[bucket_of(row_id)]}


def _subject(place: Place) -> str:
    return place.scope.partition(":")[2]


def _held(conn: sqlite3.Connection, table: Table, content: bool, place: Place | None = None) -> Iterator[tuple[str, str, int]]:
    """(class or student, row id, hash) of the rows with a number of the server's; of one place, or of the whole table."""
    subject = table.scope_column or "''"
    where, parameters = (f" AND {subject} = ?", (_subject(place),)) if place else ("", ())
    if not content:
        for subject_id, row_id, feed_no in conn.execute(
            f"SELECT {subject}, id, feed_no FROM {table.name} WHERE feed_no > 0{where}", parameters
        ):
            yield subject_id, row_id, row_hash(row_id, feed_no)
        return
    shadows = dict(conn.execute("SELECT row_id, data FROM shadows WHERE table_name = ?", (table.name,)))
    columns = ", ".join(table.column_names)
    rows = conn.execute(f"SELECT {subject}, feed_no, {columns} FROM {table.name} WHERE feed_no > 0{where}", parameters)
    for subject_id, feed_no, *values in rows:
        row = dict(zip(table.column_names, values, strict=True))
        if data := shadows.get(row["id"]):  # a change is queued over the server's version
            row |= msgspec.json.decode(data)
        yield subject_id, row["id"], row_hash(row["id"], feed_no, content_text(_travelling(table, row)))


def _travelling(table: Table, row: Mapping[str, Any]) -> list[Any]:
    """A stored row's values as they travel, in registry order."""
    return [_as_sent(column.kind, row[column.name]) for column in table.columns]


def _as_sent(kind: Kind, value: Any) -> Any:
    if value is None:
        return None
    if kind is Kind.JSON:
        return msgspec.json.decode(value)
    return bool(value) if kind is Kind.BOOLEAN else value


def stored_rows(conn: sqlite3.Connection, table: Table, ids: Sequence[str]) -> dict[str, StoredRow]:
    """Those of the rows that are here, by id, with `feed_no`."""
    names = (*table.column_names, "feed_no")
    found = conn.execute(f"SELECT {', '.join(names)} FROM {table.name} WHERE id IN (SELECT value FROM json_each(?))", (_json(ids),))
    return {values[0]: dict(zip(names, values, strict=True)) for values in found}


def put_right(conn: sqlite3.Connection, place: Place, ids: Sequence[str], answer: VerifyAnswer) -> Repair:
    """Makes rows of one place what the server says of them; `answer` is its answer to the question for the rows `ids`.

    What the server has replaces what is here, whatever number that has; queued changes stay on top. What was deleted there is deleted here.
    What the server knows nothing of is deleted where it is the server's word alone; a row that devices write is kept, for it may be the only one
    left. Raises BlockError for an answer that cannot be read.
    """
    table = TABLES[place.table]
    numbers = {row_id: row["feed_no"] for row_id, row in stored_rows(conn, table, ids).items()}
    conn.execute(f"UPDATE {table.name} SET feed_no = 0 WHERE id IN (SELECT value FROM json_each(?))", (_json(ids),))
    conn.execute(
        "UPDATE shadows SET data = json_set(data, '$.feed_no', 0) WHERE table_name = ? AND row_id IN (SELECT value FROM json_each(?))",
        (table.name, _json(ids)),
    )
    written = inbox.apply_tables(conn, {name: block for name, block in answer.tables.items() if name == table.name})
    here = {
        row_id
        for row_id, row in stored_rows(conn, table, ids).items()
        if row["feed_no"] == 0 and (table.scope_column is None or row[table.scope_column] == _subject(place))
    }
    buried = {tombstone.row_id for tombstone in answer.tombstones if tombstone.table == table.name}
    gone = here if table.policy is Policy.SERVER else here & buried
    removed = _remove(conn, table, sorted(gone))
    kept = tuple(sorted(here - gone))
    # They go on counting as the server's, so that the next comparison finds them too.
    conn.executemany(f"UPDATE {table.name} SET feed_no = ? WHERE id = ?", [(numbers[row_id], row_id) for row_id in kept])
    return Repair(written, removed, kept, _has_operations(conn, table, kept))


def _remove(conn: sqlite3.Connection, table: Table, ids: Sequence[str]) -> int:
    """Deletes rows without queued changes; returns how many."""
    if table.name == "question_attempts":
        conn.execute(
            "INSERT OR REPLACE INTO mastery_stale (student_id)"
            " SELECT DISTINCT student_id FROM question_attempts WHERE id IN (SELECT value FROM json_each(?))",
            (_json(ids),),
        )
    return conn.execute(
        f"DELETE FROM {table.name} WHERE id IN (SELECT value FROM json_each(?))"
        f" AND NOT EXISTS (SELECT 1 FROM sync_operations o WHERE o.state = 'pending' AND o.row_id = {table.name}.id)",
        (_json(ids),),
    ).rowcount


def _has_operations(conn: sqlite3.Connection, table: Table, ids: Sequence[str]) -> bool:
    """Whether the log still has an operation of one of the rows."""
    return bool(
        conn.execute(
            "SELECT EXISTS (SELECT 1 FROM sync_operations"
            " WHERE state = 'synced' AND table_name = ? AND row_id IN (SELECT value FROM json_each(?)))",
            (table.name, _json(ids)),
        ).fetchone()[0]
    )


def _json(ids: Iterable[str]) -> str:
    return msgspec.json.encode(list(ids)).decode()
