"""The inbox: what comes down from the server becomes visible rows.

Every function takes the connection of a `DeviceDatabase.write` that its caller holds; a page and its cursors are one transaction. A row with
changes still queued keeps the server's version as a shadow: what is shown is the shadow with the queued changes laid over it, and one
such row never holds up another.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from daemon.erasure import answers as erasure_answers
from daemon.erasure import orders as erasure_orders
from daemon.queue import outbox
from daemon.queue.accepted_later import settle_accepted
from daemon.queue.shown_rows import under_queued
from domain.blocks import TableBlock, decode_block
from domain.registry import TABLE_ORDER, TABLES, Kind, Policy, ScopeKind, Table, tables_in
from domain.wire import PullAnswer, Tombstone

# Stand among the cursors, before a scope's name: it was lost while rows of it had changes queued, which go when those are settled; it was gained
# and has not been here whole yet.
_LEFTOVER, _FILLING = "leftover:", "filling:"
# After so long without a page, what was begun to be pulled from 0 is begun again: deletions of what came first may be forgotten.
FILLING_MAX_MS = 30 * 24 * 3600 * 1000


def read_cursors(conn: sqlite3.Connection) -> dict[str, int]:
    """The cursor of every scope that this device follows."""
    return dict(conn.execute("SELECT scope, cursor FROM cursors WHERE scope = 'school' OR scope LIKE 'class:%' OR scope LIKE 'student:%'"))


def read_filling(conn: sqlite3.Connection) -> list[str]:
    """The scopes that were gained and are on their way."""
    return _noted(conn, _FILLING)


def _noted(conn: sqlite3.Connection, note: str) -> list[str]:
    found = conn.execute("SELECT scope FROM cursors WHERE scope LIKE ? || '%' ORDER BY scope", (note,))
    return [scope.removeprefix(note) for (scope,) in found]


def is_filling_stale(conn: sqlite3.Connection, now_ms: int) -> bool:
    """Whether something that was begun to be pulled from 0 has waited for too long. A clock that is wrong costs a fetch, and nothing else."""
    row = conn.execute("SELECT last_pull_ms FROM sync_progress").fetchone()
    waited = row is not None and row[0] is not None and abs(now_ms - row[0]) > FILLING_MAX_MS
    return waited and (is_rebaselining(conn) or bool(read_filling(conn)))


def forget_stale_filling(conn: sqlite3.Connection) -> bool:
    """Begins again what `is_filling_stale` found; gained scopes are left to the server, which says whether it still knows their deletions.

    Whether everything begins again: then this device's own rows have lost their numbers too, and its log needs a new incarnation to get them.
    """
    conn.execute("DELETE FROM cursors WHERE scope LIKE ? || '%'", (_FILLING,))
    (mode,) = conn.execute("SELECT rebaselining FROM sync_progress").fetchone()
    if mode != "no":
        start_over(conn, server_lost_something=mode == "server_rows")
    return bool(mode != "no")


def apply_page(conn: sqlite3.Connection, page: PullAnswer, now_ms: int) -> int:
    """Applies one pulled page with its cursors; returns the number of rows. Raises BlockError for a page that cannot be read."""
    erasure_orders.note(conn, page.erasures)
    erasure_answers.note(conn, page.answers_let_go)
    rows = apply_tables(conn, page.tables)
    settle_accepted(conn, page.tables)
    for tombstone in page.tombstones:
        _bury(conn, tombstone)
    for scope in page.lost:
        _evict(conn, scope)
    conn.executemany(
        "INSERT INTO cursors (scope, cursor) VALUES (?, ?) ON CONFLICT (scope) DO UPDATE SET cursor = excluded.cursor",
        page.cursors.items(),
    )
    if page.has_more:
        conn.executemany("INSERT OR IGNORE INTO cursors (scope, cursor) VALUES (?, 0)", [(_FILLING + scope,) for scope in page.gained])
    else:
        conn.execute("DELETE FROM cursors WHERE scope LIKE ? || '%'", (_FILLING,))
        _finish_rebaselining(conn)
    conn.execute("UPDATE sync_progress SET last_pull_ms = ?", (now_ms,))
    return rows


def start_over(conn: sqlite3.Connection, *, server_lost_something: bool = True) -> None:
    """Forgets how far this device had come: everything is pulled again from 0.

    Cursors stay by name, so that the server can say which scopes were lost. Rows lose their number, so that whatever comes replaces them. Rows
    that do not come go in the end: only the server's own words when it has lost something, for then this device may have the last copy of a
    student's row; students' rows as well when the server has everything and this device was away for too long to hear of deletions.
    """
    conn.execute("UPDATE cursors SET cursor = 0")
    for table in TABLES:
        conn.execute(f"UPDATE {table} SET feed_no = 0 WHERE feed_no <> 0")
    conn.execute("UPDATE shadows SET data = json_set(data, '$.feed_no', 0)")
    # Once the server has lost something, a second start does not make it safe to let go.
    conn.execute(
        "UPDATE sync_progress SET rebaselining = CASE WHEN ? OR rebaselining = 'server_rows' THEN 'server_rows' ELSE 'all_rows' END",
        (server_lost_something,),
    )


def is_rebaselining(conn: sqlite3.Connection) -> bool:
    """Whether everything is being pulled from 0."""
    return bool(conn.execute("SELECT 1 FROM sync_progress WHERE rebaselining <> 'no'").fetchone())


def _finish_rebaselining(conn: sqlite3.Connection) -> None:
    """Everything was pulled again: a row that was not among it is no more (`start_over` says which). What is not settled stays in any case."""
    (mode,) = conn.execute("SELECT rebaselining FROM sync_progress").fetchone() or ("no",)
    if mode == "no":
        return
    for table in TABLES.values():
        if table.policy is Policy.SERVER:
            conn.execute(f"DELETE FROM {table.name} WHERE feed_no = 0")
        elif mode == "all_rows":
            _forget_unnumbered(conn, table)
    conn.execute("UPDATE sync_progress SET rebaselining = 'no'")


def _forget_unnumbered(conn: sqlite3.Connection, table: Table) -> None:
    """Deletes students' rows without a number, but for those whose own operation is queued or was rejected: the server never had them."""
    gone = f"feed_no = 0 AND NOT EXISTS (SELECT 1 FROM sync_operations o WHERE o.state <> 'synced' AND o.row_id = {table.name}.id)"
    if table.name == "question_attempts":
        conn.execute(f"INSERT OR REPLACE INTO mastery_stale (student_id) SELECT DISTINCT student_id FROM question_attempts WHERE {gone}")
    conn.execute(f"DELETE FROM {table.name} WHERE {gone}")


