"""The simulator's seeds. `make sim SEEDS=FIRST-LAST` runs others; a seed that ever failed stays in REGRESSIONS."""

from __future__ import annotations

import pytest

from tests.simulation.ground import Ground
from tests.simulation.shrink import run_seed

# What each found: docs/reliability.md.
REGRESSIONS: tuple[int, ...] = (
    1,
    26,
    33,
    42,
    155,
    336,
    404,
    671,
    1008,
    1014,
    1139,
    1197,
    1333,
    1397,
    2030,
    2040,
    2199,
    3408,
    4274,
    4528,
    5181,
)
# Seeds of one test, so that a seed does not pay for a test of its own.
BLOCK = 10
BLOCKS = range(3_000, 3_150, BLOCK)


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_a_seed_that_once_failed_holds(seed: int, ground: Ground) -> None:
    run_seed(seed, ground)


@pytest.mark.parametrize("first", BLOCKS)
def test_every_invariant_holds_in_the_world_of_a_seed(first: int, ground: Ground) -> None:
    for seed in range(first, first + BLOCK):
        run_seed(seed, ground)


@pytest.mark.parametrize("seed", [4_242, 4_243, 4_244])
def test_the_same_seed_makes_the_same_world(seed: int, ground: Ground) -> None:
    assert run_seed(seed, ground, "one") == run_seed(seed, ground, "two")
