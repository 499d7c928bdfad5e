"""Mastery: the chance that a student answers a question right, from that student's own attempts and a table of success rates.

The model, "compact-lr", is a logistic regression with the same weights for every concept (domain/learning/features.py). A student's state
is a pure fold over a grow-only set of attempts in canonical order, so any arrival order over any number of devices gives the same
rows, and nothing here is ever merged: a late attempt is put in its place and what came after it is folded again (domain/learning/history.py).

`exp` and `log1p` differ in the last bit between C libraries; scores are therefore stored with four decimals and levels are
computed from what is stored. The decisions behind the model are in docs/decisions/, its figures in docs/decisions-engine.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from domain.learning.attempts import DAY_MS, FoldedAttempt, OrderKey, QuestionRef, concept_set, in_order, order_key
from domain.learning.features import (
    WEIGHTS,
    ConceptState,
    QuestionState,
    StudentState,
    Weights,
    concept_features,
    question_features,
    shipped_chance,
    weighted_sum,
)
from domain.learning.levels import EVIDENCE_ANSWERS_MIN, SCALE, Level, held_up, level, may_fall_too_far, rank
from domain.learning.odds import logit, sigmoid
from domain.learning.rates import OVERALL_RATE, Counts, Rates

# The engine's face: what its callers need of the modules below it.
__all__ = [
    "DAY_MS", "EVIDENCE_ANSWERS_MIN", "MODEL_VERSION", "OVERALL_RATE", "SCALE", "WEIGHTS", "ConceptMastery", "ConceptState", "Counts",
    "FoldedAttempt", "Level", "OrderKey", "QuestionRef", "QuestionState", "Rates", "StudentState", "Weights", "concept_set", "fold", "fold_ordered", "in_order",
    "logit", "mastery_rows", "observe", "order_key", "predict", "score", "sigmoid", "with_guessing",
]  # fmt: skip

# Changes with the weights, the features or the level rules; stored beside every score.
MODEL_VERSION = "compact-lr-2"
SCORE_DECIMALS = 4


@dataclass(frozen=True, slots=True)
class ConceptMastery:
    """One row of the cache. `score` as `score()` gives it, `evidence` the number of answers, older ones faded."""

    concept_id: str
    score: float
    evidence: float
    attempts: int
    right: int
    last_attempt_at_ms: int | None
    level: Level


def fold(attempts: Iterable[FoldedAttempt], rates: Rates, weights: Weights = WEIGHTS) -> StudentState:
    """The state after all attempts of one student, given in any order (`in_order`)."""
    return fold_ordered(in_order(attempts), rates, weights)


def fold_ordered(attempts: Iterable[FoldedAttempt], rates: Rates, weights: Weights = WEIGHTS) -> StudentState:
    """The same of attempts that come in canonical order, each once; they are not kept, so that a long life costs no more memory than a short one."""
    state = StudentState(rates, weights)
    for attempt in attempts:
        observe(state, attempt)
    return state


def observe(state: StudentState, attempt: FoldedAttempt) -> None:
    """Bring `state` up to date with the next attempt; the caller keeps canonical order (`StudentState.precedes`).

    One wrong answer lowers the level of a concept by at most one, and a right one never lowers it (domain/learning/levels.py).
    """
    correct, at_ms = attempt.correct, attempt.answered_at_ms
    concepts = concept_set(attempt.concept_ids)
    foretold = shipped_chance(question_features(state, QuestionRef(attempt.question_id, attempt.concept_ids), at_ms))
    held = [
        (concept, rank(state.concepts[concept], score(state, concept, at_ms)))
        for concept in concepts
        if may_fall_too_far(state.concepts.get(concept), correct)
    ]
    state.count(attempt, concepts, foretold)
    for concept, rank_before in held:
        state.concepts[concept] = held_up(state.concepts[concept], score(state, concept, at_ms), rank_before, correct)


def predict(state: StudentState, question: QuestionRef, at_ms: int | None) -> float:
    """The chance that the student answers `question` right at `at_ms`."""
    z = weighted_sum(state.weights, question_features(state, question, at_ms))
    if question.options is None:
        return sigmoid(z)
    expected = state.rates.of_question(question.question_id, state.rates.of_concepts(concept_set(question.concept_ids)))
    return with_guessing(z, expected, question.options)


def with_guessing(z: float, expected: float, options: int) -> float:
    """The chance of a right answer with log odds `z`, when one of `options` may be hit by guessing.

    What the table says of the question (`expected`, guessing included) stays as it is; the chance falls from there to 1 / options and no
    lower. A question answered right less often than by guessing misleads, and has no such floor.
    """
    floor = 1 / max(options, 1)
    if expected <= floor:
        return sigmoid(z)
    known = (expected - floor) / (1 - floor)
    return floor + (1 - floor) * sigmoid(z - logit(expected) + logit(known))


def score(state: StudentState, concept_id: str, at_ms: int | None) -> float:
    """The chance of a right answer to a question of middle difficulty about this concept at `at_ms`, with four decimals.

    It falls by itself as time passes; nothing is written for forgetting.
    """
    return round(sigmoid(weighted_sum(state.weights, concept_features(state, concept_id, at_ms))), SCORE_DECIMALS)


def mastery_rows(state: StudentState, at_ms: int) -> list[ConceptMastery]:
    """One row per concept that the student has met, by concept id, as of `at_ms`."""
    return [_row(state, concept, state.concepts[concept], at_ms) for concept in sorted(state.concepts)]


def _row(state: StudentState, concept: str, known: ConceptState, at_ms: int) -> ConceptMastery:
    value, evidence = score(state, concept, at_ms), round(known.evidence, SCORE_DECIMALS)
    return ConceptMastery(concept, value, evidence, known.answers, known.right, known.last_at_ms, level(known, value))
