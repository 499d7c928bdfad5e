"""Histories held in memory are at all times those of a fold over what is stored."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from daemon.learning import histories as module
from daemon.learning.attempts import folded_attempts
from daemon.learning.histories import IDLE_MS_MAX, Histories
from daemon.learning.mastery import refresh_stale
from daemon.learning.model import current_model
from daemon.learning.students import HeldStudent, Student
from daemon.records import NewAttempt
from domain.ids import Id, derived_id
from domain.learning.attempts import concept_set
from domain.learning.difficulty import DifficultyTable, snapshot
from domain.learning.mastery import fold
from domain.learning.memory import StudyFold
from tests.support.device import ADA, BEN, DAY_MS, DEVICE_ID, HOUR_MS, QUESTIONS, START_MS, DeviceUnderTest, concept_id


def record(device: DeviceUnderTest, student: Id, question: Id, correct: bool = True, at_ms: int | None = None) -> None:
    device.records.record_attempts(student, [NewAttempt(question, correct, "free", answered_at_ms=at_ms)])


def pulled(device: DeviceUnderTest, student: Id, name: str, question: Id, at_ms: int) -> None:
    """An attempt that comes down, with the mark that the inbox leaves."""
    device.execute(
        "INSERT INTO question_attempts (id, student_id, question_id, correct, answered_at_ms, purpose, device_id, feed_no)"
        " VALUES (?, ?, ?, 1, ?, 'free', ?, 7)",
        *(derived_id("pulled", name), student, question, at_ms, derived_id("another device")),
    )
    marked(device, student)


def marked(device: DeviceUnderTest, student: Id) -> None:
    device.execute("INSERT OR REPLACE INTO mastery_stale (student_id) VALUES (?)", student)


def check(device: DeviceUnderTest, histories: Histories, student: Id) -> None:
    """The student's state and study are those of a fresh fold."""
    with histories.lock:
        held = histories.up_to_date(student, device.clock.now_ms())
        with device.database.read() as conn:
            attempts, model = list(folded_attempts(conn, student)), current_model(conn)
        assert list(held.recent) == attempts
        assert held.study.study() == StudyFold.of(attempts).study()
        fresh, state = fold(attempts, model.rates, model.weights), held.state
        assert replace(state, latest=None) == replace(fresh, latest=None)
        assert held.model.version == model.version


def changes(device: DeviceUnderTest, dice: random.Random, number: int) -> None:
    """One change of those that happen to a device, drawn at random."""
    student, question = dice.choice([ADA, BEN]), dice.choice(QUESTIONS)
    match dice.randrange(9):
        case 0 | 1 | 2:
            record(device, student, question, dice.random() < 0.7)
        case 3:
            record(device, student, question, at_ms=device.clock.now_ms() - dice.randrange(90) * DAY_MS)
        case 4:
            pulled(device, student, str(number), question, device.clock.now_ms() - dice.randrange(20) * HOUR_MS)
        case 5:  # the school has corrected the clock
            device.execute(
                "UPDATE question_attempts SET corrected_at_ms = answered_at_ms - ? WHERE student_id = ? AND id >= ?",
                *(dice.randrange(40) * DAY_MS, student, derived_id(str(number))),
            )
            marked(device, student)
        case 6:
            device.execute("DELETE FROM question_attempts WHERE student_id = ? AND id > ?", student, f"{dice.randrange(16):x}f")
        case 7:
            concepts = [concept_id(c) for c in dice.sample(["scoring", "snapping", "gathering"], 2)]
            device.execute("UPDATE questions SET concept_ids = ? WHERE id = ?", json.dumps(concepts), question)
            for one in (ADA, BEN):
                marked(device, one)
        case 8:
            published(device, dice.randrange(50))


def published(device: DeviceUnderTest, right: int) -> None:
    """A difficulty snapshot from the school."""
    table = DifficultyTable()
    for n in range(50):
        table.count(QUESTIONS[0], concept_set([concept_id("scoring")]), n < right)
    device.execute("INSERT INTO difficulty_snapshots VALUES (?, ?, ?, 1, NULL)", derived_id(str(right), str(device.clock.now_ms())),
                   snapshot(table).encoded.decode(), device.clock.now_ms())  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("held_attempts_max", [1_000, 8])
