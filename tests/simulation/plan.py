"""What a seed draws before anything happens: the kind of world, and the list of its steps."""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.simulation.happenings import HAPPENINGS, SERVER_RESTORE

# Short worlds find the same as long ones, and more of them in the same time; what takes many steps needs some that are longer.
STEPS = (15, 20, 25)
# A device and its copy are enough for most; a queue for the server needs more.
DEVICES_MAX = (2, 3, 4, 6)
# Of each hundred worlds, as many have a server of their own that is backed up and restored; making its databases takes some 50 ms each.
RESTORED_SHARE = 0.05
# Each fault is in more than half of the worlds: what only shows without another fault is found as well as what takes several.
FAULT_IN_WORLD_SHARE = 0.6
# Pages of one row are the hardest case and the dearest one.
PAGE_ROWS = (1, 3, 3, 7, 7, 7, 5_000, 5_000, 5_000, 5_000)


@dataclass(frozen=True, slots=True)
class Step:
    """One step: its place in the plan, by which its randomness is drawn, and what happens."""

    number: int
    what: str

    def __str__(self) -> str:
        return f"{self.number}:{self.what}"


@dataclass(frozen=True, slots=True)
class Plan:
    """A world to be: limits and shares, and its steps. There are at most `devices_max` devices; `later_server` and `later_devices` speak a version that nobody else knows."""

    seed: int
    batch_ops_max: int
    page_rows: int
    network_fault_share: float
    first_syncs_max: int
    restorable: bool
    later_server: bool
    later_devices: bool
    devices_max: int
    steps: tuple[Step, ...]


def plan_of(seed: int) -> Plan:
    """The plan of a seed."""
    draw = random.Random(seed)
    faults = {name for name, happening in HAPPENINGS.items() if happening.fault and draw.random() < FAULT_IN_WORLD_SHARE}
    restorable = draw.random() < RESTORED_SHARE
    weights = {name: happening.weight for name, happening in HAPPENINGS.items() if not happening.fault or name in faults}
    if restorable:
        weights[SERVER_RESTORE.run.__name__] = SERVER_RESTORE.weight
    names = draw.choices(list(weights), list(weights.values()), k=draw.choice(STEPS))
    return Plan(
        seed=seed,
        batch_ops_max=draw.choice([1, 3, 10, 2_000]),
        page_rows=draw.choice(PAGE_ROWS),
        network_fault_share=draw.choice([0.0, 0.2, 0.4, 0.6]),
        first_syncs_max=draw.choice([1, 1, 2, 8]),
        restorable=restorable,
        later_server=draw.random() < 0.2,
        later_devices=draw.random() < 0.2,
        devices_max=draw.choice(DEVICES_MAX),
        steps=tuple(Step(number, what) for number, what in enumerate(names, 1)),
    )
