"""The end of a world: faults stop, everything drains, and what must hold then is checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cloud_api.devices.enrolment import Grant
from tests.simulation.checks import violated
from tests.simulation.endings import check_end
from tests.simulation.people import regrant
from tests.simulation.stick import arrive, run_errand
from tests.simulation.storage import FOREVER

if TYPE_CHECKING:
    from tests.simulation.device import SimulatedDevice
    from tests.simulation.world import World

# Times each device may run its schedule until everything is quiet once faults have stopped.
DRAIN_ROUNDS = 12
# By stick alone a device needs a bundle that says where it is, the answer, and perhaps one more of each after its log began anew.
ERRANDS_MAX = 4
# Longer than the longest backoff.
PAUSE_MS = 16 * 60_000
# In as many worlds the last thing to change is what a device may hold: nothing in the feed tells of it.
REGRANTED_SHARE = 0.3


def settle(world: World) -> None:
    """Ends the faults, drains every queue, and checks everything."""
    world.draw_anew("end")
    world.network.fault_share = 0.0
    for device in world.devices:
        device.clock.offset_ms = 0
        device.mortality.moments_left = FOREVER
        device.database.free_space()
    world.network.deliver_late()
    for device in world.devices:
        if device.name in world.network.without:
            _drain_by_stick(world, device)
    world.network.without.clear()
    _drain(world)
    if world.stick.bundles:  # however old they are, they change nothing for the worse
        for bundle in world.randomness.sample(world.stick.bundles, len(world.stick.bundles)):
            arrive(world, bundle, everywhere=True)
        _drain(world)
    if world.randomness.random() < REGRANTED_SHARE:
        regrant(world, world.randomness.choice(world.devices))
        _drain(world)
    world.server.read_all()
    world.check()
    check_end(world)


def _drain_by_stick(world: World, device: SimulatedDevice) -> None:
    """A device that has no network comes to terms with its school all the same. It need not learn of a wrong clock, or of a lost enrolment."""
    for _ in range(ERRANDS_MAX):
        run_errand(world, device, back_to=device)
        world.check()
        if not world.view(device).pending:
            return
    if device.device_id() not in world.revoked and world.school.knows(device.device_id()):
        violated("NO_WEDGE", f"{device.name} has {len(world.view(device).pending)} operations queued after {ERRANDS_MAX} errands")


def _drain(world: World) -> None:
    for _ in range(DRAIN_ROUNDS):
        world.clock.time_ms += PAUSE_MS
        outcomes = [_round(world, device) for device in world.devices]
        world.check()
        if all(outcomes):
            return
    states = [f"{d.name} is {d.rounds.status().state}: {d.rounds.status().message}" for d in world.devices]
    violated("NO_WEDGE", f"after {DRAIN_ROUNDS} rounds: {'; '.join(states)}")


def _round(world: World, device: SimulatedDevice) -> bool:
    """Whether the device has nothing left to do. One that its restored server does not know is enrolled again, by a person."""
    outcome = world.sync(device, forced=False)
    if outcome != "unauthorised":
        return outcome == "quiet"
    if device.device_id() in world.revoked:
        return True
    world.adopt(device, Grant("class", world.school.class_id))
    return False
