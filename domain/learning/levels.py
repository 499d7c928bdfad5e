"""Levels: what is shown of a score, and how far one answer may move it.

Levels are computed from scores as they are stored, with four decimals, so that both sides show the same.
"""

from __future__ import annotations

from enum import StrEnum

from domain.learning.features import ConceptState

EVIDENCE_ANSWERS_MIN = 3  # answers below which no level is shown
MASTERED_SPAN_MS = 20 * 60 * 60 * 1000  # "on two days" without needing a time zone
FAMILIAR_FROM, PROFICIENT_FROM, MASTERED_FROM = 0.60, 0.80, 0.90


class Level(StrEnum):
    """What is shown of a score. The four after `NOT_ENOUGH_EVIDENCE` are steps of one scale, lowest first."""

    NOT_STARTED = "not_started"
    NOT_ENOUGH_EVIDENCE = "not_enough_evidence"
    ATTEMPTED = "attempted"
    FAMILIAR = "familiar"
    PROFICIENT = "proficient"
    MASTERED = "mastered"


SCALE = (Level.ATTEMPTED, Level.FAMILIAR, Level.PROFICIENT, Level.MASTERED)


def level(known: ConceptState, score: float) -> Level:
    """The level to show of a concept that was met, with this score."""
    return SCALE[rank(known, score)] if known.answers >= EVIDENCE_ANSWERS_MIN else Level.NOT_ENOUGH_EVIDENCE


def rank(known: ConceptState, score: float) -> int:
    """The step of `SCALE` to show: what the score gives, lifted where a single answer took too much."""
    plain = score_rank(known, score)
    return max(plain, min(plain + known.lift, known.lift_ceiling))


def score_rank(known: ConceptState, score: float) -> int:
    """The step of `SCALE` that the score alone gives."""
    if score >= MASTERED_FROM and _on_two_days(known) and known.answers >= EVIDENCE_ANSWERS_MIN:
        return 3
    return (score >= FAMILIAR_FROM) + (score >= PROFICIENT_FROM)


def may_fall_too_far(known: ConceptState | None, correct: bool) -> bool:
    """Whether an answer could lower the shown level of a concept further than it may: one step if wrong, none if right."""
    return known is not None and known.answers >= EVIDENCE_ANSWERS_MIN and (known.lift > 0 or not correct)


def held_up(known: ConceptState, score: float, held_rank: int, correct: bool) -> ConceptState:
    """The state after an answer, with its level held up as far as the answer may not lower it.

    `held_rank` is the rank before the answer, `score` the score after it. Where the score alone would say less, the
    difference is kept as `lift`, added to whatever level the score gives later, up to the level held now.
    """
    ceiling = held_rank if correct else held_rank - 1
    return known._replace(lift_ceiling=ceiling, lift=max(0, ceiling - score_rank(known, score)))


def _on_two_days(known: ConceptState) -> bool:
    first, last = known.first_at_ms, known.last_at_ms
    return first is not None and last is not None and last - first >= MASTERED_SPAN_MS
