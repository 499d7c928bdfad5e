"""Full disks, rights that are missing, links, odd names, other programs: a device's file is never the worse for it, and the sentence says why."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from domain.clock import SystemClock
from domain.errors import AlreadyRunning, CarrelError, OperatorError, SchemaError
from migrations import sqlite_copy
from migrations.backup import PARTIAL, backups_of
from migrations.begun import note_path
from migrations.current import device_is_current
from migrations.engines import Limits, SqliteEngine
from migrations.files import MigrationFile, files_in
from migrations.lock import file_lock, lock_path, owner_path
from migrations.pragmas import durable
from migrations.preview import sql_of
from migrations.protection import Protection
from migrations.runner import Migrations
from tests.migration.conftest import Folder, Target
from tests.migration.scripts import picture

NOBODY = 65534
KB = 1024


def path_of(device: Target) -> Path:
    return Path(device.url.removeprefix("sqlite:///"))


def at(path: Path, folder: Folder) -> Target:
    return Target("device", f"sqlite:///{path}", folder, Limits(process_lock_s=0.1, sqlite_busy_s=0.1))


# --- a full disk


@contextmanager
def files_no_larger_than(size_bytes: int) -> Iterator[None]:
    """A disk that is full at a certain point: what the kernel then answers to a write is an error, as there."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_what_was_wrong_is_said_also_when_sqlite_has_rolled_back_by_itself(tmp_path: Path) -> None:
    """As it does of a full disk: the ROLLBACK that follows would fail, with a sentence that says nothing."""
    engine = SqliteEngine(tmp_path / "device.db", Limits())
    with closing(engine), engine.locked(), pytest.raises(OSError, match="the disk is full"), engine.atomic():
        engine.database.execute_sql("CREATE TABLE t (id)")
        connection: Any = engine.database.connection()  # type: ignore[no-untyped-call]
        connection.rollback()
        raise OSError("the disk is full")


@pytest.fixture
def large(device: Target) -> Target:
    """A file of 200 kB at its first migration; the second changes every row, the third makes a table."""
    device.folder.add("0001_rows", ["CREATE TABLE t (id INTEGER PRIMARY KEY, x BLOB NOT NULL)"])
    device.upgrade()
    device.sql(
        "INSERT INTO t SELECT value, zeroblob(2000) FROM (WITH RECURSIVE n(value) AS (VALUES (1) UNION ALL SELECT value + 1 FROM n"
        " WHERE value < 100) SELECT value FROM n)"
    )
    device.folder.add("0002_change", ["UPDATE t SET x = CAST(zeroblob(1900) || id AS BLOB)"])
    device.folder.add_tables(3)
    return device


@pytest.mark.parametrize("fails", [False, True])
def test_wherever_the_disk_is_full_the_next_start_finds_a_whole_file(large: Target, tmp_path: Path, fails: bool) -> None:
    before = picture(large)
    base = shutil.copy(path_of(large), tmp_path / "base.db")
    if fails:
        large.folder.add("0004_fails", ["DELETE FROM t", "NOT SQL"])
    ends: set[str] = set()
    for limit_kb in range(20, 520, 25):
        work = tmp_path / str(limit_kb)
        work.mkdir()
        target = at(Path(shutil.copy(base, work / "d.db")), large.folder)
        with files_no_larger_than(limit_kb * KB):
            said = upgrade_anyhow(target)
        ends |= {end for end in ("cannot be backed up", "could not be put back", "was put back") if end in said}
        with closing(sqlite3.connect(path_of(target))) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], limit_kb
        assert not [file for file in work.iterdir() if PARTIAL in file.name]
        last = upgrade_anyhow(target)
        assert last.startswith("0004_fails failed" if fails else "at 0003_table_3"), limit_kb
        assert not fails or picture(target) == before, limit_kb
        assert not note_path(path_of(target)).exists()
    assert {"cannot be backed up", "could not be put back"} <= ends  # the disk was full in more than one place


def upgrade_anyhow(target: Target) -> str:
    """Where the database is afterwards, or what was said."""
    try:
        target.upgrade()
    except CarrelError as error:
        return error.message
    return f"at {target.current()}"


# --- rights


