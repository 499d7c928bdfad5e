"""How long a student takes: minutes to learn a concept, from the times that answers really took."""

from __future__ import annotations

from domain.learning.recall import LEARNT_STREAK

MINUTES_AN_ANSWER = 2.0  # until a student's own are known
PRIOR_ANSWERS = 20  # that the guess above is worth
LEARN_MINUTES_MIN, LEARN_MINUTES_MAX = 4, 9


def minutes_to_learn(minutes_spent: float, answers: int) -> int:
    """Minutes for the right answers in a row that make a concept learnt, from all minutes spent on new concepts and the answers given meanwhile."""
    an_answer = (PRIOR_ANSWERS * MINUTES_AN_ANSWER + minutes_spent) / (PRIOR_ANSWERS + answers)
    return min(max(round(LEARNT_STREAK * an_answer), LEARN_MINUTES_MIN), LEARN_MINUTES_MAX)
