"""What goes wrong in a world with devices, operations and servers; what goes wrong with requests is in tests/simulation/network.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.simulation.device import MOMENTS_MAX
from tests.simulation.people import accepting, answer_questions, edit_profile, plan, sync
from tests.simulation.stick import bring_feed, carry_stick, run_errand, write_bundle

if TYPE_CHECKING:
    from tests.simulation.device import SimulatedDevice
    from tests.simulation.world import World

TEN_YEARS_MS = 10 * 365 * 24 * 3_600_000
# How often a stick tells the school where a device was before its file goes back, and brings it what the school takes it to lack afterwards.
BY_STICK_SHARE = 0.6
# Values that the registry does not allow, by column.
SPOILED = {"purpose": "fun", "kind": "fun", "days": 0, "grade": "g\0", "exam_on": "soon", "available_minutes": 7, "moved_to": "later"}


def crash(world: World, device: SimulatedDevice) -> None:
    """The device dies somewhere in its next round, or in what a student does."""
    device.mortality.moments_left = world.randomness.randint(1, MOMENTS_MAX)
    world.randomness.choice([sync, sync, sync, answer_questions, edit_profile, plan, write_bundle, carry_stick])(world, device)


def late_arrivals(world: World, device: SimulatedDevice) -> None:
    """Requests that were under way arrive."""
    world.network.deliver_late()


def clone(world: World, device: SimulatedDevice) -> None:
    """A copy of the device goes its own way."""
    if world.has_room:
        folder = world.new_folder("clone")
        device.copy_to(folder, whole=world.randomness.random() < 0.5)
        world.open(folder, later=device.later)
        world.met["device copied"] += 1


def restore_device(world: World, device: SimulatedDevice) -> None:
    """The file goes back to an older copy, or such a copy is made. What only the lost file held is lost with it: no software can keep that."""
    if device.older is None:
        device.older = world.new_folder("older")
        device.copy_to(device.older, whole=world.randomness.random() < 0.5)
        return
    by_stick = world.randomness.random() < BY_STICK_SHARE
    if by_stick:
        run_errand(world, device)
    view = world.view(device)
    lost, queued = view.logged, view.queued
    device.go_back_to(device.older)
    world.met["device restored"] += 1
    device.older = None
    elsewhere = frozenset[str]().union(*(world.view(d).logged for d in world.devices))
    world.ledger.excused |= queued & lost - elsewhere
    world.ledger.unlogged |= lost - elsewhere
    if by_stick:
        bring_feed(world, device)


def clock_jump(world: World, device: SimulatedDevice) -> None:
    """The device's wall clock is set, to right or wrong."""
    world.met["clock set"] += 1
    device.clock.offset_ms = world.randomness.choice([0, -TEN_YEARS_MS, TEN_YEARS_MS, 3_600_000, -90_000])


def disk_fills(world: World, device: SimulatedDevice) -> None:
    """From one of its next writes on, the device's disk is full; or it is no longer."""
    if device.database.writes_until_full < 0:
        device.database.free_space()
    else:
        device.database.writes_until_full = world.randomness.randint(1, 4)


def poison(world: World, device: SimulatedDevice) -> None:
    """A queued operation is spoiled: the server cannot accept it."""
    kind = world.randomness.choice(["insert", "update"])
    rows = device.rows("SELECT op_no, op_id, payload FROM sync_operations WHERE state = 'pending' AND kind = ? ORDER BY op_no", kind)
    if rows:
        op_no, op_id, payload = world.randomness.choice(rows)
        held = json.loads(payload)
        text = json.dumps(held | {n: v for n, v in SPOILED.items() if n in held}, separators=(",", ":"), ensure_ascii=False)

        def spoil(conn: Any) -> None:
            conn.execute("UPDATE sync_operations SET payload = ? WHERE op_no = ?", (text, op_no))

        world.ledger.poisoned.add(op_id)
        world.met["operation spoiled"] += 1
        accepting(world, device, lambda: device.database.write(spoil))


def back_up_server(world: World, device: SimulatedDevice) -> None:
    """The server's database is backed up; or, where there is a backup, it goes back to that."""
    world.back_up_or_restore()
