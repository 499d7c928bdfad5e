"""What can still be read of a damaged database: its rows and operations, taken one by one and believed only as far as they are well formed.

SQLite stops at a page that it cannot read, and everything behind that page is out of its reach, so each table is read from both ends. None of
it is the last word: operations of the journal come before those found here, and rows stand only until the school has sent its own.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from daemon.recovery.journal_file import KeptOperation
from domain.ids import is_id
from domain.operations import OperationKind, OperationState
from domain.registry import TABLES, Table
from migrations.pragmas import SAFE

BUSY_TIMEOUT_S = 5.0
# A b-tree whose pages lead in a circle has no end.
ROWS_MAX = 10_000_000
# The second because SQLite quotes what it has read in its messages.
_UNREADABLE = (sqlite3.Error, UnicodeDecodeError)
# No machine's: the times of an operation whose boot cannot be read are guesses.
UNKNOWN_BOOT = "0" * 32
_OPERATION_COLUMNS = (
    "op_no", "op_id", "table_name", "row_id", "kind", "schema_version", "hlc", "wall_ms", "mono_ms", "boot_no", "payload", "base",
    "state", "code", "message",
)  # fmt: skip
_INTEGERS = ("op_no", "schema", "hlc", "wall_ms", "mono_ms")
_TEXTS = ("base", "code", "message")


class Damaged:
    """A damaged database that was set aside and is open for reading. Nothing here raises for what cannot be read."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn

    def identity(self) -> dict[str, Any] | None:
        """The row of `identity`, if it can be read whole."""
        with suppress(*_UNREADABLE):
            cursor = self._conn.execute("SELECT * FROM identity")
            names = [column[0] for column in cursor.description]
            for row in cursor:
                return dict(zip(names, map(_decoded, row), strict=True))
        return None

    def operations(self) -> Iterator[KeptOperation]:
        """Operations of any state that can be read, in no order."""
        boots: dict[Any, Any] = dict(self._from_both_ends("boots", ("boot_no", "boot_id"), "boot_no"))
        for row in self._from_both_ends("sync_operations", _OPERATION_COLUMNS, "op_no"):
            operation = KeptOperation(*row)
            operation = operation._replace(boot_id=boots.get(operation.boot_id, UNKNOWN_BOOT))
            if _is_well_formed(operation):
                yield operation

    @staticmethod
    def columns_of(table: Table) -> tuple[str, ...]:
        """The columns of a synced table that are worth keeping, `id` first; not the feed number, which is to be told anew."""
        return (*table.column_names, "_extra")

    def rows(self, table: Table) -> Iterator[Sequence[Any]]:
        """Rows of a synced table that can be read: the columns of `columns_of`, as stored."""
        yield from self._from_both_ends(table.name, self.columns_of(table), "id" if table.name == "question_attempts" else "rowid")

    def scopes(self) -> Iterator[str]:
        """The scopes that the device followed."""
        for (scope,) in self._from_both_ends("cursors", ("scope",), "scope"):
            if isinstance(scope, str):
                yield scope

    def _from_both_ends(self, source: str, columns: Sequence[str], key: str) -> Iterator[tuple[Any, ...]]:
        reached: Any = None
        for order in ("", " DESC"):
            scan = _Scan(self._conn, f"SELECT {key}, {', '.join(columns)} FROM {source} ORDER BY {key}{order}", reached)
            yield from scan.rows()
            if scan.is_complete:
                return
            reached = scan.reached


class _Scan:
    """One way through a table, by a key: to its end, to the key `until`, or to a page that cannot be read."""

    def __init__(self, conn: sqlite3.Connection, query: str, until: Any) -> None:
        self._conn, self._query, self._until = conn, query, until
        self.reached: Any = None
        self.is_complete = False

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows without the key. Afterwards `reached` is the last key, and `is_complete` says that nothing is left between the ways."""
        with suppress(*_UNREADABLE):
            for number, (key, *row) in enumerate(self._conn.execute(self._query)):
                if key == self._until:
                    break
                if key == self.reached or number > ROWS_MAX:
                    return
                self.reached = key
                with suppress(UnicodeDecodeError):
                    yield tuple(map(_decoded, row))
            self.is_complete = True


@contextmanager
def opened(path: Path) -> Iterator[Damaged]:
    """Opens a damaged database that nobody else has open."""
    uri = f"{path.absolute().as_uri()}?mode=rw"  # not mode=ro: a -wal without its -shm could not be read
    with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as conn:
        conn.text_factory = bytes  # a text that is no UTF-8 spoils its own row only
        with suppress(*_UNREADABLE):
            for name, value in {**SAFE, "query_only": 1}.items():
                conn.execute(f"PRAGMA {name} = {value}")
        yield Damaged(conn)


def _decoded(value: Any) -> Any:
    return value.decode("utf-8") if isinstance(value, bytes) else value


def _is_well_formed(operation: KeptOperation) -> bool:
    return (
        all(type(getattr(operation, name)) is int for name in _INTEGERS)
        and all(_is_text(getattr(operation, name), is_id) for name in ("op_id", "row_id"))
        and all(getattr(operation, name) is None or isinstance(getattr(operation, name), str) for name in _TEXTS)
        and operation.table in TABLES
        and operation.kind in set(OperationKind)
        and operation.state in set(OperationState)
        and isinstance(operation.boot_id, str)
        and _is_json_object(operation.payload)
        and (operation.base is None or _is_json_object(operation.base))
    )


def _is_text(value: Any, rule: Callable[[str], bool]) -> bool:
    return isinstance(value, str) and rule(value)


def _is_json_object(text: Any) -> bool:
    try:
        return isinstance(text, str) and isinstance(msgspec.json.decode(text), dict)
    except msgspec.DecodeError:
        return False
