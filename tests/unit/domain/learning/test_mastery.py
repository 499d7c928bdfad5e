"""The mastery model: its published values, its independence of arrival order, and the levels made from it."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.learning.mastery import (
    DAY_MS,
    EVIDENCE_ANSWERS_MIN,
    OVERALL_RATE,
    SCALE,
    Counts,
    FoldedAttempt,
    Level,
    QuestionRef,
    Rates,
    StudentState,
    fold,
    logit,
    mastery_rows,
    observe,
    predict,
    score,
)

FEW_EXAMPLES = settings(max_examples=60)
HOUR_MS = DAY_MS // 24
START_MS = 1_700_000_000_000
REFERENCE_RATES = Rates(by_concepts={("c1",): Counts(30, 40)}, by_question={"q1": Counts(3, 10)})
# milliseconds after the start, question, concepts, z before, p before, answer
REFERENCE = [
    (0, "q1", ("c1",), -0.787538, 0.312698, False),
    (HOUR_MS, "q1", ("c1",), -0.880408, 0.293093, True),
    (DAY_MS, "q2", ("c1",), 0.508793, 0.624523, True),
    (4 * DAY_MS, "q1", ("c1",), -0.360546, 0.410827, True),
    (4 * DAY_MS + 60_000, "q3", ("c1", "c2"), 0.839124, 0.698281, False),
]


def attempt(n: int, at_ms: int | None, correct: bool, concepts: tuple[str, ...] = ("c1",), question: str | None = None) -> FoldedAttempt:
    return FoldedAttempt(f"a{n:04}", at_ms, "d1", question or f"q{n}", concepts, correct)


def reference_attempts() -> list[FoldedAttempt]:
    return [attempt(n, START_MS + at, right, concepts, q) for n, (at, q, concepts, _, _, right) in enumerate(REFERENCE)]


def level_of(state: StudentState, at_ms: int, concept: str = "c1") -> Level:
    return next(row.level for row in mastery_rows(state, at_ms) if row.concept_id == concept)


def test_predictions_are_the_reference_values_to_six_decimals() -> None:
    state = StudentState(REFERENCE_RATES)
    for expected, answer in zip(REFERENCE, reference_attempts(), strict=True):
        p = predict(state, QuestionRef(answer.question_id, answer.concept_ids), answer.answered_at_ms)
        assert (round(logit(p), 6), round(p, 6)) == expected[3:5]
        observe(state, answer)


@pytest.mark.parametrize(("days", "expected"), [(0, 0.6822), (1, 0.6277), (7, 0.5100), (30, 0.3937)])
def test_the_score_falls_with_time_as_the_reference_says(days: int, expected: float) -> None:
    state = fold(reference_attempts(), REFERENCE_RATES)
    last_ms = START_MS + REFERENCE[-1][0]
    assert mastery_rows(state, last_ms + days * DAY_MS)[0].score == expected
    assert score(state, "c1", last_ms + days * DAY_MS) == expected


def test_a_row_counts_answers_plainly_and_evidence_with_fading() -> None:
    row, other = mastery_rows(fold(reference_attempts(), REFERENCE_RATES), START_MS + 5 * DAY_MS)
    assert (row.concept_id, row.attempts, row.right, row.last_attempt_at_ms) == ("c1", 5, 3, START_MS + REFERENCE[-1][0])
    assert row.evidence == round(1 + 0.85 + 0.85**2 + 0.85**3 + 0.85**4, 4)
    assert (other.concept_id, other.attempts, other.right, other.evidence) == ("c2", 1, 0, 1.0)


def test_a_table_without_counts_gives_the_overall_rate_everywhere() -> None:
    rates = Rates.empty()
    assert rates.of_concepts(("c1",)) == OVERALL_RATE
    assert rates.of_question("q1", 0.4) == 0.4


def test_a_teachers_own_estimate_replaces_the_rate_shrunk_towards() -> None:
    rates = Rates(by_question={"q1": Counts(0, 5)}, stated={"q1": 0.9, "q2": 0.2})
    assert rates.of_question("q1", 0.5) == pytest.approx(0.45)
    assert rates.of_question("q2", 0.5) == 0.2


def test_a_school_uses_its_own_overall_rate_once_it_has_enough_attempts() -> None:
    assert Rates.overall_from(Counts(99, 99)) == OVERALL_RATE
    assert Rates.overall_from(Counts(60, 100)) == 0.6


def test_without_times_nothing_is_forgotten() -> None:
    without = fold([attempt(n, None, True) for n in range(3)], Rates.empty())
    at_once = fold([attempt(n, START_MS, True) for n in range(3)], Rates.empty())
    assert predict(without, QuestionRef("new", ("c1",)), START_MS) == predict(at_once, QuestionRef("new", ("c1",)), START_MS)
    assert predict(without, QuestionRef("new", ("c1",)), None) == predict(at_once, QuestionRef("new", ("c1",)), START_MS)


def test_a_last_answer_in_the_future_counts_as_just_now() -> None:
    state = fold([attempt(1, START_MS, True)], Rates.empty())
    assert score(state, "c1", START_MS - 5 * DAY_MS) == score(state, "c1", START_MS) > score(state, "c1", START_MS + DAY_MS)


def test_naming_concepts_in_another_order_or_twice_changes_nothing() -> None:
    rates = Rates(by_concepts={("c1", "c2"): Counts(2, 20)})
    states = [fold([attempt(1, START_MS, True, concepts)], rates) for concepts in (("c1", "c2"), ("c2", "c1", "c2"))]
    assert mastery_rows(states[0], START_MS) == mastery_rows(states[1], START_MS)
    assert predict(states[0], QuestionRef("q", ("c1", "c2")), START_MS) == predict(states[1], QuestionRef("q", ("c2", "c1")), START_MS)


def test_two_answers_are_not_enough_evidence_and_three_are() -> None:
    answers = [attempt(n, START_MS + n, True) for n in range(3)]
    assert level_of(fold(answers[:2], Rates.empty()), START_MS + 9) is Level.NOT_ENOUGH_EVIDENCE
    assert level_of(fold(answers, Rates.empty()), START_MS + 9) is not Level.NOT_ENOUGH_EVIDENCE


@pytest.mark.parametrize(("hours", "level"), [(19, Level.PROFICIENT), (20, Level.MASTERED)])
def test_mastered_needs_answers_twenty_hours_apart(hours: int, level: Level) -> None:
    answers = [*(attempt(n, START_MS + n, True) for n in range(9)), attempt(9, START_MS + hours * HOUR_MS, True)]
    state = fold(answers, Rates.empty())
    assert mastery_rows(state, START_MS + hours * HOUR_MS)[0].score >= 0.90
    assert level_of(state, START_MS + hours * HOUR_MS) is level


def mastered_early() -> StudentState:
    """Three right answers over a day to easy questions: just mastered, on little evidence."""
    answers = [attempt(n, START_MS + n * DAY_MS // 2, True) for n in range(3)]
    return fold(answers, Rates(by_concepts={("c1",): Counts(80, 100)}))


def test_a_wrong_answer_that_takes_two_levels_of_score_lowers_the_level_by_one() -> None:
    state, at_ms = mastered_early(), START_MS + DAY_MS
    assert level_of(state, at_ms) is Level.MASTERED
    observe(state, attempt(3, at_ms, False))
    assert 0.60 <= score(state, "c1", at_ms) < 0.80
    assert level_of(state, at_ms) is Level.PROFICIENT
    observe(state, attempt(4, at_ms, False))
    assert level_of(state, at_ms) is Level.FAMILIAR


def test_a_level_held_up_still_falls_with_forgetting() -> None:
    state, at_ms = mastered_early(), START_MS + DAY_MS
    observe(state, attempt(3, at_ms, False))
    falling = [SCALE.index(level_of(state, at_ms + days * DAY_MS)) for days in (0, 7, 300)]
    assert falling == sorted(falling, reverse=True) and falling[0] > falling[-1]


def test_a_level_held_up_does_not_rise_through_answers_about_other_concepts() -> None:
    state, at_ms = mastered_early(), START_MS + DAY_MS
    observe(state, attempt(3, at_ms, False))
    for n in range(4, 12):
        observe(state, attempt(n, at_ms, True, ("c2",)))
    assert 0.80 <= score(state, "c1", at_ms) < 0.90
    assert level_of(state, at_ms) is Level.PROFICIENT


def test_a_level_earned_back_is_no_longer_held_up() -> None:
    state, at_ms = mastered_early(), START_MS + DAY_MS
    observe(state, attempt(3, at_ms, False))
    observe(state, attempt(4, at_ms, True))
    assert level_of(state, at_ms) is Level.PROFICIENT
    assert 0.60 <= score(state, "c1", at_ms + 7 * DAY_MS) < 0.80
    assert level_of(state, at_ms + 7 * DAY_MS) is Level.FAMILIAR


@st.composite
def histories(draw: st.DrawFn) -> list[FoldedAttempt]:
    """Attempts of one student: few concepts and questions, gaps from nothing to weeks, several devices with equal times."""
    gaps = draw(st.lists(st.sampled_from([0, 0, 1, 20_000, HOUR_MS, DAY_MS, 30 * DAY_MS]), min_size=1, max_size=25))
    answers, at_ms = [], START_MS
    for n, gap in enumerate(gaps):
        at_ms += gap
        concepts = draw(st.sampled_from([("c1",), ("c2",), ("c1", "c2")]))
        question, device = draw(st.sampled_from(["q1", "q2", "q3"])), draw(st.sampled_from(["d1", "d2"]))
        answers.append(FoldedAttempt(f"a{(n * 7) % 25:02}", at_ms, device, question, concepts, draw(st.booleans())))
    return answers


TABLES = st.builds(
    lambda right, asked: Rates(by_concepts={("c1",): Counts(right, 40)}, by_question={"q1": Counts(asked, 10)}),
    st.integers(0, 40),
    st.integers(0, 10),
)


@FEW_EXAMPLES
@given(histories(), TABLES, st.randoms(use_true_random=False))
def test_any_arrival_order_with_duplicates_gives_the_same_rows(answers: list[FoldedAttempt], rates: Rates, shuffler: random.Random) -> None:
    arrived = answers + answers[::3]
    shuffler.shuffle(arrived)
    at_ms = START_MS + 900 * DAY_MS
    assert mastery_rows(fold(arrived, rates), at_ms) == mastery_rows(fold(answers, rates), at_ms)


@FEW_EXAMPLES
@given(histories(), TABLES)
def test_observing_one_by_one_is_folding_and_a_late_attempt_is_noticed(answers: list[FoldedAttempt], rates: Rates) -> None:
    state = StudentState(rates)
    in_order = sorted(answers, key=lambda a: (a.answered_at_ms, a.device_id, a.attempt_id))
    for answer in in_order:
        assert state.precedes(answer)
        observe(state, answer)
    assert state == fold(answers, rates)
    assert not any(state.precedes(answer) for answer in answers)


@FEW_EXAMPLES
@given(histories(), TABLES)
def test_one_wrong_answer_lowers_a_level_by_at_most_one_and_a_right_one_never(answers: list[FoldedAttempt], rates: Rates) -> None:
    state = StudentState(rates)
    for answer in sorted(answers, key=lambda a: (a.answered_at_ms, a.device_id, a.attempt_id)):
        at_ms = answer.answered_at_ms or 0
        before = {row.concept_id: row for row in mastery_rows(state, at_ms)}
        observe(state, answer)
        for row in mastery_rows(state, at_ms):
            earlier = before.get(row.concept_id)
            if row.concept_id in answer.concept_ids and earlier and earlier.attempts >= EVIDENCE_ANSWERS_MIN:
                assert SCALE.index(row.level) >= SCALE.index(earlier.level) - (not answer.correct)


@FEW_EXAMPLES
@given(histories(), TABLES)
def test_mastered_is_only_ever_shown_for_a_score_that_deserves_it(answers: list[FoldedAttempt], rates: Rates) -> None:
    """A level held up after a wrong answer does not rise above what was held when answers to other concepts raise the score."""
    last_ms = max(a.answered_at_ms or 0 for a in answers)
    for row in mastery_rows(fold(answers, rates), last_ms):
        if row.level is Level.MASTERED:
            assert row.score >= 0.90 and row.attempts >= 3
