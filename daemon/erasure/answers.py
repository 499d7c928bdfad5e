"""What the school has let go of, let go of here too: what was answered, of attempts that came to school long ago (docs/protocol.md, section 13).

The school's word waits among the cursors of this device until it is carried out, as orders to erase a student do. What is still queued keeps its answer until
it is settled, and is looked at again then. Every function takes the connection of a transaction that its caller holds.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from domain.registry import TABLES
from domain.wire import AnswersLetGo

# Rows that one write looks through, so that no write transaction gets long.
ROWS_MAX = 5_000

_TABLE = TABLES["question_attempts"]
# The school's word, in its two parts, and what of it is carried out. A new life of the server sets all of them to 0, as it does with cursors.
_TOLD = ("answers:through_no", "answers:before_ms")
_DONE = ("answers:through_no:done", "answers:before_ms:done")
# Stands among the cursors while something has come that may hold an answer as it was before.
_AGAIN = "answers:again"
# And while the files still have the bytes of what went.
_TRACES = "answers:traces"
_PUT_UP = "INSERT OR IGNORE INTO cursors (scope, cursor) VALUES (?, 0)"
_RAISE = "INSERT INTO cursors (scope, cursor) VALUES (?, ?) ON CONFLICT (scope) DO UPDATE SET cursor = max(cursor, excluded.cursor)"
_SET = "INSERT INTO cursors (scope, cursor) VALUES (?, ?) ON CONFLICT (scope) DO UPDATE SET cursor = excluded.cursor"

# What a newer app says of an answer goes with it: nobody here knows what it is.
_COLUMNS = (*_TABLE.let_go, "_extra")
_BLANK_ROWS = (
    f"UPDATE {_TABLE.name} SET {', '.join(f'{name} = NULL' for name in _COLUMNS)} WHERE id > :after AND id <= :last"
    " AND (feed_no BETWEEN 1 AND :through_no"
    " OR feed_no = 0 AND id IN (SELECT r.row_id FROM sync_operations r WHERE r.state = 'rejected' AND r.settled_at_ms < :before_ms))"
    f" AND ({' OR '.join(f'{name} IS NOT NULL' for name in _COLUMNS)})"
    f" AND NOT EXISTS (SELECT 1 FROM sync_operations o WHERE o.state = 'pending' AND o.row_id = {_TABLE.name}.id)"
)
_HELD = " OR ".join(f"json_extract(payload, '$.{name}') IS NOT NULL" for name in _TABLE.let_go)
_NULLS = ", ".join(f"'$.{name}', NULL" for name in _TABLE.let_go)
# A payload that is damaged may hold anything.
_BLANK_OPERATIONS = (
    f"UPDATE sync_operations SET payload = iif(json_valid(payload), json_replace(payload, {_NULLS}), '{{}}') WHERE op_no > :after AND op_no <= :last"
    f" AND state <> 'pending' AND table_name = '{_TABLE.name}' AND (settled_at_ms < :before_ms"
    f" OR EXISTS (SELECT 1 FROM {_TABLE.name} a WHERE a.id = row_id AND a.feed_no BETWEEN 1 AND :through_no))"
    f" AND CASE WHEN json_valid(payload) THEN {_HELD} ELSE 1 END"
)


class Place(NamedTuple):
    """How far attempts and operations have been looked through."""

    attempt: str = ""
    op_no: int = 0


class Step(NamedTuple):
    """How many answers went, and how far was looked; None when that was everything."""

    gone: int
    place: Place | None


def note(conn: sqlite3.Connection, told: AnswersLetGo | None) -> None:
    """Notes the school's word, in the write that applies the page which brought it. What an older page says counts for nothing."""
    if told is not None:
        conn.executemany(_RAISE, zip(_TOLD, (told.through_no, told.before_ms), strict=True))


def told(conn: sqlite3.Connection) -> AnswersLetGo:
    """The school's word; zeros while there is none."""
    return _read(conn, _TOLD)


def were_let_go(conn: sqlite3.Connection) -> bool:
    """Whether the school has ever let go of answers, in this life of the server or in one before."""
    return _stands(conn, _TOLD[0])