def apply_tables(conn: sqlite3.Connection, tables: Mapping[str, TableBlock]) -> int:
    """Applies blocks of rows, parents first; tables that this version does not know are passed over. Returns the number of rows."""
    applied = 0
    for name in sorted(tables.keys() & TABLES.keys(), key=TABLE_ORDER.__getitem__):
        table = TABLES[name]
        known, unknown = decode_block(table, tables[name])
        if table.policy is Policy.LAST_WRITER:
            _apply_mergeable(conn, table, _rows(table, known, unknown))
        else:
            _upsert(conn, table, _columns_for(table, known, unknown))
        if name == "question_attempts":
            students = set(known["student_id"])
            conn.executemany("INSERT OR REPLACE INTO mastery_stale (student_id) VALUES (?)", [(s,) for s in students])
            erasure_answers.note_arrived(conn, {**unknown, **known})
        elif name == "questions":  # which concepts a question counts for may have changed
            conn.execute("INSERT OR REPLACE INTO mastery_stale (student_id) SELECT DISTINCT student_id FROM question_attempts")
        applied += tables[name].n
    return applied


def apply_content(conn: sqlite3.Connection, tables: Mapping[str, TableBlock]) -> int:
    """Applies a content pack: rows of the school's content, wherever they are newer than what is here. Returns the rows offered."""
    content = {t.name for t in tables_in(ScopeKind.SCHOOL)} - {"users"}
    return apply_tables(conn, {name: block for name, block in tables.items() if name in content})


