"""An upgrade of several files that was killed between two, and fails when it goes on, goes back to before the first of them."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from domain.errors import SchemaError
from migrations import sqlite_copy
from migrations.backup import backups_of
from migrations.begun import note_path, recall
from migrations.current import device_is_current
from migrations.engines import Limits
from migrations.files import files_in
from tests.migration.conftest import Folder, Target
from tests.migration.scripts import picture

ROOT = Path(__file__).resolve().parents[2]
CHILD = """
import pathlib, sys
from migrations.runner import open_migrations
with open_migrations("device", sys.argv[1], folder=pathlib.Path(sys.argv[2])) as migrations:
    migrations.upgrade()
"""
DIES = (
    "import os, signal\n"
    "def migrate(migrator, database, *, fake=False):\n"
    "    migrator.sql('DELETE FROM table_1')\n"
    "    migrator.run(os.kill, os.getpid(), signal.SIGKILL)\n"
)


def path_of(device: Target) -> Path:
    return Path(device.url.removeprefix("sqlite:///"))


def only(device: Target, *names: str) -> Target:
    """The same database, for a program that has these files alone."""
    folder = device.folder.path.with_name("_".join(names))
    folder.mkdir()
    for name in names:
        shutil.copy(device.folder.path / f"{name}.py", folder)
    return Target("device", device.url, Folder(folder))


def kill(device: Target) -> None:
    """An upgrade in a process that a file of it kills."""
    done = subprocess.run([sys.executable, "-c", CHILD, device.url, str(device.folder.path)], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


@pytest.fixture
def killed(device: Target) -> Target:
    """At its second migration of three: the process was killed in the third, which now fails. The rows of before are (1) and (2)."""
    device.folder.add_tables(1)
    device.upgrade()
    device.sql("INSERT INTO table_1 VALUES (1), (2)")
    device.folder.add("0002_change", ["DELETE FROM table_1 WHERE id = 1", "ALTER TABLE table_1 ADD COLUMN a INTEGER"])
    device.folder.write("0003_last", DIES)
    kill(device)
    assert device.current() == "0002_change"
    device.folder.add("0003_last", ["CREATE TABLE half (id INTEGER)", "NOT SQL"])
    return device


def fail(device: Target, sentence: str) -> None:
    with pytest.raises(SchemaError, match=sentence):
        device.upgrade()


def test_it_goes_back_to_the_backup_from_before_the_first_file(killed: Target) -> None:
    (backup,) = backups_of(path_of(killed))
    fail(killed, r"^0003_last failed.* was put back as it was before, from .*\.0001_table_1\..*\.backup\.$")
    assert killed.current() == "0001_table_1"
    assert killed.sql("SELECT * FROM table_1 ORDER BY id") == [(1,), (2,)]
    assert backups_of(path_of(killed)) == [backup]
    old = only(killed, "0001_table_1")
    assert device_is_current(path_of(killed), files_in(old.folder.path))


def test_what_is_put_back_is_all_of_it(killed: Target, tmp_path: Path) -> None:
    (backup,) = backups_of(path_of(killed))
    before = picture(Target("device", f"sqlite:///{shutil.copy(backup, tmp_path / 'before.db')}", killed.folder))
    fail(killed, "put back")
    assert picture(killed) == before


def test_if_it_goes_on_well_the_note_is_gone_and_the_backup_stays(killed: Target) -> None:
    killed.folder.add_tables(3)
    (killed.folder.path / "0003_last.py").unlink()
    assert killed.upgrade() == ["0003_table_3"]
    assert not note_path(path_of(killed)).exists()
    assert [file.name.split(".")[2] for file in backups_of(path_of(killed))] == ["0001_table_1"]


def test_no_program_serves_before_the_upgrade_is_settled(killed: Target) -> None:
    """One of the version in between, say, for which the database is at its head."""
    between = only(killed, "0001_table_1", "0002_change")
    assert not device_is_current(path_of(killed), files_in(between.folder.path))
    assert between.upgrade() == []
    assert device_is_current(path_of(killed), files_in(between.folder.path))


def test_what_a_program_in_between_recorded_is_not_lost_by_an_older_backup(killed: Target) -> None:
    between = only(killed, "0001_table_1", "0002_change")
    between.upgrade()
    killed.sql("INSERT INTO table_1 VALUES (5, 5)")
    fail(killed, r"^0003_last failed, nothing of it was kept: [^.]*\.$")
    assert killed.sql("SELECT id FROM table_1 ORDER BY id") == [(2,), (5,)]


def put_in_place(device: Target, database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path_of(device).with_name(path_of(device).name + suffix).unlink(missing_ok=True)
    shutil.copy(database, path_of(device))


def test_a_database_put_in_its_place_by_hand_is_not_replaced_by_a_backup_of_the_other(killed: Target, tmp_path: Path) -> None:
    other = Target("device", f"sqlite:///{tmp_path / 'other.db'}", only(killed, "0001_table_1", "0002_change").folder)
    other.upgrade()
    other.sql("INSERT INTO table_1 VALUES (7, 7)")
    put_in_place(killed, tmp_path / "other.db")
    fail(killed, "0003_last failed")
    assert killed.sql("SELECT id FROM table_1") == [(7,)]


def test_the_backup_put_in_its_place_by_hand_is_begun_with_anew(killed: Target) -> None:
    (backup,) = backups_of(path_of(killed))
    put_in_place(killed, backup)
    killed.sql("INSERT INTO table_1 VALUES (8)")
    fail(killed, "put back")
    assert killed.sql("SELECT id FROM table_1 ORDER BY id") == [(1,), (2,), (8,)]


def damage(backup: Path) -> None:
    backup.write_bytes(backup.read_bytes()[:4096] + b"\xff" * 4096)


@pytest.mark.parametrize("spoil", [Path.unlink, damage, lambda path: note_path(path.with_name("carrel.db")).write_text("{")])
def test_without_a_good_backup_it_goes_back_to_where_it_was_found(killed: Target, spoil: Callable[[Path], object]) -> None:
    before = picture(killed)
    spoil(*backups_of(path_of(killed)))
    fail(killed, "0003_last failed")
    assert picture(killed) == before
    assert not note_path(path_of(killed)).exists()


def test_a_file_outside_a_transaction_that_was_killed_in_its_middle_goes_back_to_before_it(device: Target) -> None:
    """Its first statements stayed, and no history tells of them."""
    device.folder.add_tables(1)
    device.upgrade()
    device.sql("INSERT INTO table_1 VALUES (1), (2)")
    before = picture(device)
    device.folder.write("0002_pieces", f"ATOMIC = False\n{DIES}")
    kill(device)
    assert device.sql("SELECT * FROM table_1") == []
    device.folder.add("0002_pieces", ["NOT SQL"], extra="ATOMIC = False")
    fail(device, "put back as it was before")
    assert picture(device) == before


def test_a_downgrade_ends_the_upgrade(killed: Target) -> None:
    killed.folder.add("0002_change", ["DELETE FROM table_1 WHERE id = 1", "ALTER TABLE table_1 ADD COLUMN a INTEGER"])
    killed.downgrade("-1")
    assert not note_path(path_of(killed)).exists()


def test_what_could_not_be_put_back_is_put_back_by_the_next_run(killed: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody has left a transaction open in a shell."""
    monkeypatch.setattr(sqlite_copy, "WAIT_S", 0.05)
    killed.limits = Limits(sqlite_busy_s=1)
    with closing(sqlite3.connect(path_of(killed), isolation_level=None)) as shell:
        monkeypatch.setattr("builtins.carrel_test_shell", shell, raising=False)
        killed.folder.write(
            "0003_last",
            "import builtins\n"
            "ATOMIC = False\n"
            "def migrate(migrator, database, *, fake=False):\n"
            "    migrator.run(builtins.carrel_test_shell.execute, 'BEGIN IMMEDIATE')\n"
            "    migrator.sql('NOT SQL')\n",
        )
        fail(killed, "could not be put back: the database was locked by another program for 0.05 s")
    assert recall(path_of(killed)) is not None
    killed.folder.add("0003_last", ["NOT SQL"])
    fail(killed, "put back as it was before")
    assert killed.current() == "0001_table_1"
