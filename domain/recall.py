"""What a student still recalls: forgetting and how practice slows it, estimated from right and wrong answers.

A concept counts as learnt after `LEARNT_STREAK` right answers in a row. From then on it has a stability, in days: recall falls by a power law, to
0.9 after one stability (as in FSRS); a right answer lets the stability grow, the more the less was left, a wrong one shrinks it. How long a
student remembers in general (`memory`, 1 is common) is estimated from the answers given after a pause.

Of the elementary functions only `sqrt` is used for plans, which IEEE 754 rounds exactly, so every machine ranks alike.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, log, log2, sqrt

from domain.attempts import DAY_MS, FoldedAttempt, concept_set, in_order

LEARNT_STREAK = 3  # right answers in a row
STABILITY_LEARNT_DAYS, STABILITY_MIN_DAYS = 3.0, 1.0
STABILITY_GROWTH, STABILITY_LOSS = 2.5, 0.6
FORGETTING = 0.2346  # recall falls to 0.9 after one stability
# Answers sooner than this say little about forgetting.
PAUSE_DAYS_MIN = 0.3
# Answers after a pause below which every student counts as common.
PAUSED_ANSWERS_MIN = 5
# How memory may differ between students, and how much it does (standard deviation of its natural logarithm).
MEMORIES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
MEMORY_SPREAD = 1.0
# The chance of a right answer to what is not recalled, and of a wrong one to what is.
GUESS, SLIP = 0.2, 0.1


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


def student_memory(attempts: Iterable[FoldedAttempt]) -> float:
    """How many times as long as a common student this one remembers: one of `MEMORIES`, the nearest to what the answers after a pause make likely."""
    rows = [row for row in _answers_by_concept(attempts).values() if len(row) > LEARNT_STREAK]
    if sum(days >= PAUSE_DAYS_MIN for row in rows for days, _ in row) < PAUSED_ANSWERS_MIN:
        return 1.0
    likelihoods = [_log_likelihood(rows, memory) - 0.5 * (log(memory) / MEMORY_SPREAD) ** 2 for memory in MEMORIES]
    best = max(likelihoods)
    shares = [exp(likelihood - best) for likelihood in likelihoods]
    mean = sum(share * log2(memory) for share, memory in zip(shares, MEMORIES, strict=True)) / sum(shares)
    return min(MEMORIES, key=lambda memory: abs(log2(memory) - mean))


# The answers about one concept in order: days since the one before (0 without times), and whether right.
_Answers = list[tuple[float, bool]]


def _answers_by_concept(attempts: Iterable[FoldedAttempt]) -> dict[str, _Answers]:
    answers: dict[str, _Answers] = defaultdict(list)
    last_ms: dict[str, int | None] = {}
    for attempt in in_order(attempts):
        for concept in concept_set(attempt.concept_ids):
            answers[concept].append((_days(last_ms.get(concept), attempt.answered_at_ms), attempt.correct))
            last_ms[concept] = attempt.answered_at_ms
    return answers


def _log_likelihood(rows: Iterable[_Answers], memory: float) -> float:
    """How likely the answers after a pause are, to concepts that were learnt by then."""
    total = 0.0
    for row in rows:
        streak, stability = 0, 0.0
        for days, correct in row:
            if stability and days >= PAUSE_DAYS_MIN:
                recalled = recall(days, stability)
                right = recalled * (1 - SLIP) + (1 - recalled) * GUESS
                total += log(right if correct else 1 - right)
            streak = streak + 1 if correct else 0
            stability = _stability_after(streak, stability, days, memory)
    return total


def _after_answer(state: StudyState, correct: bool, at_ms: int | None, memory: float) -> StudyState:
    streak = state.right_streak + 1 if correct else 0
    days = _days(state.last_answered_at_ms, at_ms)
    return StudyState(streak, _stability_after(streak, state.stability_days, days, memory), at_ms)


def _stability_after(streak: int, stability: float, days: float, memory: float) -> float:
    """The stability after an answer that many days after the last; `streak` counts it if it was right, and is 0 if it was wrong."""
    if not stability:
        return STABILITY_LEARNT_DAYS * memory if streak >= LEARNT_STREAK else 0.0
    return stability_after_right(days, stability) if streak else max(STABILITY_MIN_DAYS * memory, STABILITY_LOSS * stability)


def _days(before_ms: int | None, after_ms: int | None) -> float:
    """Days between two answers; 0 without times."""
    return 0.0 if before_ms is None or after_ms is None else (after_ms - before_ms) / DAY_MS
