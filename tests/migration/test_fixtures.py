"""Databases of every schema that was shipped go to head with nothing lost, and every migration goes up, down and up on rows."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from migrations.files import Kind, MigrationFile, shipped_files
from tests.migration.conftest import Folder, Target
from tests.migration.make_fixtures import fixture_path

KINDS: tuple[Kind, ...] = ("device", "cloud")
RELEASED = [(kind, file) for kind in KINDS for file in shipped_files(kind)]
each_release = pytest.mark.parametrize(("kind", "file"), RELEASED, ids=lambda value: getattr(value, "name", value))
Rows = dict[str, list[dict[str, str]]]


@pytest.fixture
def database(kind: Kind, file: MigrationFile, request: pytest.FixtureRequest, tmp_path: Path, folder: Folder) -> Target:
    """The kept database that stands at `file`, and the shipped files."""
    dump = fixture_path(kind, file.name).read_text()
    for shipped in shipped_files(kind):
        (folder.path / f"{shipped.name}.py").write_bytes(shipped.source)
    if kind == "device":
        path = tmp_path / "carrel.db"
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(dump)
        return Target("device", f"sqlite:///{path}", folder)
    url: str = request.getfixturevalue("fresh_database")
    with closing(psycopg2.connect(url)) as server, server, server.cursor() as cursor:
        cursor.execute(dump)
    return Target("cloud", url, folder)


def rows_of(target: Target) -> Rows:
    """Every row of every table, as {column: text}."""
    found: Rows = {}
    with target.connected() as sql:
        for table in sorted(target.tables()):
            names = [name for (name,) in sql(_columns(target.kind, table))]
            rows = sql(f"SELECT {', '.join(names)} FROM {table}")
            found[table] = sorted(({name: _text(value) for name, value in zip(names, row, strict=True)} for row in rows), key=str)
    return found


def _text(value: Any) -> str:
    return repr(bytes(value) if isinstance(value, memoryview) else value)


def _columns(kind: Kind, table: str) -> str:
    if kind == "device":
        return f"SELECT name FROM pragma_table_info('{table}')"
    return f"SELECT column_name::text FROM information_schema.columns WHERE table_name = '{table}' ORDER BY ordinal_position"


def lost(before: Rows, after: Rows) -> list[str]:
    """What is not there any more: tables, columns, rows and values. What came is not looked at."""
    missing = []
    for table, rows in before.items():
        if table not in after:
            missing.append(f"table {table}")
            continue
        kept = set(after[table][0]) if after[table] else set(rows[0]) if rows else set()
        missing += [f"column {table}.{name}" for name in (rows[0] if rows else ()) if name not in kept]
        left = [{name: row[name] for name in (rows[0] if rows else ()) if name in row} for row in after[table]]
        missing += [f"row of {table}: {row}" for row in rows if {name: row[name] for name in row if name in kept} not in left]
        if len(after[table]) < len(rows):
            missing.append(f"{len(rows) - len(after[table])} rows of {table}")
    return missing


@each_release
def test_every_shipped_schema_has_a_kept_database(kind: Kind, file: MigrationFile) -> None:
    assert fixture_path(kind, file.name).exists(), "python -m tests.migration.make_fixtures"


@each_release
def test_a_kept_database_is_populated_and_has_operations_pending(database: Target) -> None:
    rows = rows_of(database)
    assert [table for table, content in rows.items() if not content] == []
    if database.kind == "device":
        assert "'pending'" in {row["state"] for row in rows["sync_operations"]}


@each_release
def test_it_goes_to_head_with_nothing_lost(database: Target, file: MigrationFile) -> None:
    before = rows_of(database)
    database.upgrade()
    assert lost(before, rows_of(database)) == []
    assert database.current() == shipped_files(database.kind)[-1].name


@each_release
def test_it_goes_up_down_and_up_again_with_equal_rows(database: Target, file: MigrationFile) -> None:
    before = rows_of(database)
    database.upgrade()
    at_head = rows_of(database)
    database.downgrade(file.name)
    assert rows_of(database) == before
    database.upgrade()
    assert lost(before, rows_of(database)) == []
    assert {table: len(rows) for table, rows in rows_of(database).items()} == {table: len(rows) for table, rows in at_head.items()}


@each_release
def test_migrations_to_come_go_up_down_and_up_on_it(database: Target) -> None:
    """A column, an index and a filled table on either side; a rebuilt table on the device's."""
    database.upgrade()
    add(database)
    before = rows_of(database)
    database.upgrade()
    assert lost(before, rows_of(database)) == []
    database.downgrade("-2")
    assert rows_of(database) == before
    database.upgrade()
    assert lost(before, rows_of(database)) == []
    (counted,) = database.sql("SELECT sum(n) FROM counts")
    assert counted[0] == len(before["question_attempts"])


