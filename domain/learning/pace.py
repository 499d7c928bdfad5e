"""How long a student takes to learn a concept: as long as the course says, or usual, times the pace of the answers that the student gave."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from domain.learning.plan import LEARN_MINUTES, ConceptNode

MINUTES_AN_ANSWER = 2.0  # until a student's own are known
PRIOR_ANSWERS = 20  # that the guess above is worth
PACE_MIN, PACE_MAX = 2 / 3, 3 / 2  # of the common pace
# What a course may say that a concept takes: one answer more than a review at least, one sitting at most. More is learnt by reading, not by answering.
STATED_MINUTES_MIN, STATED_MINUTES_MAX = 4, 30


def usual_minutes(stated: float | None) -> int:
    """Minutes to learn a concept at the common pace, by what the course says; None if it says nothing."""
    return LEARN_MINUTES if stated is None else round(min(max(stated, STATED_MINUTES_MIN), STATED_MINUTES_MAX))


def pace(minutes_spent: float, answers: int) -> float:
    """How many times as long as usual this student takes, by the minutes that so many answers took."""
    an_answer = (PRIOR_ANSWERS * MINUTES_AN_ANSWER + minutes_spent) / (PRIOR_ANSWERS + answers)
    return min(max(an_answer / MINUTES_AN_ANSWER, PACE_MIN), PACE_MAX)


def at_pace(nodes: Iterable[ConceptNode], times: float) -> list[ConceptNode]:
    """The concepts with the minutes that a student of this pace takes for them."""
    return [replace(node, minutes_to_learn=max(1, round(node.minutes_to_learn * times))) for node in nodes]
