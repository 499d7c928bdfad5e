"""Figures are at all times those of a fold over the attempts that are there, however they arrived."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from cloud_api.analytics import keep_up as keeping
from cloud_api.analytics import storage
from cloud_api.analytics.documents import write_documents
from cloud_api.analytics.engine import Engine, engine_of
from cloud_api.analytics.keep_up import KeptUp, keep_up, keep_up_school, recount
from domain.learning.analytics.student import Answer, StudentFigures, take_in
from domain.learning.attempts import FoldedAttempt, order_key
from domain.learning.features import WEIGHTS, StudentState
from domain.learning.rates import Counts, Rates
from tests.support.classroom import Classroom, Given

QUESTIONS = [f"{concept}-{n}" for concept in ("halves", "thirds", "sums", "products") for n in range(3)]


def some_answers(seed: int, count: int) -> list[Given]:
    """Answers of three students over forty days, in no order."""
    dice = random.Random(seed)
    return [
        Given(
            dice.choice(("ada", "ben", "cem")),
            dice.choice(QUESTIONS),
            dice.uniform(0, 40),
            dice.random() < 0.6,
            dice.choice(("42", "41", " 41 ", None)),
            dice.choice((None, 500, 20_000, 900_000)),
            dice.choice((None, 1, 4)),
            dice.choice(("laptop", "tablet")),
        )
        for _ in range(count)
    ]


def kept_up(room: Classroom, answers_max: int = 10_000, **options: Any) -> KeptUp:
    students = [room.ids[name] for name in ("ada", "ben", "cem")]
    with room.school.database.transaction(school=room.school.id) as cursor:
        return keep_up(cursor, room.school.id, students, engine_of(cursor, room.school.id), answers_max, **options)


def as_recounted(room: Classroom) -> list[tuple[Any, ...]]:
    recount(room.school.database, room.school.id)
    return room.rows()


def by_hand(room: Classroom) -> list[tuple[str, ...]]:
    """What the rows must hold, folded here from the attempts, sorted by Python."""
    answers: dict[str, list[Answer]] = {}
    with room.school.database.transaction(read_only=True, school=room.school.id) as cursor:
        engine = engine_of(cursor, room.school.id)
        cursor.execute(
            "SELECT a.student_id, a.id, a.answered_at_ms, a.device_id, a.question_id, q.concept_ids, a.correct, a.answer, a.active_ms, a.confidence"
            " FROM question_attempts a JOIN questions q USING (school_id) WHERE a.school_id = %s AND q.id = a.question_id",
            (room.school.id,),
        )
        for student, attempt, at_ms, device, question, concepts, correct, *rest in cursor.fetchall():
            answers.setdefault(student, []).append(Answer(FoldedAttempt(attempt, at_ms, device, question, tuple(concepts), correct), *rest))
    found: list[tuple[str, ...]] = []
    for student, given in sorted(answers.items()):
        figures = StudentFigures(StudentState(engine.rates, engine.weights))
        for answer in sorted(given, key=lambda answer: order_key(answer.attempt)):
            take_in(figures, answer)
        documents = write_documents(figures)
        found.append((student, documents.mastery, documents.days, str(documents.questions)))
    return found


@pytest.mark.parametrize("seed", range(4))
def test_figures_kept_up_batch_by_batch_equal_those_made_anew_from_raw_attempts(room: Classroom, seed: int) -> None:
    answers, dice = some_answers(seed, 120), random.Random(seed)
    if seed % 2:
        answers.sort(key=lambda a: -a.days_ago)  # with few late ones, as a school has them
    while answers:
        size = dice.randint(1, 30)
        room.answer(answers[:size])
        del answers[:size]
        if dice.random() < 0.7:
            kept_up(room)
    kept_up(room)
    rows = room.rows()
    assert len(rows) == 3
    assert [(row[0], *row[2:]) for row in rows] == by_hand(room)
    assert rows == as_recounted(room)


def test_answers_in_order_are_folded_onto_what_is_there_and_only_late_ones_cost_more(
    room: Classroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    folded: list[str] = []

    def counted(figures: StudentFigures, answer: Answer) -> None:
        folded.append(answer.attempt.attempt_id)
        take_in(figures, answer)

    monkeypatch.setattr(keeping, "take_in", counted)
    room.answer([Given("ada", "halves-0", 10 - n * 0.1, True) for n in range(20)])
    kept_up(room)
    assert len(folded) == 20
    room.answer([Given("ada", "halves-1", 1, True)])
    kept_up(room)
    assert len(folded) == 21
    room.answer([Given("ada", "halves-2", 9, True)])
    kept_up(room)
    assert len(folded) == 43  # all 22 once more
    kept_up(room)
    assert len(folded) == 43


def test_nothing_is_counted_twice_when_two_keep_up_at_once(room: Classroom) -> None:
    room.answer(some_answers(1, 30))
    database, school_id = room.school.database, room.school.id
    with database.transaction(school=school_id) as cursor:
        everyone = storage.students_of(cursor, school_id)
        assert len(storage.lock(cursor, school_id, everyone)) == 3

        results: list[KeptUp] = []
        other = threading.Thread(target=lambda: results.append(kept_up(room)))
        other.start()
        other.join(30)
        assert results[0].done == 0
        assert sum(results[0].behind.values()) == 30
    assert kept_up(room).done == 3
    assert room.rows() == as_recounted(room)


def test_what_cannot_be_afforded_stays_behind_and_is_told(room: Classroom) -> None:
    room.answer([Given("ada", "halves-0", 5 - n / 100, True) for n in range(50)] + [Given("ben", "halves-0", 1, True)])
    step = kept_up(room, answers_max=10)
    assert step.done == 1
    assert step.behind == {room.ids["ada"]: 50}
    assert kept_up(room, answers_max=10, whole=True).done == 1
    assert kept_up(room) == KeptUp(0)


def test_a_late_answer_that_cannot_be_afforded_waits_for_whoever_has_the_time(room: Classroom) -> None:
    room.answer([Given("ada", "halves-0", 5 - n / 100, True) for n in range(50)])
    kept_up(room)
    room.answer([Given("ada", "halves-0", 20, False)])
    assert kept_up(room, answers_max=10).behind == {room.ids["ada"]: 1}
    keep_up_school(room.school.database, room.school.id)
    assert room.rows() == as_recounted(room)
    assert room.rows()[0][1] == 51


def test_a_question_that_gets_other_concepts_is_counted_under_those(room: Classroom) -> None:
    room.answer(some_answers(2, 60))
    kept_up(room)
    before = room.rows()
    room.put_question("halves-0", "fractions", ["thirds"])
    kept_up(room)
    assert room.rows() != before
    assert room.rows() == as_recounted(room)


def test_a_question_whose_text_changes_makes_nothing_anew(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    room.answer(some_answers(2, 60))
    kept_up(room)
    monkeypatch.setattr(keeping, "take_in", lambda figures, answer: pytest.fail("folded"))
    room.put_question("halves-0", "fractions", ["halves"])
    assert kept_up(room).done == 3
    assert kept_up(room).done == 0


def test_another_snapshot_makes_everything_anew(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    room.answer(some_answers(3, 60))
    kept_up(room)
    rates = Rates(0.5, {}, {room.ids["halves-0"]: Counts(1, 50)}, {})
    other = Engine(rates, WEIGHTS, "1/other")
    with room.school.database.transaction(school=room.school.id) as cursor:
        students = storage.students_of(cursor, room.school.id)
        assert keep_up(cursor, room.school.id, students, other, 10_000).done == 3
    anew = room.rows()
    monkeypatch.setattr(keeping, "engine_of", lambda cursor, school_id: other)
    assert anew == as_recounted(room)


def test_what_was_counted_stays_when_raw_attempts_are_no_longer_kept(room: Classroom) -> None:
    room.answer([Given("ada", "halves-0", 30 - n, True) for n in range(10)])
    kept_up(room)
    with room.school.database.transaction(school=room.school.id) as cursor:
        cursor.execute("DELETE FROM question_attempts WHERE school_id = %s", (room.school.id,))
    room.answer([Given("ada", "halves-1", 25, False), Given("ada", "halves-1", 1, True)])
    kept_up(room)
    with room.school.database.transaction(school=room.school.id) as cursor:
        stored = storage.read(cursor, room.school.id, [room.ids["ada"]], engine_of(cursor, room.school.id))[room.ids["ada"]]
    assert stored.answers == 12
    assert stored.figures.state.concepts[room.ids["halves"]].right == 11


def test_an_erased_student_is_forgotten_and_does_not_come_back(room: Classroom) -> None:
    room.answer(some_answers(4, 30))
    kept_up(room)
    with room.school.database.transaction(school=room.school.id) as cursor:
        cursor.execute("DELETE FROM question_attempts WHERE school_id = %s AND student_id = %s", (room.school.id, room.ids["ada"]))
        assert storage.forget(cursor, room.school.id, room.ids["ada"]) == 1
    assert kept_up(room).done == 0
    assert room.ids["ada"] not in {row[0] for row in room.rows()}
