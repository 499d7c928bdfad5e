"""The side file of unsent operations: what is committed is in it, what is settled leaves it, and damage to it costs only what it hits."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.database import DeviceDatabase
from daemon.erasure.rows import close_up
from daemon.identity.device import Identity
from daemon.models import MODELS
from daemon.queue import outbox
from daemon.records import LocalRecords, NewAttempt
from daemon.recovery import journal as journal_module
from daemon.recovery.journal import Journal
from daemon.recovery.journal_file import journal_path, read, scan
from domain.clock import HybridClock
from domain.errors import InvalidInput
from domain.ids import Id, IdSource
from domain.operations import OperationKind
from tests.support.device import ADA, QUESTIONS, SCHOOL_ID, ManualClock, seeded_database


class Desk:
    """A database with its journal, and what is recorded in it."""

    def __init__(self, folder: Path) -> None:
        clock = ManualClock()
        path = seeded_database(folder)
        self.path = journal_path(path)
        self.database = DeviceDatabase(path, journal=Journal(self.path))
        self.database.open(MODELS)
        ids = IdSource(clock.now_ms)
        self.identity = Identity(self.database, folder, clock, ids)
        self.records = LocalRecords(self.database, clock, ids, HybridClock(clock), self.identity.device_id)

    def answer(self, count: int = 1) -> list[Id]:
        return [r.id for r in self.records.record_attempts(ADA, [NewAttempt(QUESTIONS[0], True, "free", "4") for _ in range(count)])]

    def settle(self, through: int, rejected: int | None = None) -> None:
        """What an answer of the school's server does, as far as the journal is concerned."""

        def work(conn: sqlite3.Connection) -> None:
            conn.execute("UPDATE sync_operations SET state = 'synced' WHERE op_no <= ? AND state = 'pending'", (through,))
            conn.execute("UPDATE sync_operations SET state = 'rejected', code = 'set_aside' WHERE op_no = ?", (rejected,))
            conn.execute("UPDATE sync_progress SET acked_op_no = ?", (through,))

        self.database.write(work)

    def journalled(self) -> list[str]:
        return [operation.op_id for operation in read(self.path, scan(self.path))]

    def queued(self) -> list[str]:
        with self.database.read() as conn:
            return [row[0] for row in conn.execute("SELECT op_id FROM sync_operations WHERE state = 'pending' ORDER BY op_no")]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.database.close()


def test_every_committed_operation_is_in_it_whole_when_its_caller_hears_of_it(desk: Desk) -> None:
    ids = desk.answer(3)
    desk.records.update_profile(ADA, {"grade": "6", "available_minutes": [10, 0, 0, 0, 0, 0, 0]})
    operations = list(read(desk.path, scan(desk.path)))
    with desk.database.read() as conn:
        rows = conn.execute(
            "SELECT op_no, op_id, table_name, row_id, kind, schema_version, hlc, wall_ms, mono_ms, boot_id, payload, base, state, code, message"
            " FROM sync_operations JOIN boots USING (boot_no) ORDER BY op_no"
        ).fetchall()
    assert [tuple(operation) for operation in operations] == rows
    assert [operation.row_id for operation in operations] == [*ids, ADA]
    assert scan(desk.path).school_id == SCHOOL_ID
    assert desk.path.stat().st_mode & 0o777 == 0o600


def test_what_is_rolled_back_never_gets_into_it(desk: Desk) -> None:
    def half(conn: sqlite3.Connection) -> None:
        outbox.Outbox(ManualClock()).append(conn, [outbox.NewOperation("question_attempts", Id("f" * 32), OperationKind.INSERT, {})])
        raise InvalidInput([], "no")

    with pytest.raises(InvalidInput):
        desk.database.write(half)
    kept = desk.answer()
    assert desk.journalled() == kept


def test_it_is_empty_when_everything_is_settled_and_goes_on_afterwards(desk: Desk) -> None:
    desk.answer(5)
    desk.settle(through=5)
    assert desk.path.stat().st_size == 0
    assert desk.journalled() == desk.queued() == [] != desk.answer(2)
    assert desk.journalled() == desk.queued()
    assert scan(desk.path).school_id == SCHOOL_ID


