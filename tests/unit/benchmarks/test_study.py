"""Study records as attempts."""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise

from benchmarks.study import Answered, Question, answered, read_reviews
from domain.ids import derived_id

QUESTIONS = [Question(derived_id("question", str(n)), f"right {n}", f"wrong {n}") for n in range(544)]


def test_every_review_of_the_log_becomes_an_attempt_at_its_time() -> None:
    reviews = read_reviews()
    attempts = list(answered(len(reviews), QUESTIONS, students=1))
    assert [a.attempt.active_ms for a in attempts] == [r.duration_ms for r in reviews]
    assert [a.attempt.correct for a in attempts] == [r.remembered for r in reviews]
    assert attempts[0].at_ms == reviews[0].at_ms


def test_a_card_is_always_the_same_question_and_the_answer_fits_its_rating() -> None:
    by_question = defaultdict(set)
    for a in answered(6_000, QUESTIONS, students=1):
        by_question[a.attempt.question_id].add((a.attempt.correct, a.attempt.answer))
    known = {q.id: q for q in QUESTIONS}
    assert len(by_question) > 500
    for question_id, seen in by_question.items():
        assert seen <= {(True, known[question_id].right), (False, known[question_id].wrong)}


def test_beyond_the_log_a_class_answers_together_and_time_never_stands_still() -> None:
    attempts: list[Answered] = list(answered(20_000, QUESTIONS, students=3))
    times = [a.at_ms for a in attempts]
    assert len(attempts) == 20_000
    assert all(before < after for before, after in pairwise(times))
    assert {a.student for a in attempts} == {0, 1, 2}
