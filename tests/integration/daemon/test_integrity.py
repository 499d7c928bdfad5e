"""Whether the database can be trusted: what is looked at, how often, and what is made of it."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from daemon.recovery import integrity
from daemon.recovery.report import damaged_files
from domain.errors import OperatorError, Unavailable
from tests.support.damage import (
    PAGE,
    Queue,
    answer,
    crashed,
    device,
    devices,
    holds_everything,
    overwrite_page,
    overwritten,
    truncated,
)
from tests.support.desk import DATABASE, started
from tests.support.device import ManualClock

__all__ = ["crashed", "device", "devices"]


def test_a_sound_database_is_left_alone(device: tuple[Path, Queue]) -> None:
    folder, queue = device
    before = (folder / DATABASE).stat().st_ino
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        assert (desk.notices(), desk.was_own) == ([], True)
    assert (folder / DATABASE).stat().st_ino == before
    assert damaged_files(folder / DATABASE) == []


def test_a_large_file_that_was_closed_in_order_is_not_looked_through_before_a_week_is_over(
    devices: tuple[Path, Path, Queue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, clock, looked = tmp_path / "device", ManualClock(), list[str]()
    shutil.copytree(devices[0], folder)
    note = integrity.Checkup._note

    def noted(self: integrity.Checkup, **changed: object) -> None:
        looked.extend(changed.keys() & {"checked_ms"})
        note(self, **changed)

    monkeypatch.setattr(integrity.Checkup, "_note", noted)
    monkeypatch.setattr(integrity, "SMALL_BYTES", 0)
    expected = []
    for days in (0, 0, 3, 3, 3, 0):
        clock.advance(days * 24 * 3600 * 1000)
        with started(folder, clock) as desk:
            answer(desk, 1)
        expected.append(len(looked))
    assert expected == [1, 1, 1, 1, 2, 2]
    monkeypatch.setattr(integrity, "SMALL_BYTES", 10**9)
    with started(folder, clock):
        assert len(looked) == 3


def test_damage_that_shows_while_the_daemon_runs_ends_its_work_at_once(device: tuple[Path, Queue]) -> None:
    folder, queue = device
    with started(folder) as desk:
        with desk.database.read() as conn:
            (root,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'question_attempts'").fetchone()
        overwrite_page(folder / DATABASE, root)
        with pytest.raises(Unavailable), desk.database.read() as conn:
            conn.execute("SELECT * FROM question_attempts").fetchall()
        assert desk.database.failure is not None
        with pytest.raises(Unavailable):
            answer(desk, 1)
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        assert desk.notices()


def test_a_file_that_another_program_holds_is_not_taken_for_damaged(device: tuple[Path, Queue], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, queue = device
    monkeypatch.setattr(integrity, "BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable), started(folder):
            pass
        other.execute("ROLLBACK")
    with started(folder) as desk:
        assert holds_everything(desk, queue)


def test_a_file_of_another_account_is_left_to_a_person(device: tuple[Path, Queue], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, queue = device

    def refuse(path: object, mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    before = (folder / DATABASE).read_bytes()
    with pytest.raises(OperatorError, match="must belong to the account"), started(folder):
        pass
    assert (folder / DATABASE).read_bytes() == before
    monkeypatch.undo()
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        assert desk.notices() == []


def test_a_file_that_is_in_use_is_looked_through_once_a_week(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    folder, clock, looked, days = tmp_path / "device", ManualClock(), list[bool](), list[int]()
    shutil.copytree(devices[0], folder)
    with started(folder, clock) as desk:

        def look() -> None:
            desk.database.look_through()
            looked.append(True)

        checkup = integrity.Checkup(folder / DATABASE, folder, clock)
        for day in range(16):
            before = len(looked)
            checkup.repeat_if_due(look)
            days.extend([day] * (len(looked) - before))
            clock.advance(24 * 3600 * 1000)
    assert days == [7, 14]


def test_looking_through_a_damaged_file_ends_the_daemons_work(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    folder = tmp_path / "device"
    shutil.copytree(devices[0], folder)
    with started(folder) as desk:
        with desk.database.read() as conn:
            (root,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'idx_attempts_student_timestamp'").fetchone()
        overwrite_page(folder / DATABASE, root)
        with pytest.raises(Unavailable):
            desk.database.look_through()
        assert desk.database.failure is not None


def test_an_unsent_answer_that_was_altered_on_the_disk_is_not_sent_so(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    """SQLite has no checksums: it would not notice."""
    folder = tmp_path / "device"
    shutil.copytree(devices[0], folder)
    data = (folder / DATABASE).read_bytes()
    assert data.count(b'"answer":"answer 17"') > 1
    (folder / DATABASE).write_bytes(data.replace(b'"answer":"answer 17"', b'"answer":"answer 71"'))
    with started(folder) as desk:
        assert holds_everything(desk, devices[2])
        assert "not what it was when it was written" in desk.notices()[0]


def test_a_schema_that_was_altered_on_the_disk_is_noticed(device: tuple[Path, Queue]) -> None:
    folder, queue = device
    with started(folder):
        pass
    data = (folder / DATABASE).read_bytes()
    (folder / DATABASE).write_bytes(data.replace(b"'pending', 'synced', 'rejected'", b"'pendinh', 'synced', 'rejected'"))
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        assert "its schema is not what it was" in desk.notices()[0]


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_anywhere_is_noticed_or_harmless(devices: tuple[Path, Path, Queue], tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    folder = tmp_path / "device"
    shutil.copytree(draw.choice(devices[:2]), folder)
    wal = folder / f"{DATABASE}-wal"
    file = wal if wal.exists() and draw.random() < 0.5 else folder / DATABASE
    data = bytearray(file.read_bytes())
    for _ in range(draw.choice((1, 1, 5))):
        data[draw.randrange(draw.choice((100, 2 * PAGE, len(data))))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)
    with started(folder) as desk:
        assert holds_everything(desk, devices[2])


def test_a_header_that_the_wal_holds_too_is_no_damage(crashed: tuple[Path, Queue]) -> None:
    folder, queue = crashed
    overwritten(0, bytes(100))(folder / DATABASE)
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        assert desk.notices() == []


@pytest.mark.parametrize("damage", [Path.unlink, truncated(0), overwritten(0, b"noise" * 2000)])
def test_the_shm_is_nobodys_memory(crashed: tuple[Path, Queue], damage: Callable[[Path], None]) -> None:
    folder, queue = crashed
    damage(folder / f"{DATABASE}-shm")
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        assert desk.notices() == []
