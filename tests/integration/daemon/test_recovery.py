"""A damaged, lost or restored database is replaced, and never the end of anything that was acknowledged."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from daemon.identity.instance import IDENTITY_COPY
from daemon.recovery.journal_file import journal_path
from daemon.recovery.replacement import Recovery
from daemon.recovery.report import KEPT_DAMAGED, damaged_files
from domain.ids import IdSource, derived_id
from migrations.runner import upgrade_device
from tests.support.damage import (
    PAGE,
    Queue,
    blank_one_leaf,
    crashed,
    device,
    devices,
    holds_everything,
    overwritten,
    truncated,
)
from tests.support.desk import DATABASE, started
from tests.support.device import ADA, BEN, ManualClock

__all__ = ["crashed", "device", "devices"]


def replaced_by_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replaced_by_an_archive(file: Path) -> None:
    file.write_bytes(b"PK\x03\x04" * 5000)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "empty": truncated(0),
    "one byte left": truncated(1.01),
    "less than a header left": truncated(99),
    "a header left": truncated(100),
    "half a page left": truncated(PAGE / 2),
    "a page left": truncated(PAGE),
    "half of it left": truncated(0.5),
    "the last page torn off": truncated(0.97),
    "another kind of file": replaced_by_an_archive,
    "a folder in its place": replaced_by_a_folder,
    "zeros over its header": overwritten(0, bytes(100)),
    "zeros over its first page": overwritten(0, bytes(PAGE)),
    "zeros over a page in the middle": overwritten(0.5, bytes(PAGE)),
    "noise over a third of it": overwritten(0.4, random.Random(3).randbytes(15 * PAGE)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_NO_LOST_OP_a_damaged_database_is_replaced_and_says_so(devices: tuple[Path, Path, Queue], tmp_path: Path, damage: str) -> None:
    stopped, _, queue = devices
    folder = tmp_path / "device"
    shutil.copytree(stopped, folder)
    DAMAGE[damage](folder / DATABASE)
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        (notice,) = desk.notices()
        assert "the database of this device was replaced or repaired, because" in notice
        assert f"{len(queue)} unsent changes were recovered" in notice
        assert desk.identity.token() == "the-token"
        with desk.database.read() as conn:
            assert conn.execute("SELECT count(*) FROM cursors WHERE cursor > 0").fetchone() == (0,)
            assert conn.execute("SELECT rebaselining FROM sync_progress").fetchone() != ("no",)


@pytest.mark.parametrize("part", [0, 0.3, 0.7, 0.99, None], ids=str)
def test_NO_LOST_OP_what_the_wal_alone_had_comes_back_from_the_journal(crashed: tuple[Path, Queue], part: float | None) -> None:
    folder, queue = crashed
    wal = folder / f"{DATABASE}-wal"
    if part is None:
        wal.unlink()
    else:
        os.truncate(wal, int(part * wal.stat().st_size))
    before = incarnation(folder / DATABASE)
    with started(folder) as desk:
        assert holds_everything(desk, queue)
    assert incarnation(folder / DATABASE) != before


def incarnation(file: Path) -> str:
    """Under which the log goes on; read without the -wal, which is left as it is."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)) as conn:
        return str(conn.execute("SELECT incarnation FROM sync_progress").fetchone()[0])