def _columns_for(table: Table, known: Mapping[str, list[Any]], unknown: Mapping[str, list[Any]]) -> list[Sequence[Any]]:
    """The columns as they are stored: registry order, feed_no, _extra."""
    count = len(known["feed_no"])
    columns: list[Sequence[Any]] = [_stored(known[c.name]) if c.kind is Kind.JSON else known[c.name] for c in table.columns]
    extra: Sequence[Any] = [None] * count
    if unknown:
        extra = _stored([{name: values[i] for name, values in unknown.items() if values[i] is not None} or None for i in range(count)])
    return [*columns, known["feed_no"], extra]


def _stored(values: Iterable[Any]) -> list[str | None]:
    return [None if v is None else msgspec.json.encode(v).decode() for v in values]


def _upsert(conn: sqlite3.Connection, table: Table, columns: Sequence[Sequence[Any]]) -> None:
    """Writes whole rows, each where it is not older than what is here."""
    names = [*table.column_names, "feed_no", "_extra"]
    conn.executemany(_upsert_sql(table, names), zip(*columns, strict=True))


def _upsert_sql(table: Table, names: Sequence[str]) -> str:
    replaced = ", ".join(f"{n} = excluded.{n}" for n in names[1:])
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"
        f" ON CONFLICT (id) DO UPDATE SET {replaced} WHERE excluded.feed_no >= {table.name}.feed_no"
    )


