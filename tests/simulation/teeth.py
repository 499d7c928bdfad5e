"""`python -m tests.simulation.teeth`: plants every bug in turn and prints what finds it. The exit code is 0 when every one is found."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import pytest

from tests.simulation.ground import Ground, ground_on
from tests.simulation.planting import VARIABLE
from tests.simulation.plants import NAMED_PLANTS, PLANTS, NamedPlant, Plant
from tests.support.postgres import running_server

# A named test is one of concurrency: with the bug it fails nearly always, not always.
TRIES = 3
TEST_TIMEOUT_S = 180
FAILED = 1  # pytest's exit code when tests ran and some failed


def main() -> int:
    """Prints the table; 1 when a bug was not found."""
    logging.disable(logging.CRITICAL)
    missed = 0
    print("| planted bug | what is wrong | found by |\n|---|---|---|")
    with running_server() as server, ground_on(server) as ground:
        for plant in PLANTS:
            missed += _tell(plant.name, plant.words, found_by_a_seed(plant, ground))
    for named in NAMED_PLANTS:
        missed += _tell(named.name, named.words, found_by_its_test(named))
    return 1 if missed else 0


def found_by_a_seed(plant: Plant, ground: Ground) -> str | None:
    """The invariant and the seed that found the bug."""
    with pytest.MonkeyPatch.context() as patch:
        plant.plant(patch)
        found = plant.find(ground)
    if found is None:
        return None
    seed, violated = found
    steps = len(violated.trace)
    return f"{violated.name}, seed {seed} after {steps} lines" + ("" if seed == plant.seed else f" (noted: {plant.seed})")


def found_by_its_test(plant: NamedPlant) -> str | None:
    """The test that fails with the bug, run in a process of its own."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-n0", "-p", "tests.simulation.planting", plant.test]
    for _ in range(TRIES):
        done = subprocess.run(command, env=os.environ | {VARIABLE: plant.name}, capture_output=True, timeout=TEST_TIMEOUT_S, check=False)
        if done.returncode == FAILED:
            return f"`{plant.test.rpartition('::')[2]}`"
    return None


def _tell(name: str, words: str, found: str | None) -> bool:
    """Prints a row; whether the bug was missed."""
    print(f"| {name} | {words} | {found or 'NOTHING'} |", flush=True)
    return found is None


if __name__ == "__main__":
    sys.exit(main())
