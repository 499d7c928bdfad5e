"""Before a migration changes a database with data in it there is a way back, and a failure leaves a device's file as it was."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
from collections import namedtuple
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from domain.clock import SystemClock
from domain.errors import OperatorError, SchemaError
from migrations import backup, dump
from migrations.engines import Limits, PostgresEngine
from migrations.protection import Protection
from tests.migration.conftest import Target
from tests.migration.scripts import picture

Usage = namedtuple("Usage", "total used free")


def path_of(device: Target) -> Path:
    return Path(device.url.removeprefix("sqlite:///"))


def backups(device: Target) -> list[Path]:
    return backup.backups_of(path_of(device))


@pytest.fixture
def filled(device: Target) -> Target:
    """A device's database at its first migration, with two rows."""
    device.folder.add_tables(1)
    device.upgrade()
    device.sql("INSERT INTO table_1 VALUES (1), (2)")
    return device


def test_a_database_with_rows_is_backed_up_beside_itself_before_it_is_changed(filled: Target) -> None:
    filled.folder.add("0002_empty", ["DELETE FROM table_1", "CREATE TABLE table_2 (id INTEGER)"])
    filled.upgrade()
    (made,) = backups(filled)
    assert made.name.startswith("carrel.db.0001_table_1.20")
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    with closing(sqlite3.connect(made)) as connection:
        assert connection.execute("SELECT id FROM table_1 ORDER BY id").fetchall() == [(1,), (2,)]
        assert connection.execute("SELECT name FROM migration_history").fetchall() == [("0001_table_1",)]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_backup_is_made_before_a_migration_is_taken_back_too(filled: Target) -> None:
    filled.folder.add_tables(2)
    filled.upgrade()
    filled.downgrade("-1")
    assert [file.name.split(".")[2] for file in backups(filled)] == ["0001_table_1", "0002_table_2"]


def test_nothing_is_backed_up_when_there_are_no_rows_or_nothing_is_to_do(device: Target) -> None:
    device.folder.add_tables(1)
    device.upgrade()
    device.folder.add_tables(2)
    device.upgrade()
    device.sql("INSERT INTO table_1 VALUES (1)")
    device.upgrade()
    assert backups(device) == []


def test_of_many_backups_the_newest_few_are_kept(filled: Target) -> None:
    for number in range(2, 8):
        filled.folder.add_tables(number)
        filled.upgrade()
    assert [file.name.split(".")[2] for file in backups(filled)] == ["0004_table_4", "0005_table_5", "0006_table_6"]


def test_the_other_files_of_the_folder_are_left_alone(filled: Target) -> None:
    other = path_of(filled).with_name("carrel.db2.backup")
    notes = path_of(filled).with_name("carrel.db.notes")
    for file in (other, notes):
        file.write_text("mine")
    for number in range(2, 8):
        filled.folder.add_tables(number)
        filled.upgrade()
    assert other.read_text() == notes.read_text() == "mine"


def test_when_a_later_migration_fails_the_file_is_as_it_was_before_the_first(filled: Target) -> None:
    before = picture(filled)
    filled.folder.add("0002_change", ["DELETE FROM table_1 WHERE id = 1", "ALTER TABLE table_1 ADD COLUMN a INTEGER"])
    filled.folder.add("0003_fails", ["CREATE TABLE half (id INTEGER)", "NOT SQL"])
    with pytest.raises(SchemaError, match=r"^0003_fails failed.* was put back as it was before, from .*\.backup\.$"):
        filled.upgrade()
    assert picture(filled) == before
    filled.folder.add("0003_fails", ["CREATE TABLE whole (id INTEGER)"])
    assert filled.upgrade() == ["0002_change", "0003_fails"]