def _rows(table: Table, known: Mapping[str, list[Any]], unknown: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The rows as stored, by column name; only the few tables whose rows are merged go through this."""
    names = [*table.column_names, "feed_no", "_extra"]
    return [dict(zip(names, values, strict=True)) for values in zip(*_columns_for(table, known, unknown), strict=True)]


def _apply_mergeable(conn: sqlite3.Connection, table: Table, rows: Sequence[dict[str, Any]]) -> None:
    pending = outbox.queued_changes(conn, table.name, [row["id"] for row in rows])
    shadows = [
        (table.name, row["id"], msgspec.json.encode({n: v for n, v in row.items() if n != "id"}).decode())
        for row in rows
        if row["id"] in pending
    ]
    conn.executemany("INSERT OR REPLACE INTO shadows (table_name, row_id, data) VALUES (?, ?, ?)", shadows)
    writer = _device_id(conn) if pending else ""
    shown = [under_queued(table, row, pending[row["id"]], writer) if row["id"] in pending else row for row in rows]
    names = [*table.column_names, "feed_no", "_extra"]
    conn.executemany(_upsert_sql(table, names), [[row[n] for n in names] for row in shown])
    replaced = [(table.name, row["id"]) for row in rows if row["id"] not in pending]
    conn.executemany("DELETE FROM shadows WHERE table_name = ? AND row_id = ?", replaced)


def _device_id(conn: sqlite3.Connection) -> str:
    row = conn.execute("SELECT device_id FROM identity").fetchone()
    return str(row[0]) if row else ""


def release_shadows(conn: sqlite3.Connection) -> None:
    """Once a push is settled: rows whose last change was rejected, and that have no other one queued, go back to their shadow.

    A change that was applied or merged stays on show: the merged row comes with the next pull, unless it has come before (`settle_shadows`).
    """
    accepted_since = "SELECT 1 FROM sync_operations a WHERE a.state = 'synced' AND a.row_id = r.row_id AND a.op_no > r.op_no"
    rejected = f"SELECT 1 FROM sync_operations r WHERE r.state = 'rejected' AND r.row_id = s.row_id AND NOT EXISTS ({accepted_since})"
    _go_back(conn, f"EXISTS ({rejected})")


def settle_shadows(conn: sqlite3.Connection) -> None:
    """Once everything was pulled that the server had after a push: rows without queued changes are as the server has them.

    Most had that row among the pages, and no shadow any more. For the others it had come before the push was answered, by stick or on the way of
    another copy, and was laid under the change.
    """
    _go_back(conn, "1")


def _go_back(conn: sqlite3.Connection, which: str) -> None:
    free = conn.execute(
        "SELECT s.table_name, s.row_id, s.data FROM shadows s"
        f" WHERE {which} AND NOT EXISTS (SELECT 1 FROM sync_operations o WHERE o.state = 'pending' AND o.row_id = s.row_id)"
    ).fetchall()
    for table_name, row_id, data in free:
        fields = msgspec.json.decode(data)
        assignments = ", ".join(f"{n} = ?" for n in fields)
        conn.execute(f"UPDATE {TABLES[table_name].name} SET {assignments} WHERE id = ?", (*fields.values(), row_id))
        conn.execute("DELETE FROM shadows WHERE table_name = ? AND row_id = ?", (table_name, row_id))


def _bury(conn: sqlite3.Connection, tombstone: Tombstone) -> None:
    """Deletes a row that was deleted on the server, unless a newer version of it is here already."""
    if tombstone.table == "question_attempts":
        conn.execute(
            "INSERT OR REPLACE INTO mastery_stale (student_id) SELECT student_id FROM question_attempts WHERE id = ?", (tombstone.row_id,)
        )
    if tombstone.table in TABLES:
        conn.execute(f"DELETE FROM {tombstone.table} WHERE id = ? AND feed_no <= ?", (tombstone.row_id, tombstone.feed_no))


def _evict(conn: sqlite3.Connection, scope: str) -> int:
    """Forgets a scope that this device may no longer hold: the number of rows that went. That is no deletion; rows with queued changes stay until
    those are settled.
    """
    kind, _, subject = scope.partition(":")
    gone = left = 0
    for table in tables_in(ScopeKind(kind)) if kind in set(ScopeKind) else ():
        where, parameters = (f"{table.scope_column} = ?", [subject]) if table.scope_column else ("1", [])
        gone += conn.execute(
            f"DELETE FROM {table.name} WHERE {where} AND NOT EXISTS (SELECT 1 FROM sync_operations o"
            f" WHERE o.state = 'pending' AND o.row_id = {table.name}.id)",
            parameters,
        ).rowcount
        left += conn.execute(f"SELECT EXISTS (SELECT 1 FROM {table.name} WHERE {where})", parameters).fetchone()[0]
    if kind == ScopeKind.STUDENT:
        for derived in ("concept_mastery", "mastery_stale", "student_sessions", "student_pins", "sign_in_tries"):
            conn.execute(f"DELETE FROM {derived} WHERE student_id = ?", (subject,))
    conn.execute("DELETE FROM cursors WHERE scope IN (?, ?, ?)", (scope, _LEFTOVER + scope, _FILLING + scope))
    if left:
        conn.execute("INSERT INTO cursors (scope, cursor) VALUES (?, 0)", (_LEFTOVER + scope,))
    return gone


def note_leftovers(conn: sqlite3.Connection) -> None:
    """Rows of students whom this device does not follow are here again, because their operations were queued again: notes that they are to go."""
    for table in tables_in(ScopeKind.STUDENT):
        scope = f"'{ScopeKind.STUDENT}:' || {table.scope_column}"
        conn.execute(
            f"INSERT OR IGNORE INTO cursors (scope, cursor) SELECT DISTINCT ? || {scope}, 0 FROM {table.name}"
            f" WHERE {scope} NOT IN (SELECT scope FROM cursors)",
            (_LEFTOVER,),
        )


def evict_leftovers(conn: sqlite3.Connection) -> None:
    """Once a push is settled: what is left of lost scopes goes, as far as nothing of it is queued any more."""
    for scope in _noted(conn, _LEFTOVER):
        if conn.execute("SELECT 1 FROM cursors WHERE scope = ?", (scope,)).fetchone():
            conn.execute("DELETE FROM cursors WHERE scope = ?", (_LEFTOVER + scope,))  # it came back
        elif _evict(conn, scope):
            outbox.note_absent(conn)