def test_what_the_wal_of_a_damaged_file_holds_can_still_be_read(crashed: tuple[Path, Queue]) -> None:
    folder, queue = crashed
    journal_path(folder / DATABASE).unlink()
    wal = (folder / f"{DATABASE}-wal").read_bytes()
    frame = 24 + PAGE  # sqlite.org/fileformat.html, section 4.1
    in_wal = {int.from_bytes(wal[at : at + 4], "big") for at in range(32, len(wal), frame)}
    data = bytearray((folder / DATABASE).read_bytes())
    at = next(at for at in range(PAGE, len(data), PAGE) if at // PAGE + 1 not in in_wal and data[at] == 13)
    (folder / DATABASE).write_bytes(data[:at] + bytes(PAGE) + data[at + PAGE :])
    with started(folder) as desk:
        assert desk.notices()
        assert desk.queued() == queue


def test_rows_stay_in_sight_until_the_school_has_sent_its_own(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    """A device at home, without a network: its student goes on with the course that can still be read."""
    folder = tmp_path / "device"
    shutil.copytree(devices[0], folder)
    blank_one_leaf(folder / DATABASE)
    with started(folder) as desk, desk.database.read() as conn:
        assert conn.execute("SELECT count(*) FROM users").fetchone()[0] >= 3
        assert conn.execute("SELECT count(*) FROM questions").fetchone()[0] >= 5
        assert conn.execute("SELECT 1 FROM cursors WHERE scope = ?", (f"student:{BEN}",)).fetchone()
        assert conn.execute("SELECT rebaselining FROM sync_progress").fetchone() == ("all_rows",)
        assert {row[0] for row in conn.execute("SELECT feed_no FROM questions")} == {0}


def test_without_its_journal_a_damaged_database_still_gives_what_can_be_read_of_it(
    devices: tuple[Path, Path, Queue], tmp_path: Path
) -> None:
    folder = tmp_path / "device"
    shutil.copytree(devices[0], folder)
    journal_path(folder / DATABASE).unlink()
    blank_one_leaf(folder / DATABASE)
    with started(folder) as desk:
        queued = desk.queued()
        assert queued.items() <= devices[2].items()
        assert len(queued) > len(devices[2]) / 2
        seqs = "SELECT min(op_no), max(op_no), count(*) FROM sync_operations WHERE state = 'pending'"
        with desk.database.read() as conn:
            first, last, count = conn.execute(seqs).fetchone()
        assert last - first + 1 == count, "an incarnation has no gaps"


def test_without_the_copy_of_its_identity_it_is_read_from_the_damaged_file(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    folder = tmp_path / "device"
    shutil.copytree(devices[0], folder)
    (folder / IDENTITY_COPY).unlink()
    overwritten(0.6, random.Random(1).randbytes(4 * PAGE))(folder / DATABASE)
    with started(folder) as desk:
        assert holds_everything(desk, devices[2])


def test_a_device_that_does_not_know_whose_it_is_keeps_what_is_unsent_for_its_own_school_only(
    devices: tuple[Path, Path, Queue], tmp_path: Path
) -> None:
    stopped, _, queue = devices
    folder, path = tmp_path / "device", tmp_path / "device" / DATABASE
    shutil.copytree(stopped, folder)
    copy = (folder / IDENTITY_COPY).read_bytes()
    (folder / IDENTITY_COPY).unlink()
    path.unlink()
    with started(folder) as desk:
        assert (desk.queued(), desk.identity.current()) == ({}, None)
    other = copy.decode().replace(_school_of(copy), derived_id("another school"))
    (folder / IDENTITY_COPY).write_text(other)
    with started(folder) as desk:
        assert desk.queued() == {}
    path.unlink()
    (folder / IDENTITY_COPY).write_bytes(copy)
    for _ in range(2):
        with started(folder) as desk:
            assert desk.queued() == queue
    assert list(folder.glob("*.of-*")) == []


def _school_of(copy: bytes) -> str:
    return copy.decode().partition('"school_id": "')[2][:32]


class PowerCut(BaseException):
    """The machine is off."""


def test_a_recovery_that_is_broken_off_at_any_step_is_finished_by_the_next_start(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    for step in range(1, 60):
        folder = tmp_path / str(step)
        shutil.copytree(devices[0], folder)
        overwritten(0.5, bytes(PAGE))(folder / DATABASE)
        finished = _recovered_until(folder, step)
        with started(folder) as desk:
            assert holds_everything(desk, devices[2]), step
        assert len(damaged_files(folder / DATABASE)) == 1
        if finished:
            assert step > 6, "there are that many steps at least"
            return
        shutil.rmtree(folder)
    pytest.fail("it has more steps than were tried")


def _recovered_until(folder: Path, step: int) -> bool:
    """Recovers the device, and cuts the power at this opening, renaming or removal of a file. False when it came to that."""
    path, left = folder / DATABASE, step

    def cut(event: str, args: tuple[object, ...]) -> None:
        nonlocal left
        if event in ("os.rename", "os.remove", "sqlite3.connect") and str(folder) in str(args[0]):
            left -= 1
            if left == 0:
                raise PowerCut

    recovery = Recovery(path, folder, ManualClock(), IdSource(ManualClock().now_ms))
    try:
        with _Audit.by(cut):
            recovery.set_aside_if_damaged()
        upgrade_device(path)
        with _Audit.by(cut):
            recovery.restore()
    except PowerCut:
        return False
    return True


class _Audit:
    """Looks on at what the interpreter does with files; its hooks cannot be taken away again, so there is one."""

    hook: Callable[[str, tuple[object, ...]], None] | None = None

    @classmethod
    @contextmanager
    def by(cls, hook: Callable[[str, tuple[object, ...]], None]) -> Iterator[None]:
        cls.hook = hook
        try:
            yield
        finally:
            cls.hook = None

    @classmethod
    def tell(cls, event: str, args: tuple[object, ...]) -> None:
        if cls.hook is not None:
            cls.hook(event, args)


sys.addaudithook(_Audit.tell)


def test_a_database_that_is_damaged_again_and_again_leaves_a_bounded_number_of_files(device: tuple[Path, Queue]) -> None:
    folder, queue = device
    for _ in range(KEPT_DAMAGED + 2):
        overwritten(0.5, bytes(PAGE))(folder / DATABASE)
        with started(folder) as desk:
            assert holds_everything(desk, queue)
    assert len(damaged_files(folder / DATABASE)) == KEPT_DAMAGED
    assert len(list(folder.iterdir())) < 20


def test_the_notice_ends_when_everything_is_back(device: tuple[Path, Queue]) -> None:
    folder, _ = device
    (folder / DATABASE).unlink()
    with started(folder) as desk:
        assert desk.notices()
        desk.database.write(lambda conn: conn.execute("UPDATE sync_progress SET rebaselining = 'no'").rowcount)
        assert desk.notices(), "something is unsent"
        desk.database.write(lambda conn: conn.execute("UPDATE sync_operations SET state = 'synced'").rowcount)
        assert desk.notices() == []
    with started(folder) as desk:
        assert desk.notices() == []


def test_what_may_be_lost_for_good_is_said_until_somebody_has_looked(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    folder, clock = tmp_path / "device", ManualClock()
    shutil.copytree(devices[0], folder)
    journal = journal_path(folder / DATABASE)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:30], b"noise\n", *lines[31:]]))
    overwritten(0, bytes(PAGE))(folder / DATABASE)
    with started(folder, clock) as desk:
        assert len(desk.queued()) == len(devices[2]) - 1
        desk.database.write(lambda conn: conn.execute("UPDATE sync_progress SET rebaselining = 'no'").rowcount)
        desk.database.write(lambda conn: conn.execute("UPDATE sync_operations SET state = 'synced'").rowcount)
    with started(folder, clock) as desk:
        (notice,) = desk.notices()
        assert "1 of them may be lost" in notice
        for file in damaged_files(folder / DATABASE):
            file.unlink()
        assert desk.notices() == []


def test_an_app_may_not_see_another_students_row_because_of_a_recovery(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    folder = tmp_path / "device"
    shutil.copytree(devices[0], folder)
    overwritten(0.5, bytes(PAGE))(folder / DATABASE)
    with started(folder) as desk, desk.database.read() as conn:
        assert conn.execute("SELECT count(*) FROM student_sessions").fetchone() == (0,), "sessions are not believed"
        assert conn.execute("SELECT count(*) FROM question_attempts WHERE student_id = ?", (ADA,)).fetchone() == (0,)
