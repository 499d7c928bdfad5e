"""The table of success rates that the mastery model reads: how hard a question is, known from other students' answers.

Rates are held as counts, since integers travel exactly; a rate of few answers is shrunk towards the one above it: a question's towards
that of its concepts, theirs towards the school's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

OVERALL_RATE = 0.7394  # share of right answers in the fitting data; stands in until a school has its own
OVERALL_ATTEMPTS_MIN = 100  # below this a school's own share is off by more than 4 points (one standard error)
SHRINKAGE = 5  # attempts that the rate shrunk towards is worth


class Counts(NamedTuple):
    """Right answers among all answers."""

    right: int
    answered: int


@dataclass(frozen=True, slots=True)
class Rates:
    """Success rates from counts over *all* attempts of a school.

    `by_concepts` is keyed by `concept_set(...)` and counts attempts at questions with exactly that set. `stated` holds a
    teacher's own estimate of a question's rate, which replaces the rate that the counts are shrunk towards.
    """

    overall: float = OVERALL_RATE
    by_concepts: Mapping[tuple[str, ...], Counts] = field(default_factory=dict)
    by_question: Mapping[str, Counts] = field(default_factory=dict)
    stated: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def empty(cls) -> Rates:
        """The table of a school without attempts."""
        return cls()

    @staticmethod
    def overall_from(counts: Counts) -> float:
        """The school's own share of right answers, once it has `OVERALL_ATTEMPTS_MIN` attempts."""
        return counts.right / counts.answered if counts.answered >= OVERALL_ATTEMPTS_MIN else OVERALL_RATE

    def of_concepts(self, concepts: tuple[str, ...]) -> float:
        """Expected rate of a question about exactly these concepts; `concepts` as `concept_set` gives it."""
        return _shrunk(self.by_concepts.get(concepts), self.overall)

    def of_question(self, question_id: str, concepts_rate: float) -> float:
        """Expected rate of this question, `concepts_rate` being that of its concepts."""
        return _shrunk(self.by_question.get(question_id), self.stated.get(question_id, concepts_rate))


def _shrunk(counts: Counts | None, towards: float) -> float:
    return towards if counts is None else (counts.right + SHRINKAGE * towards) / (counts.answered + SHRINKAGE)
