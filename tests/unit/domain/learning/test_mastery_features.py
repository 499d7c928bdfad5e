"""Features that wait for a school's own refit: what they say, and that nothing that is shown changes by them before."""

from __future__ import annotations

from dataclasses import replace
from math import log

import pytest

from domain.learning.attempts import FoldedAttempt, QuestionRef
from domain.learning.features import WEIGHTS, StudentState, Weights, concept_features, question_features
from domain.learning.mastery import fold, predict, score
from domain.learning.odds import logit
from domain.learning.rates import Counts, Rates
from tests.unit.domain.learning.test_mastery import START_MS, attempt

WAITING = ("pause", "short", "again", "lasting", "form", "parts", "several")
ASKED = QuestionRef("new", ("c1", "c2"))


def answered(*right: bool, rates: Rates | None = None) -> StudentState:
    return fold([attempt(n, START_MS + n * 1000, correct) for n, correct in enumerate(right)], rates or Rates.empty())


def feature(name: str, state: StudentState, question: QuestionRef = ASKED) -> float:
    return question_features(state, question, None)[Weights._fields.index(name)]


def test_features_of_which_no_public_log_has_told_weigh_nothing_as_shipped() -> None:
    assert {name for name in Weights._fields if getattr(WEIGHTS, name) == 0} == set(WAITING)


def test_the_lasting_rate_forgets_nothing() -> None:
    early, late = answered(*[True] * 100, *[False] * 100), answered(*[False] * 100, *[True] * 100)
    assert feature("lasting", early) == feature("lasting", late)
    assert feature("rate", early) < feature("rate", late)
    overall = Rates.empty().overall
    assert feature("lasting", early) == pytest.approx(logit((100 + 5 * overall) / 205) - logit(overall))


def test_form_counts_how_far_answers_were_above_what_was_foretold() -> None:
    """A right answer to a question that nobody gets right says more than one that all get right."""
    table = Rates(by_question={"hard": Counts(50, 1000), "easy": Counts(950, 1000)})

    def after(question: str, correct: bool) -> float:
        return feature("form", fold([attempt(1, START_MS, correct, ("c1",), question)], table))

    assert after("hard", True) > after("easy", True) > 0 > after("hard", False) > after("easy", False)
    chance = predict(StudentState(table), QuestionRef("hard", ("c1",)), START_MS)
    assert after("hard", True) == pytest.approx((1 - chance) / (chance * (1 - chance) + 1))


def test_form_is_measured_by_the_shipped_weights_whichever_are_in_force() -> None:
    answers = [attempt(n, START_MS + n * 1000, n % 3 > 0) for n in range(30)]
    shipped, own = (fold(answers, Rates.empty(), weights) for weights in (WEIGHTS, WEIGHTS._replace(constant=2.0, form=1.0)))
    assert (shipped.surprise, shipped.doubt) == (own.surprise, own.doubt)


def test_form_is_of_the_moment_and_no_part_of_a_score() -> None:
    state = replace(answered(True, False, True), weights=WEIGHTS._replace(form=1.0))
    lucky = replace(state, surprise=3.0)
    assert score(lucky, "c1", None) == score(state, "c1", None)
    assert predict(lucky, ASKED, None) > predict(state, ASKED, None)
    assert concept_features(lucky, "c1", None)[Weights._fields.index("form")] == 0


def test_concepts_asked_together_for_the_first_time_are_known_from_the_company_that_they_kept_before() -> None:
    table = Rates(0.5, {("c1", "c3"): Counts(10, 95), ("c1",): Counts(10, 100), ("c2",): Counts(90, 100)})
    one, other = logit((20 + 2.5) / 200), logit((90 + 2.5) / 105)
    assert feature("parts", StudentState(table)) == pytest.approx((one + other) / 2)
    assert feature("parts", StudentState(Rates.empty())) == 0


def test_the_number_of_concepts_counts_by_its_logarithm() -> None:
    assert [feature("several", StudentState(Rates.empty()), QuestionRef("q", concepts)) for concepts in ((), ("a",), ("a", "b", "b"))] == [
        0, 0, pytest.approx(log(2)),
    ]  # fmt: skip


def test_an_answer_without_concepts_is_counted_too() -> None:
    state = fold([FoldedAttempt("a", START_MS, "d", "q", (), True)], Rates.empty())
    assert (state.answers, state.right, state.concepts) == (1, 1, {})
    assert state.surprise > 0
