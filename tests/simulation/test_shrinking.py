"""A failure is told with the fewest steps that lead to it."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest

from tests.simulation.checks import Violated
from tests.simulation.ground import Ground
from tests.simulation.plan import Step, plan_of
from tests.simulation.plants import PLANTS
from tests.simulation.shrink import minimal, run_seed


def test_only_the_steps_that_matter_are_left() -> None:
    steps = [Step(number, "something") for number in range(25)]

    def fails(kept: Sequence[Step]) -> bool:
        return {3, 17} <= {step.number for step in kept}

    assert [step.number for step in minimal(steps, fails)] == [3, 17]


def test_what_fails_without_any_step_is_left_with_none() -> None:
    assert minimal([Step(1, "something")], lambda kept: True) == []


def test_a_failure_names_its_seed_its_invariant_and_fewer_steps_than_its_plan_has(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    plant = next(p for p in PLANTS if p.name == "cursor_beyond_the_page")
    plant.plant(monkeypatch)
    with pytest.raises(Violated) as caught:
        run_seed(plant.seed, ground)
    found = re.search(rf"seed {plant.seed}, shrunk to (\d+) steps", str(caught.value))
    assert caught.value.name == "NO_GAP"
    assert found and int(found[1]) < len(plan_of(plant.seed).steps)
