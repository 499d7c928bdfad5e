"""The difficulty snapshot: counted from answers of many students, published as bytes, the same wherever it is read."""

from __future__ import annotations

import json

import pytest

from domain.errors import InvalidInput
from domain.learning.attempts import FoldedAttempt
from domain.learning.difficulty import DifficultyTable, read_snapshot, snapshot
from domain.learning.mastery import OVERALL_RATE, Counts, QuestionRef, Rates, StudentState, predict
from tests.unit.domain.learning.test_mastery import attempt

ANSWERS = [
    *(attempt(n, None, n < 30, ("c1",), "q0") for n in range(40)),
    *(attempt(100 + n, None, n < 20, ("c2", "c1", "c2"), "q1") for n in range(80)),
]


def test_answers_are_counted_by_question_and_by_exact_set_of_concepts() -> None:
    rates = DifficultyTable.of(ANSWERS).rates()
    assert rates.by_concepts == {("c1",): Counts(30, 40), ("c1", "c2"): Counts(20, 80)}
    assert rates.by_question == {"q0": Counts(30, 40), "q1": Counts(20, 80)}
    assert rates.by_concept == {"c1": Counts(50, 120), "c2": Counts(20, 80)}
    assert rates.overall == 50 / 120
    assert DifficultyTable.of(ANSWERS[:99]).rates().overall == OVERALL_RATE


def test_rates_of_a_growing_table_follow_it() -> None:
    table = DifficultyTable()
    rates = table.rates()
    table.count("q0", ("c1",), False)
    assert rates.by_question == {"q0": Counts(0, 1)}


def test_a_table_without_a_part_is_the_table_of_the_rest() -> None:
    whole, part, rest = (DifficultyTable.of(answers) for answers in (ANSWERS, ANSWERS[:40], ANSWERS[40:]))
    assert whole.without(part) == rest


def test_the_order_of_counting_does_not_change_a_snapshot_and_one_more_answer_does() -> None:
    first, second = (snapshot(DifficultyTable.of(answers)) for answers in (ANSWERS, ANSWERS[::-1]))
    assert first == second
    assert snapshot(DifficultyTable.of(ANSWERS[1:])).id != first.id


def test_a_snapshot_survives_its_bytes_and_predicts_the_same() -> None:
    table = DifficultyTable.of(ANSWERS)
    made = snapshot(table, {"q7": 0.25, "ü": 0.9})
    read = read_snapshot(made.encoded)
    assert read == made
    assert read.rates.by_concept == table.by_concept
    assert read.rates == Rates(50 / 120, table.by_concepts, table.by_question, {"q7": 0.25, "ü": 0.9})
    question = QuestionRef("q1", ("c2", "c1"))
    assert predict(StudentState(read.rates), question, None) == predict(StudentState(table.rates({"q7": 0.25})), question, None)
    assert b" " not in made.encoded


def test_everything_in_a_snapshot_is_sorted_so_that_equal_counts_have_equal_bytes() -> None:
    table = DifficultyTable.of(attempt(n, None, True, (f"c{n % 17}", f"c{n % 5}"), f"q{n % 29}") for n in range(200))
    content = json.loads(snapshot(table, {"z": 0.5, "a": 0.5}).encoded)
    assert content["concepts"] == sorted(content["concepts"]) and len(content["concepts"]) == 17
    assert all(content[name] == sorted(content[name]) for name in ("questions", "stated"))
    assert list(content) == sorted(content)


def test_the_empty_table_can_be_published() -> None:
    assert read_snapshot(snapshot(DifficultyTable()).encoded).rates == Rates.empty()


def test_what_is_not_a_snapshot_is_refused() -> None:
    good = json.loads(snapshot(DifficultyTable.of(ANSWERS), {"q7": 0.25}).encoded)
    broken = [
        {**good, "format": 2}, {**good, "sets": [[[5], 1, 2]]}, {**good, "sets": [[[-1], 1, 2]]}, {**good, "questions": [["q", 3, 2]]},
        {**good, "questions": [["q", 1.0, 2]]}, {**good, "stated": [["q", 2.0]]}, {**good, "total": [1]}, {**good, "concepts": [1, 2]}, [],
    ]  # fmt: skip
    for content in (b"", b"[", b"\xff", b"[" * 100_000, *(json.dumps(case).encode() for case in broken)):
        with pytest.raises(InvalidInput) as refused:
            read_snapshot(content)
        assert refused.value.problems[0].code == "malformed"


def test_attempts_without_concepts_are_counted_together() -> None:
    table = DifficultyTable.of([FoldedAttempt("a", None, "d", "q", (), True)])
    assert table.by_concepts == {(): Counts(1, 1)}
    assert read_snapshot(snapshot(table).encoded).rates.by_concepts == {(): Counts(1, 1)}


def test_answers_counted_elsewhere_make_the_same_table() -> None:
    table = DifficultyTable()
    for question, concepts, counts in (
        ("q0", ("c1",), Counts(10, 15)),
        ("q1", ("c1", "c2"), Counts(20, 80)),
        ("q0", ("c1",), Counts(20, 25)),
    ):
        table.add(question, concepts, counts)
    assert table == DifficultyTable.of(ANSWERS)
