"""From a failing world to the steps that matter: delta debugging over the list of steps (Zeller and Hildebrandt 2002, ddmin)."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

from tests.simulation.checks import Violated
from tests.simulation.ground import PREFIX, Ground
from tests.simulation.plan import Step, plan_of
from tests.simulation.world import World
from tests.support.memory import memory_folder

# Worlds that are made to shrink one failure, and the time that they may take together.
REPLAYS_MAX = 150
SHRINK_MAX_S = 60.0


def run_seed(seed: int, ground: Ground, universe: str = "") -> str:
    """The world of a seed; a hash of what happened. Raises Violated with the seed and the fewest steps that still lead there."""
    try:
        return _run(seed, ground, universe, without=frozenset())
    except Violated as violated:
        trace = list(violated.trace)
        steps, last = shrunk(seed, ground, violated.name)
        told = "\n  ".join(
            [f"seed {seed}, shrunk to {len(steps)} steps: {' '.join(map(str, steps))}", *(last.trace if last else trace)[-25:]]
        )
        raise Violated(violated.name, f"{(last or violated).words}\n  {told}") from violated


def shrunk(seed: int, ground: Ground, name: str) -> tuple[list[Step], Violated | None]:
    """The fewest steps found, in order, that still violate the invariant of that name, and how they do."""
    numbers = itertools.count()
    deadline_s = time.monotonic() + SHRINK_MAX_S
    last: list[Violated] = []
    steps = list(plan_of(seed).steps)

    def fails(kept: Sequence[Step]) -> bool:
        number = next(numbers)
        if number >= REPLAYS_MAX or time.monotonic() > deadline_s:
            return False
        try:
            _run(seed, ground, f"shrink {name} {number}", without={step.number for step in steps} - {step.number for step in kept})
        except Violated as violated:
            if violated.name != name:
                return False
            last[:] = [violated]
            return True
        return False

    return minimal(steps, fails), last[0] if last else None


def minimal(items: Sequence[Step], fails: Callable[[Sequence[Step]], bool]) -> list[Step]:
    """A part of `items`, in order, that fails, and fails no more without any one of its pieces; `items` as they are if they do not fail again."""
    kept, pieces = list(items), 2
    while len(kept) >= 2:
        size = -(-len(kept) // pieces)
        parts = [kept[i : i + size] for i in range(0, len(kept), size)]
        for part in parts:
            rest = [item for item in kept if item not in part]
            if fails(rest):
                kept, pieces = rest, max(pieces - 1, 2)
                break
        else:
            if size == 1:
                break
            pieces = min(pieces * 2, len(kept))
    if len(kept) == 1 and fails([]):
        return []
    return kept


def _run(seed: int, ground: Ground, universe: str, without: frozenset[int] | set[int]) -> str:
    with memory_folder(PREFIX) as folder:
        return World(seed, ground, folder, universe).run(without)
