"""How well chances foretold the answers: log loss, AUC and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from domain.learning.refit import log_loss

CALIBRATION_BINS = 10


class Foretold(NamedTuple):
    """A chance of a right answer, and the answer."""

    chance: float
    correct: bool


@dataclass(frozen=True, slots=True)
class Quality:
    """Mean log loss in nats (lower is better), area under the ROC curve, and the mean distance of chance and share of right answers over ten bins."""

    log_loss: float
    auc: float
    calibration_error: float


def quality(foretold: Sequence[Foretold]) -> Quality:
    """Of at least one right and one wrong answer."""
    loss = sum(log_loss(f.chance, f.correct) for f in foretold) / len(foretold)
    return Quality(loss, _auc(foretold), _calibration_error(foretold))


def _auc(foretold: Sequence[Foretold]) -> float:
    """The chance that a right answer was given more than a wrong one; ties count half."""
    ordered = sorted(foretold)
    rank_sum, place = 0.0, 0
    while place < len(ordered):
        end = place
        while end < len(ordered) and ordered[end].chance == ordered[place].chance:
            end += 1
        rank_sum += sum(f.correct for f in ordered[place:end]) * (place + 1 + end) / 2
        place = end
    right = sum(f.correct for f in foretold)
    return (rank_sum - right * (right + 1) / 2) / (right * (len(foretold) - right))


def _calibration_error(foretold: Sequence[Foretold]) -> float:
    bins: list[list[Foretold]] = [[] for _ in range(CALIBRATION_BINS)]
    for f in foretold:
        bins[min(int(f.chance * CALIBRATION_BINS), CALIBRATION_BINS - 1)].append(f)
    return sum(abs(sum(f.chance - f.correct for f in inside)) for inside in bins) / len(foretold)