def due(conn: sqlite3.Connection) -> AnswersLetGo | None:
    """The school's word, if it is not carried out. Not before everything is here that is being pulled from 0: it has no numbers yet."""
    wanted = told(conn)
    if wanted == _read(conn, _DONE) and not is_to_look_again(conn):
        return None
    return None if conn.execute("SELECT 1 FROM sync_progress WHERE rebaselining <> 'no'").fetchone() else wanted


def is_to_look_again(conn: sqlite3.Connection) -> bool:
    """Whether something has come since the last look began that may hold an answer as it was before."""
    return _stands(conn, _AGAIN)


def let_go(conn: sqlite3.Connection, wanted: AnswersLetGo, after: Place) -> Step:
    """Looks through the next ROWS_MAX attempts and as many operations, and lets go of the answers among them that are to go."""
    if after == Place():  # begun, it is due until it is carried out
        conn.executemany("DELETE FROM cursors WHERE scope = ?", [(note,) for note in (_AGAIN, *_DONE)])
    last = Place(_last(conn, _TABLE.name, "id", after.attempt), _last(conn, "sync_operations", "op_no", after.op_no))
    reach = {"through_no": wanted.through_no, "before_ms": wanted.before_ms}
    looks = ((_BLANK_ROWS, after.attempt, last.attempt), (_BLANK_OPERATIONS, after.op_no, last.op_no))
    gone = sum(conn.execute(statement, {**reach, "after": begin, "last": end}).rowcount for statement, begin, end in looks)
    if gone:
        conn.execute(_PUT_UP, (_TRACES,))
    return Step(gone, None if last == after else last)


def _last(conn: sqlite3.Connection, table: str, key: str, after: Any) -> Any:
    """The key of the last of the next ROWS_MAX rows behind `after`; that itself when there are none."""
    found = conn.execute(f"SELECT max({key}) FROM (SELECT {key} FROM {table} WHERE {key} > ? ORDER BY {key} LIMIT ?)", (after, ROWS_MAX))
    return found.fetchone()[0] or after


def left_traces(conn: sqlite3.Connection) -> bool:
    """Whether answers went since the school's word was carried out last, whatever ended the process meanwhile: the files are to be written anew."""
    return _stands(conn, _TRACES)


def conclude(conn: sqlite3.Connection, wanted: AnswersLetGo) -> None:
    """Notes that the school's word is carried out, and the files are written anew."""
    conn.executemany(_SET, zip(_DONE, (wanted.through_no, wanted.before_ms), strict=True))
    conn.execute("DELETE FROM cursors WHERE scope = ?", (_TRACES,))


def note_settled(conn: sqlite3.Connection, first_feed_no: int) -> None:
    """Operations were settled, whose rows have numbers from this one on: the school may have let go of their answers before."""
    if first_feed_no <= told(conn).through_no:
        _look_again(conn)


def note_arrived(conn: sqlite3.Connection, columns: Mapping[str, Sequence[Any]]) -> None:
    """Rows came, by stick perhaps, as they were before the school let go of their answers. `columns` has those of a newer server, too."""
    through_no = told(conn).through_no
    old = [place for place, feed_no in enumerate(columns["feed_no"]) if feed_no <= through_no]
    kept = {*_TABLE.column_names, "feed_no"}.difference(_TABLE.let_go)
    if any(columns[name][place] is not None for name in columns.keys() - kept for place in old):
        _look_again(conn)


def _look_again(conn: sqlite3.Connection) -> None:
    conn.execute(_PUT_UP, (_AGAIN,))


def _stands(conn: sqlite3.Connection, note: str) -> bool:
    return conn.execute("SELECT 1 FROM cursors WHERE scope = ?", (note,)).fetchone() is not None


def _read(conn: sqlite3.Connection, names: tuple[str, str]) -> AnswersLetGo:
    found = dict(conn.execute("SELECT scope, cursor FROM cursors WHERE scope IN (?, ?)", names))
    return AnswersLetGo(*(found.get(name, 0) for name in names))
