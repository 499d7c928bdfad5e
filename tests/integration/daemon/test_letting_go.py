"""Letting go of answers on a device: in small steps, to the last byte, whatever comes in between."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from daemon.erasure import answers
from daemon.records import NewAttempt
from domain.errors import StorageFull
from domain.wire import AnswersLetGo
from tests.support.device import ADA, QUESTIONS, DeviceUnderTest

TOLD = AnswersLetGo(100, 1_000)
COUNT = 7


@pytest.fixture
def device(device: DeviceUnderTest) -> DeviceUnderTest:
    """One with answers that came to school long ago, and the school's word to let go of them."""
    device.records.record_attempts(ADA, [NewAttempt(QUESTIONS[0], True, "free", "secret") for _ in range(COUNT)])
    device.execute("UPDATE question_attempts SET feed_no = 5")
    device.execute("UPDATE sync_operations SET state = 'synced', settled_at_ms = 1")
    device.execute("UPDATE sync_progress SET acked_op_no = ?", COUNT)
    device.database.write(lambda conn: answers.note(conn, TOLD))
    return device


def left(device: DeviceUnderTest) -> int:
    """How many rows and operations still have an answer."""
    ((rows,),) = device.rows("SELECT count(*) FROM question_attempts WHERE answer IS NOT NULL")
    ((operations,),) = device.rows("SELECT count(*) FROM sync_operations WHERE instr(payload, 'secret') > 0")
    return int(rows + operations)


def is_due(device: DeviceUnderTest) -> bool:
    with device.database.read() as conn:
        return answers.due(conn) is not None


def test_no_write_touches_more_than_its_rows_and_none_looks_at_a_row_twice(
    device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "ROWS_MAX", 3)
    steps, let_go = list[answers.Step](), answers.let_go

    def counted(conn: sqlite3.Connection, **options: Any) -> answers.Step:
        steps.append(let_go(conn, **options))
        return steps[-1]

    monkeypatch.setattr(answers, "let_go", counted)
    device.rounds._eraser.carry_out()
    assert [step.gone for step in steps] == [6, 6, 2, 0]
    assert (left(device), is_due(device)) == (0, False)


def test_a_disk_too_full_to_write_the_files_anew_has_them_written_another_time(
    device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    written, write_anew = list[bool](), device.database.write_anew

    def once_full() -> None:
        written.append(bool(written))
        if not written[-1]:
            raise StorageFull
        write_anew()

    monkeypatch.setattr(device.database, "write_anew", once_full)
    with pytest.raises(StorageFull):
        device.rounds._eraser.carry_out()
    assert (left(device), is_due(device)) == (0, True)
    for _ in range(2):
        device.rounds._eraser.carry_out()
    assert (written, is_due(device)) == ([False, True], False)


def test_a_look_that_was_broken_off_is_begun_again(device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    device.rounds._eraser.carry_out()
    device.execute("UPDATE question_attempts SET answer = 'secret'")
    device.database.write(lambda conn: answers.note_arrived(conn, {"feed_no": [5], "answer": ["secret"], "confidence": [None]}))
    monkeypatch.setattr(answers, "ROWS_MAX", 3)
    device.database.write(lambda conn: answers.let_go(conn, TOLD, answers.Place()))
    assert (left(device), is_due(device)) == (COUNT - 3, True)
    device.rounds._eraser.carry_out()
    assert (left(device), is_due(device)) == (0, False)


def test_what_comes_while_the_files_are_written_anew_is_looked_at_again(device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    again, write_anew = [True, False], device.database.write_anew

    def comes_meanwhile() -> None:
        write_anew()
        if again.pop(0):
            device.execute("UPDATE question_attempts SET answer = 'secret'")
            device.database.write(lambda conn: answers.note_arrived(conn, {"feed_no": [5], "answer": ["secret"], "confidence": [None]}))

    monkeypatch.setattr(device.database, "write_anew", comes_meanwhile)
    device.rounds._eraser.carry_out()
    assert (again, left(device), is_due(device)) == ([], 0, False)