def add(database: Target) -> None:
    device = database.kind == "device"
    concurrently = "" if device else "CONCURRENTLY IF NOT EXISTS "
    students = "student_id text NOT NULL PRIMARY KEY" if device else "student_id uuid NOT NULL PRIMARY KEY"
    database.folder.add(
        "0901_counts",
        [
            "ALTER TABLE users ADD COLUMN nickname text NOT NULL DEFAULT ''",
            f"CREATE TABLE counts ({students}, n integer NOT NULL)",
            "INSERT INTO counts SELECT student_id, count(*) FROM question_attempts GROUP BY student_id",
        ],
        ["DROP TABLE counts", "ALTER TABLE users DROP COLUMN nickname"],
    )
    up, down = [f"CREATE INDEX {concurrently}idx_users_nickname ON users (nickname)"], ["DROP INDEX idx_users_nickname"]
    if device:
        columns = "boot_no INTEGER PRIMARY KEY, boot_id TEXT NOT NULL UNIQUE"
        up += rebuild("boots", f"{columns}, note TEXT NOT NULL DEFAULT ''", "boot_no, boot_id")
        down += rebuild("boots", columns, "boot_no, boot_id")
    database.folder.add("0902_index", up, down, "" if device else "ATOMIC = False")


def rebuild(table: str, columns: str, kept: str) -> list[str]:
    """SQLite's way of changing what ALTER TABLE cannot, for a table that others refer to."""
    return [
        f"CREATE TABLE {table}_new ({columns}) STRICT",
        f"INSERT INTO {table}_new ({kept}) SELECT {kept} FROM {table}",
        f"DROP TABLE {table}",
        f"ALTER TABLE {table}_new RENAME TO {table}",
    ]


NEWEST = [next((kind, file) for kind, file in reversed(RELEASED) if kind == wanted) for wanted in KINDS]


@pytest.mark.parametrize(("kind", "file"), NEWEST, ids=KINDS)
@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("DELETE FROM question_attempts WHERE id = (SELECT id FROM question_attempts LIMIT 1)", "rows of question_attempts"),
        ("UPDATE users SET display_name = 'X' WHERE id = (SELECT id FROM users LIMIT 1)", "row of users"),
        ("ALTER TABLE users DROP COLUMN external_id", "column users.external_id"),
        ("DROP TABLE concept_mastery", "table concept_mastery"),
    ],
)
def test_a_migration_that_loses_something_is_noticed(database: Target, statement: str, what: str) -> None:
    if database.kind == "cloud" and "external_id" in statement:
        statement += " CASCADE"
    before = rows_of(database)
    database.folder.add("0901_loses", [statement])
    database.upgrade()
    assert any(what in missing for missing in lost(before, rows_of(database)))


@pytest.mark.parametrize(("kind", "file"), NEWEST[:1], ids=["device"])
def test_queued_operations_are_byte_for_byte_the_same_after_every_later_migration(database: Target, tmp_path: Path) -> None:
    """Their table's definition as well."""
    add(database)
    shutil.copy(database.url.removeprefix("sqlite:///"), tmp_path / "before.db")
    database.upgrade()
    before = Target("device", f"sqlite:///{tmp_path / 'before.db'}", database.folder)
    query: Any = (
        "SELECT * FROM sync_operations ORDER BY op_no",
        "SELECT type, name, sql FROM sqlite_schema WHERE tbl_name = 'sync_operations'",
    )
    assert [database.sql(each) for each in query] == [before.sql(each) for each in query]
