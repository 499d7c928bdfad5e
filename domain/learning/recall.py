"""What a student still recalls: forgetting and how practice slows it, estimated from right and wrong answers.

A concept counts as learnt after `LEARNT_STREAK` right answers in a row. From then on it has a stability, in days: recall falls by a power law, to
0.9 after one stability (as in FSRS); a right answer lets the stability grow, the more the less was left, a wrong one shrinks it. `memory` is how
long a student remembers in general, 1 being common (domain/learning/memory.py).

Of the elementary functions only `sqrt` is used for plans, which IEEE 754 rounds exactly, so every machine ranks alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt

from domain.learning.attempts import DAY_MS, FoldedAttempt, concept_set, in_order

LEARNT_STREAK = 3  # right answers in a row
STABILITY_LEARNT_DAYS, STABILITY_MIN_DAYS = 3.0, 1.0
STABILITY_GROWTH, STABILITY_LOSS = 2.5, 0.6
FORGETTING = 0.2346  # recall falls to 0.9 after one stability


@dataclass(frozen=True, slots=True)
class StudyState:
    """Where a student stands with one concept. Stability is 0 until three right answers in a row, and never 0 again."""

    right_streak: int = 0
    stability_days: float = 0.0
    last_answered_at_ms: int | None = None

    @property
    def learnt(self) -> bool:
        return self.stability_days > 0


_NEW = StudyState()


def recall(days: float, stability_days: float) -> float:
    """The chance to recall after so many days without practice."""
    return 1 / sqrt(1 + FORGETTING * max(days, 0.0) / stability_days)


def stability_after_right(days: float, stability_days: float) -> float:
    """The stability after a right answer that many days after the last: the less was recalled, the more it grows."""
    return stability_days * (1 + STABILITY_GROWTH * (1 - recall(days, stability_days)))


def study_states(attempts: Iterable[FoldedAttempt], memory: float = 1.0) -> dict[str, StudyState]:
    """Where a student stands with each concept met, from all attempts in any order."""
    states: dict[str, StudyState] = {}
    for attempt in in_order(attempts):
        for concept in concept_set(attempt.concept_ids):
            states[concept] = _after_answer(states.get(concept, _NEW), attempt.correct, attempt.answered_at_ms, memory)
    return states


def _after_answer(state: StudyState, correct: bool, at_ms: int | None, memory: float) -> StudyState:
    streak = state.right_streak + 1 if correct else 0
    days = days_between(state.last_answered_at_ms, at_ms)
    return StudyState(streak, stability_after(streak, state.stability_days, days, memory), at_ms)


def stability_after(streak: int, stability: float, days: float, memory: float) -> float:
    """The stability after an answer that many days after the last; `streak` counts it if it was right, and is 0 if it was wrong."""
    if not stability:
        return STABILITY_LEARNT_DAYS * memory if streak >= LEARNT_STREAK else 0.0
    return stability_after_right(days, stability) if streak else max(STABILITY_MIN_DAYS * memory, STABILITY_LOSS * stability)


def days_between(before_ms: int | None, after_ms: int | None) -> float:
    """Days between two answers; 0 without times."""
    return 0.0 if before_ms is None or after_ms is None else (after_ms - before_ms) / DAY_MS
