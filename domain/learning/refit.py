"""Weights of a school's own: fitted on its attempts, used only while they foretell its answers better than the shipped ones.

The fit is Bayesian logistic regression, one answer at a time: it starts from the shipped weights, believes them within `PRIOR_SPREAD`, and
moves as far as the answers demand (an extended Kalman filter without drift; the posterior is kept as a normal distribution). A few hundred
answers hardly move it, twenty thousand leave little of the start.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import log
from operator import mul
from typing import NamedTuple
from zlib import crc32

from domain.learning.attempts import DAY_MS, FoldedAttempt, QuestionRef, concept_set, in_order
from domain.learning.difficulty import DifficultyTable
from domain.learning.features import WEIGHTS, Features, StudentState, Weights, question_features, shipped_chance, weighted_sum
from domain.learning.odds import held, sigmoid

# How far a school's own weights are expected to lie from the shipped ones (one standard deviation), as the five public logs do from each other.
PRIOR_SPREAD = 0.2
# Fewer attempts than this are not worth a refit of their own.
REFIT_ATTEMPTS_MIN = 20_000
LAST_MONTH_MS = 30 * DAY_MS
# Answers of the last month below which a comparison says nothing.
JUDGED_ATTEMPTS_MIN = 500
# A student's rows are made with a table from other students, or the table would give the answer away.
FOLDS = 5
# What an answer's comparison leaves of those before it: some 1,000 answers count.
LEAD_DECAY = 0.999


def log_loss(probability: float, correct: bool) -> float:
    """Surprise at the answer, in nats."""
    p = held(probability)
    return -log(p if correct else 1 - p)


class WeightFit:
    """Weights that learn, answer by answer. Some 30 µs an answer."""

    def __init__(self, prior: Weights = WEIGHTS, spread: float = PRIOR_SPREAD) -> None:
        self._mean = list(prior)
        self._covariance = [[spread**2 * (row == column) for column in range(len(prior))] for row in range(len(prior))]

    @property
    def weights(self) -> Weights:
        """The mean of what is believed."""
        return Weights(*self._mean)

    def learn(self, features: Features, correct: bool) -> None:
        """Take in one answer and the features from before it."""
        p = held(sigmoid(sum(map(mul, self._mean, features))))
        information = p * (1 - p)
        reach = [sum(map(mul, row, features)) for row in self._covariance]
        damping = 1 + information * sum(map(mul, reach, features))
        step, shrink = (correct - p) / damping, information / damping
        self._mean = [weight + step * r for weight, r in zip(self._mean, reach, strict=True)]
        self._covariance = [
            [c - shrink * own * r for c, r in zip(row, reach, strict=True)] for row, own in zip(self._covariance, reach, strict=True)
        ]


class Blend:
    """How far to go from one model to another: as far as the other foretold better lately, each answer being foretold before it was known.

    `share` is the chance that the challenger is the right one, if one of the two is and the answers count as evidence (Bayes' rule, older answers faded). It
    begins at a half, or with what `lead` (log odds) says.
    """

    def __init__(self, lead: float = 0.0) -> None:
        self._lead = lead

    @property
    def share(self) -> float:
        """The challenger's, from 0 to 1."""
        return sigmoid(self._lead)

    def judge(self, holder_loss: float, challenger_loss: float) -> None:
        """Take in the log loss of both for one answer."""
        self._lead = LEAD_DECAY * self._lead + holder_loss - challenger_loss

    def of(self, holder: Weights, challenger: Weights) -> Weights:
        """One set of weights, between the two."""
        share = self.share
        return Weights(*(old + share * (new - old) for old, new in zip(holder, challenger, strict=True)))


class LabelledRow(NamedTuple):
    """The features from before an answer, the answer, and when it was given."""

    features: Features
    correct: bool
    at_ms: int | None


def labelled_rows(students: Mapping[str, Sequence[FoldedAttempt]], counted_before_ms: int | None = None) -> Iterator[LabelledRow]:
    """A row per attempt, student by student, each with the rates of the students in the other folds.

    With `counted_before_ms`, rates are made of attempts before that time alone.
    """
    folds: list[list[str]] = [[] for _ in range(FOLDS)]
    for student in sorted(students):
        folds[crc32(student.encode()) % FOLDS].append(student)
    tables = [DifficultyTable.of(_counted(chain.from_iterable(students[s] for s in fold), counted_before_ms)) for fold in folds]
    whole = DifficultyTable.of(_counted(chain.from_iterable(students.values()), counted_before_ms))
    for fold, own in zip(folds, tables, strict=True):
        rates = whole.without(own).rates()
        for student in fold:
            state = StudentState(rates)
            for attempt in in_order(students[student]):
                yield LabelledRow(_features_before(state, attempt), attempt.correct, attempt.answered_at_ms)


@dataclass(frozen=True, slots=True)
class Refit:
    """What came of a refit: the weights to use from now on, and the mean log loss of both on the school's last month."""

    weights: Weights
    adopted: bool
    shipped_loss: float
    fitted_loss: float
    attempts_judged: int


def refit(students: Mapping[str, Sequence[FoldedAttempt]], shipped: Weights = WEIGHTS) -> Refit | None:
    """Fit on all attempts but the last month's, compare on those, and adopt what is better. None for a school with too few attempts.

    The last month ends with the latest attempt. Some 60 µs an attempt.
    """
    times = [a.answered_at_ms for attempts in students.values() for a in attempts if a.answered_at_ms is not None]
    if len(times) < REFIT_ATTEMPTS_MIN:
        return None
    month_ms = max(times) - LAST_MONTH_MS
    fit, last_month = WeightFit(shipped), []
    for row in labelled_rows(students, month_ms):
        if row.at_ms is not None and row.at_ms >= month_ms:
            last_month.append(row)
        else:
            fit.learn(row.features, row.correct)
    if len(last_month) < JUDGED_ATTEMPTS_MIN:
        return None
    shipped_loss, fitted_loss = _mean_loss(shipped, last_month), _mean_loss(fit.weights, last_month)
    adopted = fitted_loss < shipped_loss
    return Refit(fit.weights if adopted else shipped, adopted, shipped_loss, fitted_loss, len(last_month))


def _features_before(state: StudentState, attempt: FoldedAttempt) -> Features:
    """The features from before the attempt, which `state` then takes in."""
    question = QuestionRef(attempt.question_id, attempt.concept_ids)
    features = question_features(state, question, attempt.answered_at_ms)
    state.count(attempt, concept_set(attempt.concept_ids), shipped_chance(features))
    return features


def _counted(attempts: Iterable[FoldedAttempt], before_ms: int | None) -> Iterator[FoldedAttempt]:
    return (a for a in attempts if before_ms is None or a.answered_at_ms is None or a.answered_at_ms < before_ms)


def _mean_loss(weights: Weights, rows: Sequence[LabelledRow]) -> float:
    return sum(log_loss(sigmoid(weighted_sum(weights, row.features)), row.correct) for row in rows) / len(rows)
