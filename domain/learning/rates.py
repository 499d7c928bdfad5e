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
    # Each concept's answers in whatever company it was asked: a sum over `by_concepts`, which makers that have it at hand may bring.
    by_concept: Mapping[str, Counts] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if self.by_concepts and not self.by_concept:
            object.__setattr__(self, "by_concept", single_concepts(self.by_concepts))

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

    def of_concept(self, concept: str) -> float:
        """Expected rate of questions that ask for this concept, alone or with others."""
        return _shrunk(self.by_concept.get(concept), self.overall)

    def of_question(self, question_id: str, concepts_rate: float) -> float:
        """Expected rate of this question, `concepts_rate` being that of its concepts."""
        return _shrunk(self.by_question.get(question_id), self.stated.get(question_id, concepts_rate))


def single_concepts(by_concepts: Mapping[tuple[str, ...], Counts]) -> dict[str, Counts]:
    """The answers to questions about each concept, summed up over the sets that it is in."""
    sums: dict[str, Counts] = {}
    for concepts, (right, answered) in by_concepts.items():
        for concept in concepts:
            known = sums.get(concept)
            sums[concept] = Counts(right, answered) if known is None else Counts(known.right + right, known.answered + answered)
    return sums


def _shrunk(counts: Counts | None, towards: float) -> float:
    return towards if counts is None else (counts.right + SHRINKAGE * towards) / (counts.answered + SHRINKAGE)