def test_what_is_settled_in_part_is_not_unsent_any_more(desk: Desk) -> None:
    ids = desk.answer(5)
    desk.settle(through=3)
    assert desk.journalled() == desk.queued() == ids[3:]


def test_a_rejected_operation_stays_in_it_because_it_may_be_nowhere_else(desk: Desk) -> None:
    ids = desk.answer(4)
    desk.settle(through=3, rejected=2)
    desk.settle(through=4)
    (kept,) = read(desk.path, scan(desk.path))
    assert (kept.op_id, kept.state, kept.code) == (ids[1], "rejected", "set_aside")


def test_it_follows_when_settled_operations_are_to_be_sent_once_more(desk: Desk) -> None:
    ids = desk.answer(4)
    desk.settle(through=4)
    desk.database.write(lambda conn: desk.identity.start_incarnation(conn, resend_all=True))
    assert desk.journalled() == desk.queued() == ids


def test_it_follows_when_the_log_closes_up_behind_a_student_who_was_erased(desk: Desk) -> None:
    desk.answer(4)

    def erase(conn: sqlite3.Connection) -> None:
        close_up(conn, [1, 2])
        desk.identity.start_incarnation(conn, resend_all=False)

    desk.database.write(erase)
    assert desk.journalled() == desk.queued() != desk.answer(1)
    assert desk.journalled() == desk.queued()


def test_a_start_writes_it_anew_from_the_database(desk: Desk) -> None:
    ids = desk.answer(4)
    desk.database.close()
    desk.path.write_bytes(b"nothing of this is true\n")
    database = DeviceDatabase(desk.database.path, journal=Journal(desk.path))
    database.open(MODELS)
    database.close()
    assert desk.journalled() == ids


def test_it_stays_within_a_small_multiple_of_what_is_queued(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "REWRITE_MIN_BYTES", 4_000)
    bytes_of_one = 400
    for batch in range(20):
        desk.answer(20)
        desk.settle(through=20 * (batch + 1) - 10)
        assert desk.path.stat().st_size < 4_000 + 2 * bytes_of_one * 30
        assert desk.journalled() == desk.queued()


def test_a_torn_line_at_the_end_costs_nothing_else(desk: Desk) -> None:
    ids = desk.answer(3)
    whole = desk.path.read_bytes()
    last = whole.rindex(b"\n", 0, -1) + 1
    for size in range(last, len(whole)):
        desk.path.write_bytes(whole[:size])
        assert desk.journalled() == ids[:2], size
        assert scan(desk.path).unreadable == 0


def test_a_flipped_bit_costs_one_line_and_is_counted(desk: Desk) -> None:
    ids = desk.answer(5)
    whole = desk.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    begin = len(lines[0]) + len(lines[1])
    for at in range(begin, begin + len(lines[2])):
        data = bytearray(whole)
        data[at] ^= 1
        desk.path.write_bytes(data)
        left = desk.journalled()
        assert left == [ids[0], *ids[2:]] or left == [ids[0], *ids[3:]], at  # its newline binds two lines together
        assert scan(desk.path).unreadable == 1


def test_a_write_that_fails_is_made_up_for_and_nobody_who_was_acknowledged_is_refused(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    before = desk.answer(2)

    def full(file: int, data: bytes, offset: int) -> int:
        real(file, data[:10], offset)
        raise OSError(errno.ENOSPC, "No space left on device")

    real: Any = os.pwrite
    monkeypatch.setattr(os, "pwrite", full)
    missing = desk.answer(2)
    assert desk.journalled() == before
    monkeypatch.undo()
    after = desk.answer(1)
    assert desk.journalled() == [*before, *missing, *after]


def test_syncing_it_costs_nothing_when_nothing_was_appended(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    journal = desk.database._journal
    assert journal is not None
    desk.answer()
    monkeypatch.setattr(os, "fsync", synced.append)
    journal.sync()
    journal.sync()
    assert len(synced) == 1