@contextmanager
def unprivileged() -> Iterator[None]:
    """Without root's right to everything."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def open_folder(folder: Folder) -> Iterator[Path]:
    """A folder that other accounts can reach, with the database `d.db` at its first migration; the second is pending."""
    with tempfile.TemporaryDirectory(prefix="carrel-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        folder.add("0001_row", ["CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1)"])
        at(path / "d.db", folder).upgrade()
        folder.add_tables(2)
        yield path
        path.chmod(0o755)


def protect_folder(path: Path) -> None:
    (path / "d.db").chmod(0o444)
    path.chmod(0o555)


def protect_file(path: Path) -> None:
    path.chmod(0o777)
    lock_path(path / "d.db").unlink()
    (path / "d.db").chmod(0o444)


def protect_lock(path: Path) -> None:
    path.chmod(0o777)
    (path / "d.db").chmod(0o666)
    lock_path(path / "d.db").chmod(0o000)


def close_folder(path: Path) -> None:
    path.chmod(0o000)


@pytest.mark.parametrize("protect", [protect_folder, protect_file, protect_lock, close_folder])
def test_without_the_rights_nothing_is_changed_and_one_sentence_says_so(
    open_folder: Path, folder: Folder, protect: Callable[[Path], None]
) -> None:
    files = files_in(folder.path)
    protect(open_folder)
    with unprivileged():
        with pytest.raises(OperatorError, match=r"^[^\n]+\.$") as caught:
            upgrade_with(open_folder / "d.db", files)
        assert not device_is_current(open_folder / "d.db", files)
        with suppress(OperatorError):  # the one exception that looking may end with
            look_with(open_folder / "d.db", files)
    assert "d.db" in caught.value.message or "readonly database" in caught.value.message
    open_folder.chmod(0o755)
    (open_folder / "d.db").chmod(0o600)
    assert at(open_folder / "d.db", folder).current() == "0001_row"


def upgrade_with(path: Path, files: Sequence[MigrationFile]) -> None:
    """An upgrade by files that were read before the rights were gone."""
    engine = SqliteEngine(path, Limits(process_lock_s=0.1, sqlite_busy_s=0.1))
    try:
        Migrations(engine, files, Limits(), SystemClock(), protection=Protection(engine)).upgrade()
    finally:
        engine.close()


def look_with(path: Path, files: Sequence[MigrationFile]) -> None:
    engine = SqliteEngine(path, Limits(sqlite_busy_s=0.1))
    try:
        Migrations(engine, files, Limits(), SystemClock()).history()
    finally:
        engine.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave files that belong to somebody else")
def test_what_root_leaves_beside_a_service_accounts_database_belongs_to_that_account(open_folder: Path, folder: Folder) -> None:
    """Else the daemon could not open its own lock any more."""
    for file in (open_folder, *open_folder.iterdir()):
        os.chown(file, NOBODY, NOBODY)
    lock_path(open_folder / "d.db").unlink()
    at(open_folder / "d.db", folder).upgrade()
    at(open_folder / "new.db", folder).upgrade()
    owners = {file.name: file.stat().st_uid for file in open_folder.iterdir()}
    assert len(owners) >= 5
    assert set(owners.values()) == {NOBODY}
    folder.add_tables(3)
    files = files_in(folder.path)
    with unprivileged():
        upgrade_with(open_folder / "d.db", files)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_root_gives_away_only_what_it_made_and_follows_no_link(open_folder: Path, folder: Folder, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of root")
    for file in (open_folder, *open_folder.iterdir()):
        os.chown(file, NOBODY, NOBODY)
    lock_path(open_folder / "d.db").unlink()
    lock_path(open_folder / "d.db").symlink_to(secret)
    with pytest.raises(OperatorError, match="Cannot open the lock file"):
        at(open_folder / "d.db", folder).upgrade()
    assert secret.stat().st_uid == 0
    assert secret.read_text() == "of root"


# --- names and links


@pytest.mark.parametrize(
    "name", ["a b.db", "50%20 off.db", "what?.db", "x#y.db", "it's.db", 'say "hi".db', "école.db", "file:x.db", "carrel"]
)
def test_a_database_may_have_any_name(folder: Folder, tmp_path: Path, name: str) -> None:
    place = tmp_path / "a folder with 100% of it?#"
    place.mkdir()
    device = at(place / name, folder)
    folder.add("0001_row", ["CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1)"])
    device.upgrade()
    folder.add_tables(2)
    assert "CREATE TABLE table_2" in "\n".join(sql_of("device", device.url, direction="up", target="head", folder=folder.path))
    folder.add("0003_fails", ["NOT SQL"])
    with pytest.raises(SchemaError, match="put back as it was before"):
        device.upgrade()
    assert device_is_current(place / name, files_in(folder.path)[:1])
    beside = {file.name.removeprefix(name) for file in place.iterdir()} - {"-wal", "-shm"}
    assert {text[:9] for text in beside} == {"", ".migrate.", ".0001_row"}


def test_a_link_and_its_file_have_one_lock_one_owner_and_one_row_of_backups(device: Target, tmp_path: Path) -> None:
    device.folder.add_tables(1)
    device.upgrade()
    device.sql("INSERT INTO table_1 VALUES (1)")
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path_of(device))
    device.folder.add_tables(2)
    by_link = at(link, device.folder)
    assert owner_path(link) == owner_path(path_of(device))
    with file_lock(path_of(device), 1), pytest.raises(AlreadyRunning):
        by_link.upgrade()
    by_link.upgrade()
    assert len(backups_of(path_of(device))) == 1
    assert [file.name for file in link.parent.iterdir()] == ["link.db"]
    assert device_is_current(link, files_in(device.folder.path))


def test_a_link_that_leads_nowhere_yet_makes_a_private_file_where_it_leads(folder: Folder, tmp_path: Path) -> None:
    folder.add_tables(1)
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "real.db")
    at(link, folder).upgrade()
    assert stat.S_IMODE((tmp_path / "real.db").stat().st_mode) == 0o600


def test_the_backups_of_a_database_whose_name_begins_alike_are_not_its_own(folder: Folder, tmp_path: Path) -> None:
    """`school` and `school.db` in one folder."""
    folder.add("0001_row", ["CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1)"])
    other = tmp_path / "school.db"
    left = [other.with_name(f"school.db.0001_row.2026010{n}T000000000Z.backup") for n in range(1, 8)]
    left.append(other.with_name("school.db.0001_row.20260101T000000000Z.backup.partial"))
    for file in left:
        file.touch()
    device = at(tmp_path / "school", folder)
    device.upgrade()
    for number in (2, 3, 4, 5):
        folder.add_tables(number)
        device.upgrade()
    assert all(file.exists() for file in left)
    assert len(backups_of(tmp_path / "school")) == 3


def test_the_home_folder_in_an_address_is_the_daemons(device: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(path_of(device).parent))
    device.folder.add_tables(1)
    device.upgrade()
    assert Target("device", "sqlite:///~/carrel.db", device.folder).current() == "0001_table_1"


# --- other programs


@pytest.fixture
def shell(device: Target) -> Iterator[sqlite3.Connection]:
    """Somebody else's connection to the device's database, which is at its first migration and has a row; the second is pending."""
    device.folder.add_tables(1)
    device.upgrade()
    device.sql("INSERT INTO table_1 VALUES (1)")
    device.folder.add_tables(2)
    device.limits = Limits(process_lock_s=0.1, sqlite_busy_s=0.1)
    with closing(sqlite3.connect(path_of(device), isolation_level=None)) as connection:
        yield connection


def test_somebody_who_only_reads_hinders_neither_the_upgrade_nor_the_way_back(device: Target, shell: sqlite3.Connection) -> None:
    shell.execute("BEGIN")
    assert shell.execute("SELECT * FROM table_1").fetchall() == [(1,)]
    device.folder.add("0003_fails", ["DELETE FROM table_1", "NOT SQL"])
    with pytest.raises(SchemaError, match="put back as it was before"):
        device.upgrade()
    device.folder.add_tables(3)
    (device.folder.path / "0003_fails.py").unlink()
    assert device.upgrade() == ["0002_table_2", "0003_table_3"]
    assert shell.execute("SELECT * FROM table_1").fetchall() == [(1,)]


def test_somebody_who_writes_for_long_is_named_and_nothing_is_changed(device: Target, shell: sqlite3.Connection) -> None:
    shell.execute("BEGIN IMMEDIATE")
    with pytest.raises(SchemaError, match=r"^0002_table_2 failed, nothing of it was kept: database is locked\.$"):
        device.upgrade()
    shell.execute("ROLLBACK")
    assert device.current() == "0001_table_1"
    assert not note_path(path_of(device)).exists()


def test_a_script_is_not_waited_for_for_ever_while_somebody_has_the_file_alone(
    device: Target, shell: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_copy, "WAIT_S", 0.05)
    monkeypatch.setattr("migrations.preview.sqlite.BUSY_TIMEOUT_S", 0.05)
    shell.execute("PRAGMA locking_mode = EXCLUSIVE")
    shell.execute("BEGIN EXCLUSIVE")
    with pytest.raises(OperatorError, match="database is locked"):
        list(sql_of("device", device.url, direction="up", target="head", folder=device.folder.path))


def test_a_database_that_is_not_in_wal_mode_and_read_by_somebody_is_refused_in_a_sentence(folder: Folder, tmp_path: Path) -> None:
    folder.add_tables(1)
    with closing(sqlite3.connect(tmp_path / "d.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (id INTEGER)")
        connection.execute("BEGIN")
        connection.execute("SELECT * FROM t").fetchall()
        with pytest.raises(OperatorError, match=r"^Cannot use .*d\.db: database is locked\.$"):
            at(tmp_path / "d.db", folder).upgrade()
    at(tmp_path / "d.db", folder).upgrade()


# --- macOS


def test_on_macos_a_commit_waits_for_the_drive_and_not_only_for_its_cache(device: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("migrations.engines.sqlite.durable", lambda: durable("darwin"))
    device.folder.add_tables(1)
    with device.open() as migrations:
        migrations.upgrade()
        execute = migrations._engine.database.execute_sql
        found = [execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "fullfsync", "checkpoint_fullfsync")]
    assert found == [2, 1, 1]
    assert durable("linux") == {"synchronous": "full"}
