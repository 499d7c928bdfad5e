"""What administrators do in a world, and what a device does that is asked to: put right, bring back, delete, revoke, compare, send again."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from cloud_api.repair import conflicts, dead_letters
from cloud_api.repair.letter_repair import Repair
from daemon.queue import requeue
from domain.errors import Conflict
from tests.simulation.faults import SPOILED
from tests.simulation.people import accepting

if TYPE_CHECKING:
    from tests.simulation.device import SimulatedDevice
    from tests.simulation.world import World

# What an administrator makes of some of the values that `poison` spoils, as it is typed.
PUT_RIGHT = {"purpose": "free", "kind": "new", "days": "7"}


def deletion(world: World, device: SimulatedDevice) -> None:
    """A row of the school comes, or goes for good."""
    world.school.toggle_prerequisite()


def verify(world: World, device: SimulatedDevice) -> None:
    """The device compares itself with the school."""
    world.note(f"verified {device.verify(content=world.randomness.random() < 0.5)}", device)


def retry_rejected(world: World, device: SimulatedDevice) -> None:
    """Somebody has what was rejected sent once more."""
    accepting(world, device, lambda: device.database.write(lambda conn: requeue.retry(conn, None, device.clock.now_ms())))


def take_letter_in_hand(world: World, device: SimulatedDevice) -> None:
    """An administrator puts a dead letter right, or just has it tried again."""
    with world.database.transaction() as cursor:
        if letters := dead_letters.letters_in_order(cursor, world.school.id, dead_letters.Filter()):
            letter = dead_letters.find_letter(cursor, world.school.id, world.randomness.choice(letters))
            values = {name: text for name, text in PUT_RIGHT.items() if SPOILED[name] == letter.payload.get(name)}
            repair = Repair(values) if values else None
            dead_letters.replay(cursor, world.ids, world.school.id, letter.id, world.clock.now_ms(), repair)


def restore_loser(world: World, device: SimulatedDevice) -> None:
    """An administrator brings a value back that had lost."""
    with world.database.transaction() as cursor:
        lost = conflicts.list_conflicts(cursor, world.school.id)
        with suppress(Conflict):
            if lost:
                conflicts.restore(cursor, world.ids, world.school.id, world.randomness.choice(lost).id, world.clock.now_ms())


def revoke(world: World, device: SimulatedDevice) -> None:
    """An administrator takes a device's access away; not the last one's."""
    if len([d for d in world.devices if d.device_id() not in world.revoked]) > 1 and world.school.knows(device.device_id()):
        world.school.revoke(device.device_id())
        world.revoked.add(device.device_id())
        world.met["device revoked"] += 1
