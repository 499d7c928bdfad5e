"""The mastery engine on a stream of answers of many students, as a school's server lives through them.

Answers go into each student's fold, into the school's table of rates, and into the refit of the weights; the newest table, and weights as far from the
shipped ones as paid lately, make the next prediction. Nothing is known of an answer before it is given.
"""

from __future__ import annotations

from itertools import count, islice

from benchmarks.attempt_log import Log
from domain.learning.attempts import FoldedAttempt, QuestionRef, concept_set
from domain.learning.difficulty import DifficultyTable
from domain.learning.features import WEIGHTS, Features, Weights, question_features, shipped_chance, weighted_sum
from domain.learning.history import StudentHistory
from domain.learning.odds import sigmoid
from domain.learning.rates import Rates
from domain.learning.refit import Blend, WeightFit, labelled_rows, log_loss

# Attempts of a log that weights are fitted on beforehand; some 40 µs each.
FITTED_ROWS_MAX = 40_000
# Nobody is beyond a slip or a lucky guess: on the public sample chances above this are right 98.6 times in a hundred.
CHANCE_MAX = 0.995
NO_TABLE = Rates.empty()
# A table made of other students beforehand is trusted from the start (log odds against having none).
PREPARED_LEAD = 5.0
# A late answer is put in its place among so many, or up to twice as many, of the student's latest: a log in no order costs no more than that.
LATE_BY_MAX = 32


class MasteryStream:
    """Predicts and observes. `refits` and `counts` can be turned off, to see what they are worth."""

    def __init__(self, *, refits: bool = True, counts: bool = True) -> None:
        self._refits, self._counts = refits, counts
        self._table = DifficultyTable()
        self._fit, self._blend, self._table_blend = WeightFit(), Blend(), Blend()
        self._students: dict[str, StudentHistory] = {}
        self._serial = count()

    @property
    def weights(self) -> Weights:
        """Those in force."""
        return self._blend.of(WEIGHTS, self._fit.weights) if self._refits else WEIGHTS

    def prepare(self, log: Log) -> None:
        """Start with the attempts of other students."""
        self._table = DifficultyTable.of(a for attempts in log.values() for a in attempts)
        self._table_blend = Blend(PREPARED_LEAD)
        if self._refits:
            for row in islice(labelled_rows(log), FITTED_ROWS_MAX):
                self._learn(row.features, row.correct)

    def predict(self, student: str, question: QuestionRef, at_ms: int | None) -> float:
        """The chance of a right answer, never near 0 or 1."""
        by_table, bare = self._chances(student, question, at_ms)
        chance = bare + self._table_blend.share * (by_table - bare)
        return min(max(chance, 1 - CHANCE_MAX), CHANCE_MAX)

    def observe(self, student: str, order: int, question: QuestionRef, at_ms: int | None, correct: bool) -> None:
        """Take in an answer; `order` is its place among the student's."""
        by_table, bare = self._chances(student, question, at_ms)
        self._table_blend.judge(log_loss(bare, correct), log_loss(by_table, correct))
        self._learn(self._features(student, question, at_ms), correct)
        history = self._history(student)
        attempt = FoldedAttempt(f"{next(self._serial):012}", at_ms, str(order), question.question_id, question.concept_ids, correct)
        history.add(attempt)
        if len(history) >= 2 * LATE_BY_MAX:
            history.settle(LATE_BY_MAX)
        if self._counts:
            self._table.count(question.question_id, concept_set(question.concept_ids), correct)

    def _learn(self, features: Features, correct: bool) -> None:
        if not self._refits:
            return
        foretold = (sigmoid(weighted_sum(weights, features)) for weights in (WEIGHTS, self._fit.weights))
        self._blend.judge(*(log_loss(p, correct) for p in foretold))
        self._fit.learn(features, correct)

    def _chances(self, student: str, question: QuestionRef, at_ms: int | None) -> tuple[float, float]:
        """By the newest table and weights; and by the shipped weights without a table, as a table of the first few answers can be worse than none."""
        by_table = sigmoid(weighted_sum(self.weights, self._features(student, question, at_ms)))
        if not (self._refits and self._counts):
            return by_table, by_table
        state = self._history(student).state
        state.rates = NO_TABLE
        return by_table, shipped_chance(question_features(state, question, at_ms))

    def _features(self, student: str, question: QuestionRef, at_ms: int | None) -> Features:
        state = self._history(student).state
        state.rates = self._table.rates()
        return question_features(state, question, at_ms)

    def _history(self, student: str) -> StudentHistory:
        history = self._students.get(student)
        if history is None:
            history = self._students[student] = StudentHistory(self._table.rates(), key=_by_number)
        return history


def _by_number(attempt: FoldedAttempt) -> tuple[int, str]:
    """The order that the log states: its clocks may be missing or wrong."""
    return int(attempt.device_id), attempt.attempt_id
