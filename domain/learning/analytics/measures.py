"""The statistics behind class figures: shares with their uncertainty, correlation, median."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

# Under so many students no share is shown: it would say something about single ones.
SHARE_N_MIN = 5
# Sums of squares below which nothing varies but by rounding.
VARIANCE_MIN = 1e-12
# Two-sided 95 % of the normal distribution.
_Z = 1.959964


class Interval(NamedTuple):
    """Where a share lies with 95 % confidence."""

    low: float
    high: float


def share(part: int, n: int) -> float | None:
    """`part / n` with four decimals; None under SHARE_N_MIN."""
    return round(part / n, 4) if n >= SHARE_N_MIN else None


def wilson(part: int, n: int) -> Interval:
    """Wilson's score interval of a share (Wilson 1927): sound for few students and for shares near 0 and 1. `n` is at least 1."""
    p, z2 = part / n, _Z * _Z
    middle, half = p + z2 / (2 * n), _Z * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return Interval(round(max((middle - half) / (1 + z2 / n), 0.0), 4), round(min((middle + half) / (1 + z2 / n), 1.0), 4))


def correlation(xs: Sequence[float], ys: Sequence[float]) -> float | None:
    """Pearson's correlation; None when one of both does not vary."""
    n = len(xs)
    mean_x, mean_y = sum(xs) / n, sum(ys) / n
    xy = xx = yy = 0.0
    for x, y in zip(xs, ys, strict=True):
        dx, dy = x - mean_x, y - mean_y
        xy, xx, yy = xy + dx * dy, xx + dx * dx, yy + dy * dy
    return xy / sqrt(xx * yy) if xx > VARIANCE_MIN and yy > VARIANCE_MIN else None


def median(values: Sequence[int]) -> int | None:
    """The lower median; None of nothing."""
    return sorted(values)[(len(values) - 1) // 2] if values else None