def test_when_the_first_migration_fails_nothing_is_put_back_because_nothing_changed(
    filled: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path_of(filled).read_bytes()
    filled.folder.add("0002_fails", ["DELETE FROM table_1", "NOT SQL"])
    with pytest.raises(SchemaError, match=r"nothing of it was kept: [^.]*\.$"):
        filled.upgrade()
    assert path_of(filled).read_bytes() == before


def test_what_another_program_wrote_meanwhile_is_not_lost_by_putting_back(filled: Target) -> None:
    filled.folder.add_tables(2)
    write = (
        "import sqlite3\n"
        "def write(path):\n"
        "    with sqlite3.connect(path) as other:\n"
        "        other.execute('INSERT INTO table_1 VALUES (3)')\n"
        "    other.close()\n"
        "ATOMIC = False\n"
        "def migrate(migrator, database, *, fake=False):\n"
        "    migrator.run(write, database.database)\n"
        "    migrator.sql('NOT SQL')\n"
    )
    filled.folder.write("0003_meanwhile", write)
    with pytest.raises(SchemaError, match="Another program has written meanwhile, so what was applied before it stays"):
        filled.upgrade()
    assert filled.sql("SELECT id FROM table_1 ORDER BY id") == [(1,), (2,), (3,)]
    assert filled.current() == "0002_table_2"


def test_without_room_for_a_backup_nothing_is_migrated(filled: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    filled.folder.add_tables(2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, 20_000_000))
    with pytest.raises(OperatorError, match=r"^There is not room enough in .*: 34 MB are needed, 20 MB are free\.$"):
        filled.upgrade()
    assert filled.tables() == {"table_1"}
    assert backups(filled) == []


def test_a_damaged_database_is_refused_and_left_as_it_is(filled: Target) -> None:
    filled.sql(
        "INSERT INTO table_1 SELECT value FROM (WITH RECURSIVE n(value) AS (VALUES (10) UNION ALL SELECT value + 1 FROM n"
        " WHERE value < 5000) SELECT value FROM n)"
    )
    filled.sql("PRAGMA wal_checkpoint(TRUNCATE)")
    path = path_of(filled)
    with path.open("r+b") as file:
        file.seek(-4096 * 2, os.SEEK_END)
        file.write(b"\xff" * 4096)
    damaged = path.read_bytes()
    filled.folder.add_tables(2)
    with pytest.raises(OperatorError, match="is damaged, so it is not migrated"):
        filled.upgrade()
    assert path.read_bytes() == damaged
    assert backups(filled) == []


def test_what_a_killed_backup_left_behind_is_cleared_away(filled: Target) -> None:
    left = path_of(filled).with_name("carrel.db.0001_table_1.20200101T000000000Z.backup.partial")
    left.write_bytes(b"half")
    filled.folder.add_tables(2)
    filled.upgrade()
    assert not left.exists()


# --- PostgreSQL


@pytest.fixture
def engine(cloud: Target) -> Any:
    cloud.folder.add_tables(1)
    cloud.upgrade()
    cloud.sql("INSERT INTO table_1 VALUES (1), (2)")
    engine = PostgresEngine(cloud.url, Limits())
    engine.connect()
    yield engine
    engine.close()


def test_a_dump_asked_for_is_complete_private_and_can_be_restored(cloud: Target, engine: PostgresEngine, tmp_path: Path) -> None:
    told: list[backup.Backup] = []
    with Protection(engine, dump_folder=tmp_path, tell=told.append).around(["0001_table_1"], "up"):
        cloud.sql("DROP TABLE table_1")
    (made,) = told
    assert made.path.name.endswith(".dump")
    assert made.size_bytes == made.path.stat().st_size > 0
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    connection: Any = engine.database.connection()  # type: ignore[no-untyped-call]
    tools = dump.find_tools(connection.info.server_version // 10_000)
    command: list[str | Path] = [tools / "pg_restore", "--clean", "--if-exists", f"--dbname={cloud.url}", made.path]
    subprocess.run(command, check=True, timeout=60)
    assert cloud.sql("SELECT id FROM table_1 ORDER BY id") == [(1,), (2,)]


def test_without_being_asked_no_dump_is_made(engine: PostgresEngine, tmp_path: Path) -> None:
    told: list[backup.Backup] = []
    with Protection(engine, tell=told.append).around(["0001_table_1"], "up"):
        pass
    assert told == []


def test_the_password_is_not_in_the_command_line(engine: PostgresEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    start = subprocess.Popen

    def watching(command: Any, **options: Any) -> Any:
        seen.extend(map(str, command))
        return start(command, **options)

    monkeypatch.setattr(subprocess, "Popen", watching)
    dump.dump_database(engine, tmp_path, None, SystemClock())
    connection: Any = engine.database.connection()  # type: ignore[no-untyped-call]
    assert any("pg_dump" in word for word in seen)
    assert connection.info.password not in " ".join(seen)


def tools_of_version(folder: Path, version: str) -> Path:
    """Programs that only tell a version."""
    folder.mkdir()
    for tool in ("pg_dump", "pg_restore"):
        (folder / tool).write_text(f"#!/bin/sh\necho '{tool} (PostgreSQL) {version}'\n")
        (folder / tool).chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("there", "server", "chosen"),
    [
        (("15.3", "18.1"), 15, "15.3"),
        (("15.3", "18.1"), 16, "18.1"),
        (("15.3", "16.2", "18.1"), 16, "16.2"),
        (("9.6.24", "15.3"), 9, "9.6.24"),
    ],
)
def test_the_tools_of_the_servers_version_are_taken_or_the_next_newer_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: tuple[str, ...], server: int, chosen: str
) -> None:
    folders = [tools_of_version(tmp_path / version, version) for version in there]
    monkeypatch.setattr(dump, "_folders", lambda _: iter(folders))
    assert dump.find_tools(server) == tmp_path / chosen


def test_tools_older_than_the_server_are_refused_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tools_of_version(tmp_path / "old", "15.3")
    monkeypatch.setattr(dump, "_folders", lambda _: iter([folder]))
    with pytest.raises(
        OperatorError, match=r"^The pg_dump here is of version 15, which cannot read a server of version 18: install .* 18\.$"
    ):
        dump.find_tools(18)
    monkeypatch.setattr(dump, "_folders", lambda _: iter([tmp_path / "nowhere"]))
    with pytest.raises(OperatorError, match=r"^There is no pg_dump here"):
        dump.find_tools(18)


def test_a_dump_that_fails_leaves_no_file_and_stops_the_migration(
    engine: PostgresEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tools_of_version(tmp_path / "broken", "99.1")
    (broken / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump: error: no way' >&2\nexit 1\n")
    monkeypatch.setattr(dump, "find_tools", lambda *_: broken)
    target = tmp_path / "dumps"
    target.mkdir()
    refused = pytest.raises(OperatorError, match="not dumped, so it is not migrated: pg_dump: error: no way")
    with refused, Protection(engine, dump_folder=target).around([], "up"):
        pytest.fail("the migration ran")
    assert list(target.iterdir()) == []
