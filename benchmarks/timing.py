"""Repeated measurements: floor and product in turn, so that what drifts on the machine falls on both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Pair:
    """Seconds that the floor and the product took for the same work, one right after the other."""

    floor_s: float
    product_s: float


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of the runs' ratios, with the lowest and the highest."""

    middle: float
    lowest: float
    highest: float

    @property
    def spread(self) -> tuple[float, float]:
        return self.lowest, self.highest


def alternate(floor: Callable[[], float], product: Callable[[], float], runs: int) -> list[Pair]:
    """Runs both `runs` times. Each returns its seconds; which goes first changes with every run."""
    pairs = []
    for number in range(runs):
        if number % 2 == 0:
            floor_s = floor()
            product_s = product()
        else:
            product_s = product()
            floor_s = floor()
        pairs.append(Pair(floor_s, product_s))
    return pairs


def speed_against_floor(pairs: Sequence[Pair]) -> Ratio:
    """The product's speed as a share of the floor's: 1 is as fast."""
    return ratio_of([pair.floor_s / pair.product_s for pair in pairs])


def ratio_of(ratios: Sequence[float]) -> Ratio:
    """What repeated runs say together."""
    return Ratio(median(ratios), min(ratios), max(ratios))


def seconds(work: Callable[[], object]) -> float:
    """How long a call takes."""
    started_s = time.perf_counter()
    work()
    return time.perf_counter() - started_s
