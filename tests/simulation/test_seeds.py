"""The simulator's seeds. CARREL_SIM_SEEDS=FIRST-LAST runs others; a seed that ever failed stays in REGRESSIONS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cloud_api.database import CloudDatabase
from tests.simulation.world import World

# What each found: docs/reliability.md.
REGRESSIONS: tuple[int, ...] = (1, 26, 33, 155, 1008, 1139, 1197, 1333, 1397)
FIRST, _, LAST = os.environ.get("CARREL_SIM_SEEDS", "100-140").partition("-")
SEEDS = (*REGRESSIONS, *range(int(FIRST), int(LAST or FIRST) + 1))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_invariant_holds_in_the_world_of_a_seed(
    seed: int, simulated_cloud: CloudDatabase, device_template: Path, memory_path: Path
) -> None:
    World(seed, simulated_cloud, memory_path, device_template).run()


def test_the_same_seed_makes_the_same_world(simulated_cloud: CloudDatabase, device_template: Path, memory_path: Path) -> None:
    hashes = set()
    for name in ("one", "two"):
        folder = memory_path / name
        folder.mkdir()
        hashes.add(World(4_242, simulated_cloud, folder, device_template, universe=name).run())
    assert len(hashes) == 1
