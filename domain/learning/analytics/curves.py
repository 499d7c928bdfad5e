"""Learning curves: how the share of wrong answers falls from one chance to practise a concept to the next, and who stops."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from domain.learning.analytics.measures import SHARE_N_MIN
from domain.learning.analytics.student import OPPORTUNITIES_MAX

# A curve of at least so many points that falls by less than this from its first to its last third teaches nothing.
FLAT_POINTS_MIN, FLAT_DROP_MAX, FLAT_ERROR_MIN = 6, 0.05, 0.20


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """The n-th answer about a concept: students who gave it, share wrong; and of those who `stopped` after it, how many had it wrong.

    A falling curve may only mean that those who err give up: `stopped_wrong` near `stopped` says so.
    """

    opportunity: int
    students: int
    error: float
    stopped: int
    stopped_wrong: int


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """The curve of one concept. `flat`: practice does not help; the concept is cut badly, or taught badly."""

    concept_id: str
    points: tuple[CurvePoint, ...]
    flat: bool


def learning_curve(concept_id: str, curves: Iterable[str]) -> LearningCurve:
    """From one text of 1 and 0 a student (`ConceptFigures.curve`). Points of fewer than five students are left out."""
    known = [c for c in curves if c]
    points = []
    for n in range(OPPORTUNITIES_MAX):
        here = [c for c in known if len(c) > n]
        if len(here) < SHARE_N_MIN:
            break
        last = [c for c in here if len(c) == n + 1 and n + 1 < OPPORTUNITIES_MAX]
        wrong = sum(c[n] == "0" for c in here)
        points.append(CurvePoint(n + 1, len(here), round(wrong / len(here), 4), len(last), sum(c[n] == "0" for c in last)))
    return LearningCurve(concept_id, tuple(points), _flat(points))


def _flat(points: list[CurvePoint]) -> bool:
    if len(points) < FLAT_POINTS_MIN:
        return False
    third = len(points) // 3
    first, last = (sum(p.error for p in part) / third for part in (points[:third], points[-third:]))
    return first - last < FLAT_DROP_MAX and last >= FLAT_ERROR_MIN
