"""Learning curves: how the share of wrong answers falls from one chance to practise a concept to the next, and who stops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest

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
    if len(known) < SHARE_N_MIN:
        return LearningCurve(concept_id, (), False)
    ends, wrong_ends = Counter(map(len, known)), Counter(len(c) for c in known if c[-1] == "0")
    ends[OPPORTUNITIES_MAX] = wrong_ends[OPPORTUNITIES_MAX] = 0  # more is not kept: nobody is known to have stopped there
    points = []
    for n, column in enumerate(zip_longest(*known, fillvalue=""), 1):
        if (here := len(known) - column.count("")) < SHARE_N_MIN:
            break
        points.append(CurvePoint(n, here, round(column.count("0") / here, 4), ends[n], wrong_ends[n]))
    return LearningCurve(concept_id, tuple(points), _flat(points))


def _flat(points: list[CurvePoint]) -> bool:
    if len(points) < FLAT_POINTS_MIN:
        return False
    third = len(points) // 3
    first, last = (sum(p.error for p in part) / third for part in (points[:third], points[-third:]))
    return first - last < FLAT_DROP_MAX and last >= FLAT_ERROR_MIN
