"""What people do in a world: students work, teachers change the course and who is in the class, devices are enrolled.

A step decides by the world's randomness, which begins anew for each step: a step left out (tests/simulation/shrink.py) leaves the others as they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from cloud_api.devices.enrolment import Grant
from daemon.records import NewAttempt, NewPlanItem
from domain.errors import StorageFull
from domain.ids import Id
from tests.simulation.ledger import Attempt, Edit
from tests.simulation.storage import DeviceCrash

if TYPE_CHECKING:
    from tests.simulation.device import SimulatedDevice
    from tests.simulation.world import World

HOLIDAYS_MS = 70 * 24 * 3_600_000
EXAM_DAYS = 28
# Of a first day: devices that are new, and rounds of each, so long apart that a server with one place can take one after the other.
NEW_DEVICES, ROUNDS, TURN_MS = 2, 2, 10_000


def answer_questions(world: World, device: SimulatedDevice) -> None:
    """A student answers some questions."""
    draw = world.randomness
    students = world.view(device).students
    known = sorted(world.view(device).rows["questions"])
    if not students or not known:
        return
    student = draw.choice(students)
    new = [
        NewAttempt(draw.choice(known), draw.random() < 0.6, "free", answer=str(world.ledger.new_value())) for _ in range(draw.randint(1, 4))
    ]
    if student not in world.view(device).present:
        return
    accepting(world, device, lambda: device.records.record_attempts(student, new))
    given = {attempt.answer: attempt for attempt in new}
    for row_id, answer in device.rows("SELECT id, answer FROM question_attempts"):
        if answer in given:  # also when the device died just after the commit: then it is as good as accepted
            world.ledger.attempts[Id(row_id)] = Attempt(student, given[answer].question_id, given[answer].correct, answer, device.later)


def edit_profile(world: World, device: SimulatedDevice) -> None:
    """A student changes a field of the profile."""
    for student in world.view(device).present[:1]:
        number = world.ledger.new_value()
        name = world.randomness.choice(["grade", "exam_on", "available_minutes"])
        value: Any = {"grade": f"grade {number}", "exam_on": _day(number), "available_minutes": [number % 1_440] * 7}[name]
        work = partial(device.records.update_profile, student, {name: value})
        _editing(world, device, "student_profiles", student, name, value, work)


def plan(world: World, device: SimulatedDevice) -> None:
    """A student gets a plan, or moves an item of one."""
    draw = world.randomness
    for student in world.view(device).present[:1]:
        items = device.rows("SELECT id FROM study_plan_items WHERE student_id = ? ORDER BY id", student)
        if items and draw.random() < 0.6:
            item, day = Id(draw.choice(items)[0]), _day(world.ledger.new_value())
            work = partial(device.records.update_plan_item, student, item, {"moved_to": day})
            _editing(world, device, "study_plan_items", item, "moved_to", day, work)
        else:
            made = {"starts_on": "2026-12-01", "days": 7, "planner_version": "sim", "forecast": None}
            new = [NewPlanItem(c, "2026-12-01", "new", 8, "because") for c in world.school.concepts]
            accepting(world, device, partial(device.records.add_plan, student, made, new))


def sync(world: World, device: SimulatedDevice) -> None:
    """A round, as after a tap on "sync now" or, with the backoff heeded, by the schedule."""
    world.sync(device, forced=world.randomness.random() < 0.7)


def teacher_edits(world: World, device: SimulatedDevice) -> None:
    """The course changes."""
    question = world.randomness.choice(world.school.questions)
    world.school.edit_question(question, f"Why {world.ledger.new_value()}?", retire=world.randomness.random() < 0.3)


def membership(world: World, device: SimulatedDevice) -> None:
    """The second student leaves the class, or comes back."""
    world.school.toggle_membership(world.school.students[1])
    world.met["class left or joined"] += 1


def regrant(world: World, device: SimulatedDevice) -> None:
    """A device is given a student, or a student is taken from it."""
    world.school.toggle_grant(device.device_id(), world.randomness.choice(world.school.students))
    world.met["grant given or taken"] += 1


def enrol(world: World, device: SimulatedDevice) -> None:
    """A new device."""
    first, second = world.school.students
    world.enrol(world.randomness.choice([Grant("class", world.school.class_id), Grant("student", first), Grant("student", second)]))


def holidays(world: World, device: SimulatedDevice) -> None:
    """Ten weeks in which nobody does anything."""
    world.met["holidays"] += 1
    world.clock.time_ms += HOLIDAYS_MS


def first_day(world: World, device: SimulatedDevice) -> None:
    """Several devices fetch everything at the same time, new ones and one that had slept for too long; then all come back when they are told to."""
    before = len(world.devices)
    for _ in range(NEW_DEVICES):
        world.enrol(Grant("class", world.school.class_id))
    together = [*world.devices[before:], device]
    accepting(world, device, lambda: device.database.write(device.identity.fetch_everything_again))
    world.interleaving.gather(together[:-1])
    for _ in range(ROUNDS):
        for one in together:
            world.sync(one, forced=False)
        world.clock.time_ms += TURN_MS
    world.interleaving.gather([])


def accepting(world: World, device: SimulatedDevice, work: Callable[[], object]) -> bool:
    """Whether the device did it; a dead one is started again, one that is full has refused."""
    try:
        work()
    except DeviceCrash:
        device.restart()
        return False
    except StorageFull:
        world.met["disk full"] += 1
        return False
    finally:
        world.touched(device)
    return True


def _editing(world: World, device: SimulatedDevice, table: str, row_id: Id, name: str, value: Any, work: Callable[[], object]) -> None:
    def shown() -> Any:
        rows = device.rows(f"SELECT {name} FROM {table} WHERE id = ?", row_id)
        text = rows[0][0] if rows else None
        return json.loads(text) if name == "available_minutes" and text else text

    seen, before = shown(), world.view(device).logged
    accepting(world, device, work)
    for op_id in world.view(device).logged - before:
        world.ledger.edits[Id(op_id)] = Edit(table, row_id, name, value, seen)


def _day(number: int) -> str:
    """A date that no other number has."""
    return f"{2027 + number // (12 * EXAM_DAYS)}-{number // EXAM_DAYS % 12 + 1:02}-{number % EXAM_DAYS + 1:02}"