def test_whatever_happens_to_the_attempts_a_history_is_the_fold_over_them(
    device: DeviceUnderTest, seed: int, held_attempts_max: int
) -> None:
    dice, histories = random.Random(seed), Histories(device.database, held_attempts_max)
    for number in range(60):
        device.clock.advance(dice.choice([0, 1, HOUR_MS, DAY_MS]))
        changes(device, dice, number)
        if dice.random() < 0.2:
            refresh_stale(device.database, device.clock, histories)  # takes the marks away
        if dice.random() < 0.6:
            check(device, histories, dice.choice([ADA, BEN]))
    for student in (ADA, BEN):
        check(device, histories, student)
        check(device, Histories(device.database), student)  # as after a restart


@pytest.mark.parametrize("held_attempts_max", [1_000, 2])
def test_a_new_answer_is_taken_in_without_reading_the_others(
    device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch, held_attempts_max: int
) -> None:
    histories = Histories(device.database, held_attempts_max)
    for _ in range(5):
        record(device, ADA, QUESTIONS[0])
        device.clock.advance(1000)
    check(device, histories, ADA)

    def everything(*_: Any) -> NoReturn:
        raise AssertionError("everything was read again")

    with monkeypatch.context() as patched:
        patched.setattr(module, "folded_attempts", everything)
        for _ in range(3):
            record(device, ADA, QUESTIONS[1], correct=False)
            device.clock.advance(1000)
            with histories.lock:
                histories.up_to_date(ADA, device.clock.now_ms())
        refresh_stale(device.database, device.clock, histories)
        with histories.lock:
            histories.up_to_date(ADA, device.clock.now_ms())
    check(device, histories, ADA)


def test_a_mark_is_followed_once_and_stays_until_the_cache_is_filled(device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    histories, compared = Histories(device.database), list[int]()
    record(device, ADA, QUESTIONS[0])
    real = HeldStudent.same_with

    def counted(student: HeldStudent, attempts: Any) -> Student:
        given = list(attempts)
        compared.append(len(given))
        return real(student, given)

    monkeypatch.setattr(HeldStudent, "same_with", counted)
    for _ in range(3):
        check(device, histories, ADA)
    pulled(device, ADA, "one", QUESTIONS[1], START_MS - HOUR_MS)
    for _ in range(3):
        check(device, histories, ADA)
    assert compared == [1, 2]
    assert device.rows("SELECT student_id FROM mastery_stale") == [(ADA,)]


def test_no_more_attempts_are_held_than_there_is_room_for(device: DeviceUnderTest) -> None:
    histories = Histories(device.database, held_attempts_max=5)
    for student in (ADA, BEN):
        for _ in range(4):
            record(device, student, QUESTIONS[0])
    for student in (ADA, BEN, ADA):
        check(device, histories, student)
        assert histories.held == [student]


def test_filling_the_cache_holds_nobody(device: DeviceUnderTest) -> None:
    histories = Histories(device.database)
    record(device, ADA, QUESTIONS[0])
    refresh_stale(device.database, device.clock, histories)
    assert histories.held == []
    assert device.rows("SELECT attempts FROM concept_mastery") == [(1,)]


def test_a_student_who_has_left_or_is_idle_is_let_go_of(device: DeviceUnderTest) -> None:
    histories = Histories(device.database)
    for student in (ADA, BEN):
        record(device, student, QUESTIONS[0])
        check(device, histories, student)
    for table in ("question_attempts", "concept_mastery", "mastery_stale"):
        device.execute(f"DELETE FROM {table} WHERE student_id = ?", ADA)
    refresh_stale(device.database, device.clock, histories)
    assert histories.held == [BEN]
    device.clock.advance(IDLE_MS_MAX + 1)
    refresh_stale(device.database, device.clock, histories)
    assert histories.held == []
    assert device.rows("SELECT DISTINCT student_id FROM concept_mastery") == [(BEN,)]


def test_an_answer_that_comes_while_the_cache_is_filled_leaves_the_student_stale(
    device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    histories = Histories(device.database)
    record(device, ADA, QUESTIONS[0])
    real = device.database.write

    def meanwhile(work: Any, **options: Any) -> Any:
        monkeypatch.undo()
        record(device, ADA, QUESTIONS[1])
        return real(work, **options)

    monkeypatch.setattr(device.database, "write", meanwhile)
    refresh_stale(device.database, device.clock, histories)
    assert device.rows("SELECT student_id, attempts FROM mastery_stale JOIN concept_mastery USING (student_id)") == [(ADA, 1)]
    refresh_stale(device.database, device.clock, histories)
    assert device.rows("SELECT sum(attempts) FROM concept_mastery") == [(2,)]
    assert device.rows("SELECT * FROM mastery_stale") == []
    assert device.rows("SELECT DISTINCT device_id FROM question_attempts") == [(DEVICE_ID,)]
