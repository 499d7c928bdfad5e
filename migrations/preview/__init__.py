"""The SQL that an upgrade or downgrade would run, in order, as a script for `sqlite3` or `psql`; the database is only read.

SQLite      the file is copied into memory with the backup API and migrated there; what SQLite executed is the script, exactly.
PostgreSQL  every session is read-only. Declared statements are recorded instead of executed; the Python of a file (`migrator.run`, and
            peewee-migrate's own operations) may read, sees the database as it is now, and what it writes is recorded.

The statements are those of the real run, transactions and history rows included, so that the script leaves what the tool would leave.
What a script cannot know stands in it as a comment.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources.abc import Traversable

from domain.clock import SystemClock
from migrations.engines import Engine, Limits, SqliteEngine, open_engine
from migrations.files import Kind, files_in, shipped_files
from migrations.history import Direction, app_version
from migrations.preview.postgres import PostgresReader
from migrations.preview.router import PreviewRouter
from migrations.preview.script import Script
from migrations.preview.sqlite import SqliteCopy
from migrations.runner import Migrations

_COMMON_HEADER = (
    "-- Nothing was changed to write this. It takes no lock: no other process may migrate meanwhile.",
    "-- Not known here: how long it takes (duration_ms tells of the preview) and when it runs (applied_at_ms is the time of writing).",
)
_SQLITE_HEADER = (
    "-- For `sqlite3 FILE`. Statements that a file's Python makes from rows are those for the rows as they are now.",
    "-- The tool takes a migration back when foreign_key_check finds a row; this script only shows it.",
    ".bail on",
)
_POSTGRES_HEADER = (
    "-- For `psql`. The tool tries again when a table is locked; this script stops there, and that migration is undone.",
    "-- Statements that a file's Python makes from rows are those for the rows as they are now, before any statement below has run.",
    r"\set ON_ERROR_STOP on",
)


def sql_of(kind: Kind, url: str, *, direction: Direction, target: str, folder: Traversable | None = None) -> Iterator[str]:
    """The script, one statement or comment at a time, each to be written as a line or lines of its own.

    `target` as in `Migrations.upgrade` and `.downgrade`; an empty script says so. Everything is worked out before the first line is
    given, so that no half script is ever printed. Raises as `upgrade` and `downgrade` do, and SchemaError when Python in a file reads
    what only an earlier pending file makes, on PostgreSQL.
    """
    files = shipped_files(kind) if folder is None else files_in(folder)
    script = Script()
    engine = _recording_engine(kind, url, script)
    try:
        migrations = Migrations(engine, files, Limits(attempts=1), SystemClock(), router=PreviewRouter)
        script.applied = [entry.name for entry in migrations.history() if entry.row]
        before = migrations.current()
        if direction == "up":
            migrations.upgrade(target, script.begin)
        else:
            migrations.downgrade(target, script.begin)
    finally:
        engine.close()
    yield from _header(kind, before, script.names, direction)
    yield from script.lines


def _header(kind: Kind, before: str | None, names: list[str], direction: Direction) -> Iterator[str]:
    if not names:
        yield f"-- Carrel {app_version()}: nothing to do, the {kind} database is at {before or 'nothing'}."
        return
    verb = "apply" if direction == "up" else "take back"
    yield f"-- Carrel {app_version()}: {verb} {', '.join(names)} on the {kind} database that is at {before or 'nothing'}."
    yield from _COMMON_HEADER
    yield from _SQLITE_HEADER if kind == "device" else _POSTGRES_HEADER


def _recording_engine(kind: Kind, url: str, script: Script) -> Engine:
    limits = Limits(attempts=1)
    engine = open_engine(kind, url, limits)  # which refuses an address that does not fit
    if isinstance(engine, SqliteEngine):
        return SqliteCopy(engine.path, script, limits)
    return PostgresReader(url, script, limits)
