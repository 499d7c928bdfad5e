"""What happens while a request or its answer is under way: in one thread, so that a seed repeats exactly, but in any order.

A device that is in the middle of a round starts no other one, as with the product's lock, for which nobody here could wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.simulation import stick
from tests.simulation.people import answer_questions, edit_profile, membership, regrant, teacher_edits
from tests.simulation.storage import FOREVER

if TYPE_CHECKING:
    from tests.simulation.device import SimulatedDevice
    from tests.simulation.world import World


class Interleaving:
    """The happenings of a world that do not wait for each other."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._busy = False
        self._crowd: list[SimulatedDevice] = []

    def meanwhile(self, name: str) -> None:
        """Something on the device of that name, on another one, or at school, while a request of the first is under way."""
        if self._busy:
            return
        self._busy = True
        try:
            self._happen(next(device for device in self._world.devices if device.name == name))
        finally:
            self._busy = False

    def _happen(self, this: SimulatedDevice) -> None:
        world, draw = self._world, self._world.randomness
        other = world.devices[int(draw.random() * len(world.devices))]
        what = draw.randrange(8)
        if what < 3:
            moments, this.mortality.moments_left = this.mortality.moments_left, FOREVER
            (answer_questions, edit_profile, teacher_edits)[what](world, this)
            this.mortality.moments_left = moments
        elif what == 3:
            world.network.deliver_late()
        elif what == 4:
            stick.arrive_meanwhile(world)
        elif not other.in_round:
            (answer_questions, membership, regrant)[what - 5](world, other)
            world.sync(other)

    def gather(self, devices: list[SimulatedDevice]) -> None:
        """The next of these devices begins its round at each request for rows, so that all are under way at the same time."""
        self._crowd = devices

    def crowd(self) -> None:
        """A request for rows is made."""
        while self._crowd:
            device = self._crowd.pop()
            if not device.in_round:
                self._world.sync(device)
                return
