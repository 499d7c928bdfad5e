"""`--sql`: the script, run by hand on a copy, leaves what the tool leaves; and printing it changes nothing. On both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud_api.embedded import DatabaseServer
from domain.errors import SchemaError
from migrations.history import Direction
from migrations.preview import sql_of
from tests.migration.conftest import Target
from tests.migration.scripts import database_name, picture, run_script, sqlite_copy
from tests.support.postgres import temporary_database

PARENTS = {
    "device": "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT",
    "cloud": "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT NOT NULL)",
}
FILL = (
    "def fill(database):\n"
    "    for (number,) in database.execute_sql('SELECT id FROM parent ORDER BY id').fetchall():\n"
    "        database.execute_sql('INSERT INTO note VALUES (MARK, MARK)', (number, \"it's %d\" % number))\n"
    "def migrate(migrator, database, *, fake=False):\n"
    "    migrator.sql('CREATE TABLE note (parent_id INTEGER, text TEXT)')\n"
    "    migrator.run(fill, database)\n"
    "def rollback(migrator, database, *, fake=False):\n"
    "    migrator.sql('DROP TABLE note')\n"
)


def script(target: Target, direction: Direction, to: str) -> list[str]:
    return list(sql_of(target.kind, target.url, direction=direction, target=to, folder=target.folder.path))


@pytest.fixture
def populated(target: Target) -> Target:
    """At its first migration, with rows; two more files are pending: SQL, and Python that reads the rows of the first."""
    child = "CREATE TABLE child (id INTEGER PRIMARY KEY, parent_id INTEGER NOT NULL REFERENCES parent (id))"
    target.folder.add("0001_family", [PARENTS[target.kind], child], ["DROP TABLE child", "DROP TABLE parent"])
    target.upgrade()
    target.sql("INSERT INTO parent VALUES (1, 'a'), (2, 'b;''c')")
    target.sql("INSERT INTO child VALUES (10, 1), (20, 2)")
    change = ["ALTER TABLE parent ADD COLUMN grade INTEGER NOT NULL DEFAULT 3", "CREATE INDEX idx_grade ON parent (grade) WHERE grade > 1"]
    target.folder.add("0002_grade", change, ["DROP INDEX idx_grade", "ALTER TABLE parent DROP COLUMN grade"])
    target.folder.write("0003_note", FILL.replace("MARK", "?" if target.kind == "device" else "%s"))
    return target


@pytest.fixture
def twin(populated: Target, postgres: DatabaseServer, tmp_path: Path) -> Iterator[Target]:
    """A copy of it."""
    if populated.kind == "device":
        yield sqlite_copy(populated, tmp_path / "twin.db")
        return
    with temporary_database(postgres, database_name(populated.url)) as url:
        yield Target("cloud", url, populated.folder)


def test_running_the_script_of_an_upgrade_leaves_what_the_upgrade_leaves(populated: Target, twin: Target) -> None:
    lines = script(populated, "up", "head")
    populated.upgrade()
    run_script(twin, lines)
    assert picture(twin) == picture(populated)
    assert twin.sql("SELECT parent_id, text FROM note ORDER BY 1") == [(1, "it's 1"), (2, "it's 2")]
    assert twin.upgrade() == []


def test_running_the_script_of_a_downgrade_leaves_what_the_downgrade_leaves(populated: Target, twin: Target) -> None:
    for database in (populated, twin):
        database.upgrade()
    lines = script(populated, "down", "-2")
    populated.downgrade("-2")
    run_script(twin, lines)
    assert picture(twin) == picture(populated)
    assert twin.upgrade() == ["0002_grade", "0003_note"]


def test_the_script_for_an_empty_database_makes_all_of_it(target: Target, postgres: DatabaseServer, tmp_path: Path) -> None:
    target.folder.add_tables(1, 2)
    lines = script(target, "up", "head")
    assert target.kind == "cloud" or not Path(target.url.removeprefix("sqlite:///")).exists()
    run_script(target, lines)
    assert target.tables() == {"table_1", "table_2"}
    assert target.current() == "0002_table_2"
    assert target.kind == "cloud" or target.sql("PRAGMA journal_mode") == [("wal",)]


def test_printing_the_script_changes_nothing(populated: Target) -> None:
    before = picture(populated)
    script(populated, "up", "head")
    script(populated, "down", "-1")
    assert picture(populated) == before
    assert populated.upgrade() == ["0002_grade", "0003_note"]


def test_every_migration_is_a_transaction_that_ends_with_its_history_row(populated: Target) -> None:
    lines = [line for line in script(populated, "up", "+1") if not line.startswith(("--", "PRAGMA"))]
    begin = next(number for number, line in enumerate(lines) if line.startswith("BEGIN"))
    assert lines[begin + 1].startswith("ALTER TABLE parent")
    assert 'INSERT INTO "migration_history"' in lines[-2]
    assert lines[-1] == "COMMIT;"


def test_the_script_says_what_it_cannot_know(populated: Target) -> None:
    comments = "\n".join(line for line in script(populated, "up", "head") if line.startswith("--"))
    assert "apply 0002_grade, 0003_note" in comments
    assert "for the rows as they are now" in comments
    assert "duration_ms" in comments
    assert "Python of this file runs here" in comments


def test_with_nothing_to_do_the_script_says_so(device: Target) -> None:
    device.folder.add_tables(1)
    device.upgrade()
    assert [line.partition(": ")[2] for line in script(device, "up", "head")] == ["nothing to do, the device database is at 0001_table_1."]


@pytest.mark.parametrize(("direction", "to"), [("up", "0009_unknown"), ("up", "+7"), ("down", "-7")])
def test_a_target_that_the_tool_refuses_has_no_script(populated: Target, direction: Direction, to: str) -> None:
    with pytest.raises(SchemaError):
        script(populated, direction, to)


def test_a_statement_that_fires_a_trigger_stands_in_the_script_once(device: Target, tmp_path: Path) -> None:
    log = "CREATE TRIGGER log AFTER INSERT ON t BEGIN INSERT INTO seen VALUES (new.id); UPDATE seen SET id = id; END"
    device.folder.add("0001_log", ["CREATE TABLE t (id INTEGER)", "CREATE TABLE seen (id INTEGER)", log])
    device.upgrade()
    device.folder.add("0002_row", ["INSERT INTO t VALUES (1)"])
    lines = script(device, "up", "head")
    assert lines.count("INSERT INTO t VALUES (1);") == 1
    twin = sqlite_copy(device, tmp_path / "twin.db")
    run_script(twin, lines)
    assert twin.sql("SELECT * FROM seen") == [(1,)]


def test_a_file_outside_a_transaction_stands_in_the_script_without_one(cloud: Target) -> None:
    cloud.folder.add_tables(1)
    cloud.upgrade()
    index = ["CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_a ON table_1 (id)"]
    cloud.folder.add("0002_index", index, ["DROP INDEX CONCURRENTLY idx_a"], "ATOMIC = False")
    lines = script(cloud, "up", "head")
    assert "BEGIN;" not in lines
    run_script(cloud, lines)
    assert cloud.sql("SELECT indisvalid FROM pg_index WHERE indexrelid = 'idx_a'::regclass") == [(True,)]
    assert cloud.upgrade() == []


def test_a_declared_select_on_postgresql_is_written_down_and_not_run(cloud: Target) -> None:
    cloud.folder.add("0001_sequence", ["CREATE SEQUENCE numbers"])
    cloud.upgrade()
    cloud.folder.add("0002_skip", ["SELECT setval('numbers', 500)"])
    lines = script(cloud, "up", "head")
    assert cloud.sql("SELECT last_value FROM numbers") == [(1,)]
    run_script(cloud, lines)
    assert cloud.sql("SELECT last_value FROM numbers") == [(500,)]


def test_python_on_postgresql_that_reads_what_an_earlier_pending_file_makes_is_refused_with_the_remedy(cloud: Target) -> None:
    cloud.folder.add("0001_parent", [PARENTS["cloud"]])
    cloud.folder.write("0002_note", FILL.replace("MARK", "%s"))
    with pytest.raises(SchemaError, match=r"0002_note reads what an earlier pending statement makes.*apply the migrations before it first"):
        script(cloud, "up", "head")
    assert cloud.tables() == set()


def test_python_on_postgresql_cannot_write_while_its_script_is_made(cloud: Target) -> None:
    """Neither by a function that a SELECT calls, nor by the driver itself."""
    cloud.folder.add("0001_sequence", ["CREATE SEQUENCE numbers"])
    cloud.upgrade()
    write = "def write(database):\n    database.connection().cursor().execute('CREATE TABLE t (id int)')\n"
    cloud.folder.write("0002_write", f"{write}def migrate(migrator, database, *, fake=False):\n    migrator.run(write, database)\n")
    with pytest.raises(SchemaError):
        script(cloud, "up", "head")
    assert cloud.tables() == set()
