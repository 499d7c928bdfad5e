"""Why this number: the parts add up to the score, and each says what it stands for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.learning.attempts import FoldedAttempt
from domain.learning.explanation import Part, explain_score
from domain.learning.mastery import DAY_MS, QuestionRef, Rates, StudentState, fold, predict, score, with_guessing
from domain.learning.odds import logit
from tests.unit.domain.learning.test_mastery import FEW_EXAMPLES, REFERENCE_RATES, START_MS, TABLES, attempt, histories, reference_attempts


@FEW_EXAMPLES
@given(histories(), TABLES, st.integers(0, 400))
def test_start_and_shares_add_up_to_the_score_as_shown(answers: list[FoldedAttempt], rates: Rates, days: int) -> None:
    state, at_ms = fold(answers, rates), START_MS + days * DAY_MS
    for concept in ("c1", "never met"):
        explained = explain_score(state, concept, at_ms)
        assert explained.score == score(state, concept, at_ms)
        assert explained.start + sum(share.added for share in explained.shares) == pytest.approx(explained.score, abs=1e-9)


def test_of_a_student_of_whom_nothing_is_known_nothing_is_explained_away() -> None:
    explained = explain_score(StudentState(REFERENCE_RATES), "c1", START_MS)
    assert explained.start == explained.score
    assert {share.added for share in explained.shares} == {0.0}
    assert [share.reason for share in explained.shares] == ["no answer yet", "no answer to anything yet", "never met"]


def test_time_alone_takes_away_and_the_reason_says_how_long_it_was() -> None:
    state, last_ms = fold(reference_attempts(), REFERENCE_RATES), reference_attempts()[-1].answered_at_ms
    assert last_ms is not None
    at_once, later = (explain_score(state, "c1", last_ms + days * DAY_MS).shares[-1] for days in (0, 7))
    assert (at_once.part, at_once.added, at_once.reason) == (Part.TIME, 0.0, "met within a day")
    assert later.reason == "last met 7 days ago"
    assert later.added == pytest.approx(0.5100 - 0.6822, abs=1e-9)


def test_right_answers_add_and_wrong_ones_take_away() -> None:
    for correct in (True, False):
        state = fold([attempt(n, START_MS, correct) for n in range(4)], Rates.empty())
        share = explain_score(state, "c1", START_MS).shares[0]
        assert share.part is Part.ANSWERS
        assert share.reason == f"4 answers, {4 * correct} right"
        assert (share.added > 0) is correct


def test_guessing_leaves_what_the_table_says_and_lifts_nobody_below_the_floor() -> None:
    for expected in (0.3, 0.6, 0.9):
        assert with_guessing(logit(expected), expected, 4) == pytest.approx(expected)
        assert with_guessing(-50, expected, 4) == pytest.approx(0.25)
        assert with_guessing(50, expected, 4) == pytest.approx(1)
    assert with_guessing(-3, 0.2, 4) < 0.25  # a question that misleads


def test_a_multiple_choice_question_is_never_below_its_floor_and_others_can_be() -> None:
    state = fold([attempt(n, START_MS, False, question="q") for n in range(12)], Rates.empty())
    plain, choice = (predict(state, QuestionRef("new", ("c1",), options), START_MS) for options in (None, 4))
    assert plain < 0.25 < choice < 0.5
