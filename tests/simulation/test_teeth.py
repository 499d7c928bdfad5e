"""The simulator has teeth: each bug planted here, in the tests alone, is found in the world of a seed and named by the right invariant.

`make sim-teeth` plants those as well that only tests of concurrency can find, and prints the table.
"""

from __future__ import annotations

import pytest

from tests.simulation.ground import Ground
from tests.simulation.plants import PLANTS, Plant

# Worlds in which a bug is looked for after that of its noted seed.
SEARCHED_MAX = 30


@pytest.mark.parametrize("plant", PLANTS, ids=[plant.name for plant in PLANTS])
def test_a_planted_bug_is_found(plant: Plant, ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    plant.plant(monkeypatch)
    found = plant.find(ground, SEARCHED_MAX)
    assert found, f"no world finds it: {plant.words}"
