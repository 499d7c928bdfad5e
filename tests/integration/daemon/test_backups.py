"""Backups of a device's file: made beside a daemon that writes, and put back without losing what is unsent."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from daemon.backups.kept import PARTIAL_KEPT_MS, WORK_SUFFIX, backups_in
from daemon.backups.making import back_up, back_up_if_due
from daemon.backups.restoring import restore
from daemon.config import DeviceConfig, load_config
from daemon.image import strip
from daemon.process.state_folder import locked
from daemon.recovery.journal_file import journal_path
from daemon.recovery.report import damaged_files
from domain.clock import SystemClock
from domain.errors import AlreadyRunning, OperatorError, SchemaError
from domain.ids import IdSource
from migrations import begun
from migrations.history import HISTORY_TABLE
from tests.support.damage import Queue, answer, crashed, devices, holds_everything, overwritten, truncated
from tests.support.desk import DATABASE, started
from tests.support.device import BEN, DAY_MS, HOUR_MS, ManualClock, seeded_database

__all__ = ["crashed", "devices"]

ROOT = Path(__file__).parents[3]
CLOCK = SystemClock()
IDS = IdSource(CLOCK.now_ms)


def config_of(folder: Path) -> DeviceConfig:
    config = load_config(None, {"CARREL_DEVICE_STATE_DIR": str(folder)})
    return replace(config, database_path=folder / DATABASE)


@pytest.fixture
def folder(devices: tuple[Path, Path, Queue], tmp_path: Path) -> Path:
    """A stopped device with operations that are unsent."""
    shutil.copytree(devices[0], tmp_path / "stopped")
    return tmp_path / "stopped"


@pytest.fixture
def queue(devices: tuple[Path, Path, Queue]) -> Queue:
    return devices[2]


def sql(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as conn:
        return conn.execute(query).fetchall()


# --- making


def test_a_backup_holds_what_was_recorded_when_it_was_begun_while_others_write(folder: Path) -> None:
    with started(folder) as desk:
        before = len(desk.queued())
        made = back_up(config_of(folder), CLOCK, go_on=lambda: answer(desk, 1) or True)  # type: ignore[func-returns-value]
        assert len(desk.queued()) > before
    assert sql(made.path, "PRAGMA integrity_check") == [("ok",)]
    assert sql(made.path, "SELECT count(*) FROM sync_operations WHERE state = 'pending'") == [(before,)]
    assert made.rows["question_attempts"] == sql(made.path, "SELECT count(*) FROM question_attempts")[0][0]


def test_a_backup_is_one_file_that_only_the_account_can_read(folder: Path) -> None:
    made = back_up(config_of(folder), CLOCK)
    assert made.path.stat().st_mode & 0o777 == 0o600
    assert made.path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(made.path.parent) == [made.path.name]


def test_of_the_backups_in_a_folder_the_newest_stay(folder: Path) -> None:
    clock, config = ManualClock(), config_of(folder)
    made = []
    for _ in range(5):
        made.append(back_up(config, clock, keep=3).path)
        clock.advance(HOUR_MS)
    assert [kept.path for kept in backups_in(folder / "backups", DATABASE)] == made[-3:]


def test_of_the_backups_in_a_folder_none_stays_that_is_too_old_but_the_one_just_made(folder: Path) -> None:
    clock, config = ManualClock(), config_of(folder)
    environ = {"CARREL_DEVICE_STATE_DIR": str(folder), "CARREL_DEVICE_BACKUP_KEEP_DAYS": "2"}
    young_only = replace(load_config(None, environ), database_path=folder / DATABASE)
    made = []
    for _ in range(3):
        made.append(back_up(young_only, clock, keep=9).path)
        clock.advance(DAY_MS + 1)
    assert [kept.path for kept in backups_in(folder / "backups", DATABASE)] == made[-2:]
    back_up(config, clock, keep=9)
    assert len(backups_in(folder / "backups", DATABASE)) == 3


def test_what_a_killed_backup_has_left_goes_and_one_that_is_being_made_stays(folder: Path) -> None:
    first = back_up(config_of(folder), ManualClock())
    old, young = (first.path.with_name(first.path.name.replace("T1", f"T{hour}") + ".partial") for hour in (2, 3))
    for path, age_ms in ((old, 2 * PARTIAL_KEPT_MS), (young, 0)):
        path.touch()
        at_s = (ManualClock().now_ms() - age_ms) / 1000
        os.utime(path, (at_s, at_s))
    back_up(config_of(folder), ManualClock(ManualClock().now_ms() + 1000))
    assert (old.exists(), young.exists()) == (False, True)


def test_a_backup_is_due_when_the_newest_is_a_day_old_or_of_a_clock_that_was_ahead(folder: Path) -> None:
    clock, config = ManualClock(), config_of(folder)
    assert back_up_if_due(config, clock) is not None
    clock.advance(DAY_MS - 1)
    assert back_up_if_due(config, clock) is None
    clock.advance(1)
    assert back_up_if_due(config, clock) is not None
    assert back_up_if_due(config, ManualClock(clock.now_ms() + 300 * DAY_MS)) is not None
    clock.advance(DAY_MS)
    assert back_up_if_due(config, clock) is not None
    assert back_up_if_due(config, clock) is None, "one that a clock made in the future is not made up for again and again"


def test_backups_that_are_made_at_the_same_time_all_succeed(folder: Path) -> None:
    """By the daemon, by the timer, by a person: each lets go of older ones while the others look at them."""
    config, now_ms = config_of(folder), CLOCK.now_ms()

    def make(number: int) -> None:
        for turn in range(15):  # never two in one millisecond, of which the second would be refused
            back_up(config, ManualClock(now_ms + 1000 * turn + number), keep=1)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(make, range(3)))


def test_in_a_folder_that_somebody_names_the_backups_of_other_devices_stay(folder: Path, tmp_path: Path) -> None:
    stick, clock = tmp_path / "stick", ManualClock()
    stick.mkdir()
    for _ in range(5):
        clock.advance(1000)
        assert back_up(config_of(folder), clock, stick).removed == []
    clock.advance(1000)
    assert len(back_up(config_of(folder), clock, stick, keep=2).removed) == 4


def test_a_backup_of_a_damaged_database_is_none(folder: Path) -> None:
    sql(folder / DATABASE, "PRAGMA wal_checkpoint(TRUNCATE)")
    overwritten(0.5, bytes(4096))(folder / DATABASE)
    with pytest.raises(OperatorError, match="There is no backup"):
        back_up(config_of(folder), CLOCK)
    assert backups_in(folder / "backups", DATABASE) == []
    assert os.listdir(folder / "backups") == []


def test_a_backup_whose_rows_break_the_schema_is_none_although_it_can_be_copied_and_counted(folder: Path) -> None:
    for change in ("replace(sql, 'username TEXT NOT NULL', 'username TEXT')", "replace(sql, 'username TEXT,', 'username TEXT NOT NULL,')"):
        with closing(sqlite3.connect(folder / DATABASE)) as conn, conn:
            conn.execute("PRAGMA writable_schema = ON")
            conn.execute(f"UPDATE sqlite_schema SET sql = {change} WHERE name = 'users'")
        with closing(sqlite3.connect(folder / DATABASE)) as conn, conn:
            conn.execute("UPDATE OR IGNORE users SET username = NULL")
    with pytest.raises(OperatorError, match=r"damaged: NULL value in users\.username"):
        back_up(config_of(folder), CLOCK)
    assert os.listdir(folder / "backups") == []


def test_a_backup_that_is_told_to_stop_leaves_nothing(folder: Path) -> None:
    with pytest.raises(Exception, match="stopping"):
        back_up(config_of(folder), CLOCK, go_on=lambda: False)
    assert os.listdir(folder / "backups") == []


def test_an_image_has_no_backup_in_it(folder: Path) -> None:
    back_up(config_of(folder), CLOCK)
    with closing(sqlite3.connect(folder / DATABASE)) as conn, conn:
        conn.execute("UPDATE sync_operations SET state = 'synced'")
    strip(folder / DATABASE, folder)
    assert os.listdir(folder / "backups") == []


# --- restoring


def restored(folder: Path, backup: Path) -> None:
    restore(config_of(folder), backup, CLOCK, IDS)


@pytest.fixture
def older(tmp_path: Path) -> Path:
    """A backup from before anything was written that is unsent now: the seeded database."""
    (tmp_path / "older").mkdir()
    return seeded_database(tmp_path / "older")


def incarnation(folder: Path) -> object:
    return sql(folder / DATABASE, "SELECT incarnation FROM sync_progress")[0][0]


def test_NO_LOST_OP_what_was_written_after_the_backup_comes_along(folder: Path, older: Path, queue: Queue) -> None:
    before = incarnation(folder)
    restored(folder, older)
    assert incarnation(folder) != before
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        assert desk.was_own
        assert any("was put in its place" in notice for notice in desk.notices())


def test_NO_LOST_OP_what_only_the_replaced_file_holds_comes_along(folder: Path, older: Path, queue: Queue) -> None:
    journal_path(folder / DATABASE).unlink()
    restored(folder, older)
    with started(folder) as desk:
        assert holds_everything(desk, queue)


def test_NO_LOST_OP_what_only_the_journal_holds_comes_along(folder: Path, older: Path, queue: Queue) -> None:
    truncated(0.2)(folder / DATABASE)
    restored(folder, older)
    with started(folder) as desk:
        assert holds_everything(desk, queue)


def test_NO_LOST_OP_what_was_sent_before_the_server_was_restored_is_sent_again(folder: Path) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as conn, conn:
        conn.execute("UPDATE sync_operations SET state = 'synced'")
        conn.execute("UPDATE sync_progress SET acked_op_no = (SELECT max(op_no) FROM sync_operations)")
        (sent,) = conn.execute("SELECT count(*) FROM sync_operations").fetchone()
    journal_path(folder / DATABASE).unlink()
    made = back_up(config_of(folder), CLOCK)
    with closing(sqlite3.connect(folder / DATABASE)) as conn, conn:
        conn.execute("UPDATE identity SET server_epoch = 'another'")
    restored(folder, made.path)
    with started(folder) as desk:
        assert len(desk.queued()) == sent
        current = desk.identity.current()
        assert current is not None
        assert current.server_epoch == "another"


def test_NO_LOST_OP_a_device_that_lost_power_takes_a_backup_and_nothing_of_its_wal(crashed: tuple[Path, Queue], older: Path) -> None:
    folder, queue = crashed
    assert (folder / f"{DATABASE}-wal").stat().st_size
    restored(folder, older)
    assert sql(folder / DATABASE, "PRAGMA integrity_check") == [("ok",)]
    with started(folder) as desk:
        assert holds_everything(desk, queue)


def test_NO_LOST_OP_a_damaged_file_with_a_wal_is_replaced(crashed: tuple[Path, Queue], older: Path) -> None:
    folder, queue = crashed
    overwritten(0, bytes(4096))(folder / DATABASE)
    restored(folder, older)
    assert sql(folder / DATABASE, "PRAGMA integrity_check") == [("ok",)]
    with started(folder) as desk:
        assert holds_everything(desk, queue)
    assert len(damaged_files(folder / DATABASE)) == 1


def test_the_replaced_file_is_kept_with_everything_in_it(folder: Path, older: Path) -> None:
    rows = sql(folder / DATABASE, "SELECT count(*) FROM sync_operations")
    restored(folder, older)
    (kept,) = damaged_files(folder / DATABASE)
    assert ".replaced-" in kept.name
    assert sql(kept, "SELECT count(*) FROM sync_operations") == rows


def test_rows_of_the_replaced_file_that_are_not_queued_are_left_to_the_school(folder: Path, older: Path) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as conn, conn:
        conn.execute("UPDATE users SET display_name = 'wrong'")
    restored(folder, older)
    assert sql(folder / DATABASE, "SELECT count(*) FROM users WHERE display_name = 'wrong'") == [(0,)]
    assert sql(folder / DATABASE, "SELECT rebaselining FROM sync_progress") == [("all_rows",)]


def test_nobody_stays_signed_in(folder: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(folder / DATABASE)) as conn, conn:
        columns = [row[1] for row in conn.execute("PRAGMA table_info(student_sessions)")]
        values = {"student_id": BEN, "app_id": "a", "token_hash": "00"}
        conn.execute(
            f"INSERT INTO student_sessions ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})",
            [values.get(name, 1) for name in columns],
        )
    made = back_up(config_of(folder), CLOCK)
    restored(folder, made.path)
    assert sql(folder / DATABASE, "SELECT count(*) FROM student_sessions") == [(0,)]


def test_a_note_of_a_begun_upgrade_never_leads_away_from_what_was_restored(folder: Path, older: Path, queue: Queue) -> None:
    made = back_up(config_of(folder), CLOCK)
    beside = folder / made.path.name
    shutil.copy(made.path, beside)
    begun.remember(folder / DATABASE, begun.Begun(beside.name, None, 7))
    with closing(sqlite3.connect(older)) as conn:
        conn.execute("PRAGMA user_version = 7")
    restored(folder, older)
    assert begun.recall(folder / DATABASE) is None
    assert sql(folder / DATABASE, "PRAGMA user_version") == [(0,)]


def test_a_device_that_was_never_anything_takes_a_backup(older: Path, tmp_path: Path) -> None:
    restored(tmp_path / "new", older)
    with started(tmp_path / "new") as desk:
        assert desk.identity.current() is not None


# --- refusing


def spoilt(change: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with closing(sqlite3.connect(path)) as conn, conn:
            conn.execute(change)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (overwritten(0.5, bytes(4096)), OperatorError),
        (truncated(0.5), OperatorError),
        (lambda path: path.write_text("no database"), OperatorError),
        (lambda path: path.unlink(), OperatorError),
        (spoilt("DROP TABLE sync_operations"), OperatorError),
        (spoilt(f"INSERT INTO {HISTORY_TABLE} (name, checksum, applied_at_ms, duration_ms, app_version) VALUES ('9999_x', 'x', 1, 1, '9')"), SchemaError),
        (spoilt("UPDATE identity SET school_id = 'b'"), OperatorError),
    ],
    ids=["damaged", "cut off", "no database", "not there", "of something else", "newer", "of another school"],
)  # fmt: skip
def test_what_cannot_be_restored_changes_nothing(
    folder: Path, older: Path, spoil: Callable[[Path], None], error: type[OperatorError]
) -> None:
    spoil(older)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and not path.name.endswith(".lock")}
    with pytest.raises(error):
        restored(folder, older)
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and not path.name.endswith(".lock")}
    assert {name: after.get(name) for name in before if "-wal" not in name and "-shm" not in name} == {
        name: data for name, data in before.items() if "-wal" not in name and "-shm" not in name
    }
    assert not (folder / (DATABASE + WORK_SUFFIX)).exists()


def test_under_a_running_daemon_nothing_is_restored(folder: Path, older: Path) -> None:
    with locked(folder), pytest.raises(AlreadyRunning):
        restored(folder, older)


# --- killed

# Restores in a process for each folder, which ends, without another instruction, at the step that is named; 0 ends none. Prints how many steps there were.
_KILLED = """
import os, sys
from pathlib import Path
from tests.integration.daemon.test_backups import KILLED, restored

