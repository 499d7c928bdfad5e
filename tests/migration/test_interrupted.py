"""The daemon upgrades itself at its start. Killed at any point, the next start finishes, and nothing is lost."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import migrations.device
from daemon import upgrade
from daemon.process import logs
from domain.errors import SchemaError
from migrations import current, runner
from migrations.backup import backups_of
from migrations.files import files_in
from migrations.runner import upgrade_device
from tests.migration.conftest import Folder
from tests.migration.populate import populate_device

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = Path(str(migrations.device.__file__)).parent
REBUILD_BOOTS = [
    "CREATE TABLE boots_new (boot_no INTEGER PRIMARY KEY, boot_id TEXT NOT NULL UNIQUE, note TEXT NOT NULL DEFAULT '') STRICT",
    "INSERT INTO boots_new (boot_no, boot_id) SELECT boot_no, boot_id FROM boots",
    "DROP TABLE boots",
    "ALTER TABLE boots_new RENAME TO boots",
]


@pytest.fixture
def upgrading(tmp_path: Path, folder: Folder) -> tuple[Path, Folder]:
    """A populated database of the shipped schema, with operations pending, and a folder with three files more: a column, a rebuild of
    the table that operations refer to, and rows computed from rows."""
    path = tmp_path / "carrel.db"
    upgrade_device(path)
    with closing(sqlite3.connect(path)) as connection, connection:
        populate_device(connection)
    for file in SHIPPED.glob("[0-9]*.py"):
        shutil.copy(file, folder.path)
    folder.add(
        "0901_column", ["ALTER TABLE users ADD COLUMN nickname TEXT NOT NULL DEFAULT ''", "CREATE INDEX idx_nick ON users (nickname)"]
    )
    folder.add("0902_rebuild", REBUILD_BOOTS)
    counts = "INSERT INTO counts SELECT student_id, count(*) FROM question_attempts GROUP BY student_id"
    folder.add("0903_counts", ["CREATE TABLE counts (student_id TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT", counts])
    return path, folder


def sweep(upgrading: tuple[Path, Folder], *how: str) -> dict[str, Any]:
    path, folder = upgrading
    command = [sys.executable, "-m", "tests.migration.sweep", str(path), str(folder.path), *how]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def rows_of(path: Path, table: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return sorted(map(repr, connection.execute(f"SELECT * FROM {table}")))


def test_killed_before_every_statement_fsync_and_rename_the_next_start_finishes(upgrading: tuple[Path, Folder]) -> None:
    report = sweep(upgrading, "events")
    assert report["deaths"] > 40
    (end,) = map(json.loads, report["ends"])
    assert [name for (name,) in end["history"]][-3:] == ["0901_column", "0902_rebuild", "0903_counts"]
    for table in ("sync_operations", "question_attempts", "shadows", "cursors"):
        assert end["rows"][table] == rows_of(upgrading[0], table) != []


def test_killed_at_any_point_of_an_upgrade_that_fails_the_file_goes_back_to_before_its_first_file(upgrading: tuple[Path, Folder]) -> None:
    _, folder = upgrading
    for name in ("0902_rebuild", "0903_counts"):
        (folder.path / f"{name}.py").unlink()
    folder.add("0902_fails", ["DELETE FROM question_attempts", "NOT SQL"])
    report = sweep(upgrading, "failing")
    assert report["deaths"] > 40
    assert report["ends"] == [report["begin"]]


def test_killed_at_random_moments_the_next_start_finishes(upgrading: tuple[Path, Folder]) -> None:
    report = sweep(upgrading, "times", "25", "7")
    assert report["deaths"] > 0
    assert len(report["ends"]) == 1


def use_files(monkeypatch: pytest.MonkeyPatch, folder: Folder) -> None:
    for module in (runner, current):
        monkeypatch.setattr(module, "shipped_files", lambda kind: files_in(folder.path))


def start(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    """The process that upgrades, in this one: its exit code and its report."""
    monkeypatch.setattr(sys, "argv", ["upgrade", str(path), *logs.settings_in_force()])
    monkeypatch.setitem(sys.modules, "psycopg2", sys.modules.get("psycopg2"))  # which it takes away, and this gives back
    code = upgrade.main()
    out = capsys.readouterr().out
    return code, json.loads(out) if out else {}


def test_an_upgrade_that_fails_puts_the_file_back_so_that_the_older_program_starts_again(
    upgrading: tuple[Path, Folder], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = upgrading
    folder.add("0904_fails", ["DELETE FROM question_attempts", "NOT SQL"])
    before = {table: rows_of(path, table) for table in ("sync_operations", "question_attempts", "boots", "migration_history")}
    with monkeypatch.context() as patch:
        use_files(patch, folder)
        code, report = start(path, patch, capsys)
    assert (code, report["code"]) == (SchemaError.exit_code, "schema")
    assert "0904_fails failed" in report["message"]
    assert "put back as it was before" in report["message"]
    assert {table: rows_of(path, table) for table in before} == before
    assert current.device_is_current(path)  # for the program with the shipped files alone


def test_the_upgrade_leaves_a_backup_of_what_was_before(
    upgrading: tuple[Path, Folder], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = upgrading
    before = rows_of(path, "sync_operations")
    use_files(monkeypatch, folder)
    assert start(path, monkeypatch, capsys) == (0, {})
    assert current.device_is_current(path)
    (backup,) = backups_of(path)
    assert rows_of(backup, "sync_operations") == before
    assert rows_of(backup, "migration_history") != rows_of(path, "migration_history")


def test_a_database_newer_than_the_program_is_not_opened_and_the_sentence_names_what_to_install(upgrading: tuple[Path, Folder]) -> None:
    path, folder = upgrading
    with runner.open_migrations("device", f"sqlite:///{path}", folder=folder.path) as migrations:
        migrations.upgrade()
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE migration_history SET app_version = '7.8.9'")
    before = {table: rows_of(path, table) for table in ("sync_operations", "migration_history")}
    backups = backups_of(path)
    with pytest.raises(SchemaError, match=r"newer than the program.*install Carrel 7\.8\.9 or newer"):
        upgrade.upgrade_if_needed(path)
    assert {table: rows_of(path, table) for table in before} == before
    assert backups_of(path) == backups
