"""Everything that can happen in a step of a world, and how often."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation import faults, office, people, stick

if TYPE_CHECKING:
    from tests.simulation.device import SimulatedDevice
    from tests.simulation.world import World


@dataclass(frozen=True, slots=True)
class Happening:
    """How often something happens beside the others. A fault happens only in worlds that have drawn it. The server may die of what is done
    `at_school`.
    """

    run: Callable[[World, SimulatedDevice], None]
    weight: int
    fault: bool = True
    at_school: bool = False


HAPPENINGS: dict[str, Happening] = {
    happening.run.__name__: happening
    for happening in (
        Happening(people.answer_questions, 20, fault=False),
        Happening(people.sync, 22, fault=False),
        Happening(people.edit_profile, 7, fault=False),
        Happening(people.plan, 4, fault=False),
        Happening(people.teacher_edits, 3, fault=False, at_school=True),
        Happening(people.enrol, 3, fault=False),
        Happening(office.verify, 2),
        Happening(office.retry_rejected, 2),
        Happening(office.take_letter_in_hand, 3, at_school=True),
        Happening(office.restore_loser, 2, at_school=True),
        Happening(office.deletion, 2, at_school=True),
        Happening(people.membership, 6, at_school=True),
        Happening(people.regrant, 4, at_school=True),
        Happening(stick.write_bundle, 4),
        Happening(stick.carry_stick, 6),
        Happening(stick.run_errand, 4),
        Happening(stick.bring_feed, 2),
        Happening(stick.lose_network, 2),
        Happening(people.holidays, 1),
        Happening(people.first_day, 1),
        Happening(faults.crash, 7),
        Happening(faults.late_arrivals, 3),
        Happening(faults.clone, 3),
        Happening(faults.restore_device, 4),
        Happening(faults.clock_jump, 3),
        Happening(faults.disk_fills, 3),
        Happening(faults.poison, 6),
        Happening(office.revoke, 1, at_school=True),
    )
}
# Only in worlds whose server is their own.
SERVER_RESTORE = Happening(faults.back_up_server, 9)