EVENTS = ("os.rename", "os.remove", "os.link", "os.mkdir", "sqlite3.connect")

def restore_until(folder, backup, step):
    steps = 0

    def look(event, args):
        nonlocal steps
        if event in EVENTS or (event == "open" and isinstance(args[0], str) and str(folder) in args[0]):
            steps += 1
            if steps == step:
                os._exit(KILLED)

    sys.addaudithook(look)
    restored(folder, backup)
    print(steps, flush=True)
    os._exit(0)

backup, *rest = sys.argv[1:]
for folder, step in zip(rest[::2], map(int, rest[1::2]), strict=True):
    if (child := os.fork()) == 0:
        restore_until(Path(folder), Path(backup), step)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != (KILLED if step else 0):
        sys.exit(f"{folder} ended with {code}")
"""
KILLED = 77
KILLS = 24


def test_NO_LOST_OP_killed_at_any_step_the_device_has_the_old_file_or_the_new(
    devices: tuple[Path, Path, Queue], older: Path, tmp_path: Path
) -> None:
    stopped, _, queue = devices
    shutil.copytree(stopped, tmp_path / "counted")
    steps = int(_restored_until(older, {tmp_path / "counted": 0}))
    assert steps > KILLS
    folders = {tmp_path / f"killed-{number}": 1 + number * (steps - 1) // (KILLS - 1) for number in range(KILLS)}
    for folder in folders:
        shutil.copytree(stopped, folder)
    _restored_until(older, folders)
    ends = set()
    for folder, step in folders.items():
        assert sql(folder / DATABASE, "SELECT count(*) FROM questions") != [(0,)], "one of the two is always there, whole"
        assert sql(folder / DATABASE, "PRAGMA integrity_check") == [("ok",)]
        ends.add(any(".replaced-" in file.name for file in damaged_files(folder / DATABASE)))
        with started(folder) as desk:
            assert holds_everything(desk, queue), step
    assert ends == {False, True}


def _restored_until(backup: Path, folders: dict[Path, int]) -> str:
    arguments = [str(word) for item in folders.items() for word in item]
    command = [sys.executable, "-c", _KILLED, str(backup), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
