"""Weights of a school's own: they follow its answers, and are used only where they foretell better."""

from __future__ import annotations

import random
from functools import cache

import pytest

from domain.learning import refit as module
from domain.learning.attempts import DAY_MS, FoldedAttempt
from domain.learning.features import WEIGHTS, StudentState, Weights, question_features, weighted_sum
from domain.learning.mastery import QuestionRef, observe
from domain.learning.odds import sigmoid
from domain.learning.rates import Rates
from domain.learning.refit import Blend, WeightFit, labelled_rows, log_loss, refit
from tests.unit.domain.learning.test_mastery import START_MS

STUDENTS, ANSWERS = 12, 100


def school(weights: Weights, seed: int) -> dict[str, list[FoldedAttempt]]:
    """A school whose students answer as these weights say."""
    dice = random.Random(seed)
    students = {}
    for s in range(STUDENTS):
        state, answers = StudentState(Rates.empty(), weights), list[FoldedAttempt]()
        for n in range(ANSWERS):
            question = QuestionRef(f"q{dice.randrange(40)}", (f"c{dice.randrange(8)}",))
            at_ms = START_MS + n * DAY_MS
            right = dice.random() < sigmoid(weighted_sum(weights, question_features(state, question, at_ms)))
            answers.append(FoldedAttempt(f"{s:03}-{n:04}", at_ms, "d", *question[:2], right))
            observe(state, answers[-1])
        students[f"s{s}"] = answers
    return students


@cache
def strange_school() -> dict[str, list[FoldedAttempt]]:
    """Where practice does harm."""
    return school(WEIGHTS._replace(constant=1.5, good=-0.7, gap=0.4), 1)


@pytest.fixture(autouse=True)
def small_schools_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REFIT_ATTEMPTS_MIN", 1_000)
    monkeypatch.setattr(module, "JUDGED_ATTEMPTS_MIN", 200)


def test_a_school_that_differs_gets_weights_of_its_own_that_foretell_its_last_month_better() -> None:
    found = refit(strange_school())
    assert found is not None and found.adopted
    assert found.fitted_loss < found.shipped_loss - 0.01
    assert found.weights.good < 0 < WEIGHTS.good
    assert found.attempts_judged == STUDENTS * 31


def test_weights_that_foretell_worse_are_not_adopted() -> None:
    """The last month is another school's: what was fitted before it misleads."""
    usual = school(WEIGHTS, 2)
    before = {s: answers[:69] for s, answers in strange_school().items()}
    mixed = {s: before[s] + usual[s][69:] for s in usual}
    found = refit(mixed)
    assert found is not None and not found.adopted
    assert found.weights == WEIGHTS and found.fitted_loss >= found.shipped_loss


def test_the_answers_of_the_last_month_are_foretold_and_not_learnt_from() -> None:
    answers = strange_school()["s0"]
    turned = {**strange_school(), "s0": [*answers[:-1], answers[-1]._replace(correct=not answers[-1].correct)]}
    one, other = refit(strange_school()), refit(turned)
    assert one is not None and other is not None
    assert one.adopted and other.adopted and one.weights == other.weights
    assert one.fitted_loss != other.fitted_loss


def test_a_school_with_few_attempts_keeps_the_shipped_weights() -> None:
    few = {s: answers[:50] for s, answers in strange_school().items()}
    assert refit(few) is None
    untimed = {s: [a._replace(answered_at_ms=None) for a in answers] for s, answers in strange_school().items()}
    assert refit(untimed) is None


def test_the_same_attempts_give_the_same_weights_in_whatever_order_they_come() -> None:
    shuffled = {s: list(reversed(answers)) for s, answers in reversed(strange_school().items())}
    assert refit(shuffled) == refit(strange_school())


def test_a_few_answers_hardly_move_the_weights() -> None:
    fit = WeightFit()
    for row in list(labelled_rows(strange_school()))[:5]:
        fit.learn(row.features, row.correct)
    assert all(abs(new - old) < 0.25 for new, old in zip(fit.weights, WEIGHTS, strict=True))
    assert fit.weights != WEIGHTS


def test_a_students_rows_are_made_without_the_students_own_answers() -> None:
    """One student alone has a table that nobody filled."""
    alone = {"s0": strange_school()["s0"]}
    bases = {row.features[Weights._fields.index("skill")] for row in labelled_rows(alone)}
    assert len(bases) == 1


def test_rates_can_be_made_of_what_was_answered_before_a_time_alone() -> None:
    """What is to be foretold must not stand in the table."""
    first_day = {row.features for row in labelled_rows(strange_school(), START_MS)}
    nothing_counted = {row.features for row in labelled_rows({"s0": strange_school()["s0"]})}
    skill, question = Weights._fields.index("skill"), Weights._fields.index("question")
    assert {(f[skill], f[question]) for f in first_day} == {(f[skill], f[question]) for f in nothing_counted}


def test_the_blend_follows_whoever_foretold_better_lately() -> None:
    blend, other = Blend(), WEIGHTS._replace(constant=1.0)
    assert blend.share == 0.5
    for _ in range(100):
        blend.judge(0.6, 0.5)
    assert blend.share > 0.99
    assert blend.of(WEIGHTS, other).constant == pytest.approx(1.0, abs=0.01)
    for _ in range(200):
        blend.judge(0.5, 0.6)
    assert blend.share < 0.01
    assert blend.of(WEIGHTS, other).constant == pytest.approx(WEIGHTS.constant, abs=0.01)
    assert blend.of(WEIGHTS, other)[1:] == WEIGHTS[1:]


def test_log_loss_is_finite_for_certain_mistakes() -> None:
    assert log_loss(1.0, False) == pytest.approx(9.21, abs=0.01)
