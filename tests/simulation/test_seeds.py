"""The simulator's seeds. `make sim SEEDS=FIRST-LAST` runs others; a seed that ever failed stays in REGRESSIONS."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.simulation.ground import Ground
from tests.simulation.network import FAULTS
from tests.simulation.shrink import run_seed

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
# What each found: docs/reliability.md.
REGRESSIONS = (
    1, 26, 33, 42, 155, 336, 404, 671, 1_008, 1_014, 1_139, 1_197, 1_333, 1_397, 2_030, 2_040, 2_199, 3_408, 4_274, 4_528, 5_181, 6_258, 6_684,
    30_862,
)  # fmt: skip
# Seeds of one test, so that a seed does not pay for a test of its own.
BLOCK = 10
BLOCKS = range(3_000, 3_090, BLOCK)
# The rest of them, together: whatever can go wrong does so in some of them.
MANY = range(3_090, 3_150)
# What goes wrong besides requests; docs/reliability.md has a table of all.
OTHER_FAULTS = (
    "answer late", "requests in another order", "first sync refused", "administration broken off", "server restored",
    "device died", "device copied", "device restored", "clock set", "disk full", "operation spoiled", "network gone or back",
    "grant given or taken", "class left or joined", "device revoked", "holidays", "device of a later version", "answer of a later server",
    "bundle lost", "bundle twice", "bundles in another order", "bundle spoiled", "bundle broken off", "bundle across a request",
    "bundle of before", "bundle that settled",
)  # fmt: skip


@pytest.mark.parametrize("seed", REGRESSIONS)
def test_a_seed_that_once_failed_holds(seed: int, ground: Ground) -> None:
    run_seed(seed, ground)


@pytest.mark.parametrize("first", BLOCKS)
def test_every_invariant_holds_in_the_world_of_a_seed(first: int, ground: Ground) -> None:
    for seed in range(first, first + BLOCK):
        run_seed(seed, ground)


def test_every_invariant_holds_although_everything_goes_wrong_that_the_page_names(ground: Ground) -> None:
    ground.met.clear()
    for seed in MANY:
        run_seed(seed, ground)
    assert {fault for fault in (*FAULTS, *OTHER_FAULTS) if not ground.met[fault]} == set()
    page = PAGE.read_text(encoding="utf-8")
    assert [fault for fault in (*FAULTS, *OTHER_FAULTS) if f"| {fault} |" not in page] == []


@pytest.mark.parametrize("seed", [4_242, 4_243, 4_244])
def test_the_same_seed_makes_the_same_world(seed: int, ground: Ground) -> None:
    assert run_seed(seed, ground, "one") == run_seed(seed, ground, "two")
