"""How long a student remembers, and where they stand with each concept: kept up answer by answer.

How long a student remembers in general (`memory`, 1 is common) is estimated from the answers given after a pause: a concept is followed once for
every memory that a student might have, and the memory is taken that makes the answers likely.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import exp, log, log2

from domain.learning.attempts import FoldedAttempt, concept_set, in_order
from domain.learning.recall import LEARNT_STREAK, StudyState, days_between, recall, stability_after

# Answers sooner than this say little about forgetting.
PAUSE_DAYS_MIN = 0.3
# Answers after a pause below which every student counts as common.
PAUSED_ANSWERS_MIN = 5
# How memory may differ between students, and how much it does (standard deviation of its natural logarithm).
MEMORIES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
MEMORY_SPREAD = 1.0
COMMON_MEMORY = 1.0
# The chance of a right answer to what is not recalled, and of a wrong one to what is.
GUESS, SLIP = 0.2, 0.1

_NOT_LEARNT = (0.0,) * len(MEMORIES)
_PRIOR = tuple(-0.5 * (log(memory) / MEMORY_SPREAD) ** 2 for memory in MEMORIES)


@dataclass(slots=True)
class _Studied:
    """One concept: `stabilities` by memory, all 0 until it is learnt; `paused` counts answers after a pause."""

    right_streak: int = 0
    answers: int = 0
    paused: int = 0
    last_ms: int | None = None
    stabilities: tuple[float, ...] = _NOT_LEARNT


@dataclass(frozen=True, slots=True)
class Study:
    """How long a student remembers, and where they stand with each concept met as one who remembers so long (`recall.study_states`)."""

    memory: float = COMMON_MEMORY
    states: Mapping[str, StudyState] = field(default_factory=dict)


@dataclass(slots=True)
class StudyFold:
    """Answers of one student, taken in one by one in canonical order; some 10 µs each once a concept is learnt."""

    _concepts: dict[str, _Studied] = field(default_factory=dict)
    _likelihoods: list[float] = field(default_factory=lambda: list(_PRIOR))
    _paused: int = 0

    @classmethod
    def of(cls, attempts: Iterable[FoldedAttempt]) -> StudyFold:
        """The fold of attempts that come in canonical order."""
        study = cls()
        for attempt in attempts:
            study.observe(attempt)
        return study

    def observe(self, attempt: FoldedAttempt) -> None:
        """Take in the next attempt."""
        for concept in concept_set(attempt.concept_ids):
            studied = self._concepts.get(concept)
            if studied is None:
                studied = self._concepts[concept] = _Studied()
            self._answered(studied, attempt.correct, attempt.answered_at_ms)

    def _answered(self, studied: _Studied, correct: bool, at_ms: int | None) -> None:
        days = days_between(studied.last_ms, at_ms)
        studied.answers += 1
        studied.last_ms = at_ms
        self._note_pause(studied, days >= PAUSE_DAYS_MIN)
        learnt = studied.stabilities is not _NOT_LEARNT
        if learnt and days >= PAUSE_DAYS_MIN:
            self._judge(studied.stabilities, days, correct)
        streak = studied.right_streak = studied.right_streak + 1 if correct else 0
        if learnt or streak >= LEARNT_STREAK:
            pairs = zip(studied.stabilities, MEMORIES, strict=True)
            studied.stabilities = tuple(stability_after(streak, stability, days, memory) for stability, memory in pairs)

    def _note_pause(self, studied: _Studied, paused: bool) -> None:
        """Concepts with no more answers than make one learnt do not count: nothing of them can have been forgotten."""
        studied.paused += paused
        if studied.answers > LEARNT_STREAK:
            self._paused += studied.paused
            studied.paused = 0

    def _judge(self, stabilities: tuple[float, ...], days: float, correct: bool) -> None:
        """How likely each memory makes an answer to what was learnt."""
        for place, stability in enumerate(stabilities):
            recalled = recall(days, stability)
            right = recalled * (1 - SLIP) + (1 - recalled) * GUESS
            self._likelihoods[place] += log(right if correct else 1 - right)

    @property
    def memory(self) -> float:
        """How many times as long as a common student this one remembers: one of `MEMORIES`, the nearest to what the answers after a pause make likely."""
        if self._paused < PAUSED_ANSWERS_MIN:
            return COMMON_MEMORY
        best = max(self._likelihoods)
        shares = [exp(likelihood - best) for likelihood in self._likelihoods]
        mean = sum(share * log2(memory) for share, memory in zip(shares, MEMORIES, strict=True)) / sum(shares)
        return min(MEMORIES, key=lambda memory: abs(log2(memory) - mean))

    def study(self) -> Study:
        """Where the student stands now, as a value."""
        memory = self.memory
        place = MEMORIES.index(memory)
        return Study(memory, {c: StudyState(s.right_streak, s.stabilities[place], s.last_ms) for c, s in self._concepts.items()})


def student_memory(attempts: Iterable[FoldedAttempt]) -> float:
    """`StudyFold.memory` of attempts given in any order."""
    return StudyFold.of(in_order(attempts)).memory
