"""Making a student's plan: from the answers, the profile, the school's rules and the plan before, whose marks it keeps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, timedelta

from daemon.learning import plan_notes, plans
from daemon.learning.engine import Engine
from daemon.learning.plan_inputs import Wish, inputs_of
from daemon.learning.plans import DONE, MOVED, PLANNED, SKIPPED, StandingPlan
from daemon.learning.situation import Situation
from daemon.models.study import StudyPlanItem
from daemon.records import NewPlanItem
from domain.errors import InvalidInput, NotFound, PlanSuperseded, Problem, StorageFull
from domain.ids import Id, dashed
from domain.learning.attempts import DAY_MS
from domain.learning.pace import at_pace
from domain.learning.plan_changes import PlanChange, Since, plan_changes
from domain.learning.planner import Pin, Plan, PlanItem, PlanRequest, Study, make_plan

# Items of one plan; each is an operation of its own on its way to school.
ITEMS_MAX = 2_000
# Plans of students who have answered nothing for so long are left alone until they are looked at: after an absence, a fresh start.
IDLE_DAYS_MAX = 7
# Students whose plan one run of the job makes anew.
STUDENTS_A_RUN_MAX = 20
# After so many days without a look at the plan nothing is held against a student: a fresh start, not a list of what was not done.
ABSENCE_DAYS_MAX = 3
MOVED_BY = "you"


def standing(engine: Engine, student_id: Id, now: Situation, on: date | None = None) -> StandingPlan | None:
    """The plan that counts, made anew when it is of another day than today; None before the first. With `on`, only the items of that day are read."""
    found = _found(engine, student_id, now, on=on)
    if found is None or _is_of_today(found, now):
        return found
    with engine.planning, suppress(StorageFull):  # yesterday's plan is better than none
        found = _found(engine, student_id, now, on=on) or found
        if not _is_of_today(found, now):  # nobody has made it meanwhile
            make(engine, student_id, plan_notes.read_notes(found.plan.notes).wish(found.plan.days), now, shortened=True)
            found = _found(engine, student_id, now, on=on)
    return found


def _is_of_today(found: StandingPlan, now: Situation) -> bool:
    """Whether a plan begins today; one that begins later is of a time when this machine's clock was wrong."""
    return date.fromisoformat(found.plan.starts_on) == now.today


def replan_due(engine: Engine, now: Situation, device_id: Callable[[], Id]) -> int:
    """Makes today's plan for students of this device who study and have yesterday's, a limited number at a time. Returns how many."""
    since_ms = now.now_ms - IDLE_DAYS_MAX * DAY_MS
    with engine.database.read() as conn:
        due = plans.active_students(conn, now.today, engine.records.now_ms(), since_ms, device_id(), STUDENTS_A_RUN_MAX)
    for student_id in due:
        standing(engine, student_id, now)
    return len(due)


def make(engine: Engine, student_id: Id, wish: Wish, now: Situation, *, shortened: bool = False) -> None:
    """Plans from today and stores the plan, which then counts. One that would get too long is `shortened` by its last days; else raises InvalidInput."""
    with engine.planning:
        _make(engine, student_id, wish, now, shortened)


def _make(engine: Engine, student_id: Id, wish: Wish, now: Situation, shortened: bool) -> None:
    study = _study(engine, student_id, now)
    with engine.database.read() as conn:
        course, inputs = engine.courses.current(conn), inputs_of(conn, student_id)
    before = _found(engine, student_id, now, study)
    kept = _Kept.of(before, now)
    request = kept.respected(inputs.request(wish, now, study))
    nodes = at_pace(course.nodes, inputs.pace)
    plan = make_plan(nodes, study.states, request)
    changes = _changes(before, plan, request, study, wish, {node.id for node in nodes})
    days = wish.horizon_days
    if len(kept.items) + sum((item.day - now.today).days < days for item in plan.items) > ITEMS_MAX:
        if not shortened:
            raise InvalidInput([Problem("$.horizon_days", "too_long", f"A plan has at most {ITEMS_MAX} items: ask for fewer days.")])
        days = max(1, (plan.items[max(0, ITEMS_MAX - len(kept.items))].day - now.today).days)
    items = [*kept.items, *(_new_item(item) for item in plan.items if (item.day - now.today).days < days)]
    row = {
        "starts_on": now.today.isoformat(),
        "days": days,
        "planner_version": plan.version,
        "forecast": plan_notes.forecast_of(plan.forecast),
        "notes": plan_notes.notes_of(wish, request, changes, plan.ignored),
    }
    engine.records.add_plan(student_id, row, items)


def mark(
    engine: Engine, student_id: Id, item_id: Id, status: str, moved_to: str | None, now: Situation
) -> tuple[StandingPlan, StudyPlanItem]:
    """Marks an item of the plan that counts. Raises NotFound for an item of somebody else's, PlanSuperseded for one of an older plan."""
    with engine.planning:
        found, row = _found(engine, student_id, now), plans.item(engine.database, item_id)
        if found is None or row.student_id != student_id:
            raise NotFound("This student has no such plan item.")
        if row.plan_id != found.plan.id:
            raise PlanSuperseded(dashed(Id(found.plan.id)))
        engine.records.update_plan_item(student_id, item_id, {"status": status, "moved_to": moved_to})
    return found, plans.item(engine.database, item_id)


@dataclass(frozen=True, slots=True)
class _Kept:
    """What the plan before leaves behind: today's items that are done or skipped, what its student moved to a later day, and what it has for the days to come."""

    items: tuple[NewPlanItem, ...] = ()
    minutes_used: int = 0
    settled: frozenset[str] = frozenset()
    moved: tuple[Pin, ...] = ()
    planned: Mapping[date, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, before: StandingPlan | None, now: Situation) -> _Kept:
        if before is None:
            return cls()
        today = [row for row in before.items if before.day_of(row) == now.today and before.status(row) in (DONE, SKIPPED)]
        return cls(
            items=tuple(_kept_item(row, before, now.today) for row in today),
            minutes_used=sum(row.minutes for row in today if before.status(row) == DONE),
            settled=frozenset(row.concept_id for row in today),
            moved=tuple(
                Pin(row.concept_id, before.day_of(row), MOVED_BY)
                for row in before.open_items()
                if row.status == MOVED and before.day_of(row) >= now.today
            ),
            planned=_by_day(before, now.today),
        )

    def respected(self, request: PlanRequest) -> PlanRequest:
        """The request, for a plan that comes after what was kept."""
        tomorrow = request.today + timedelta(days=1)
        return replace(
            request,
            minutes_used=self.minutes_used,
            postponed=dict.fromkeys(self.settled, tomorrow) | {pin.concept_id: pin.on for pin in self.moved if pin.on},
            pinned=(*request.pinned, *self.moved),
            planned_before=self.planned,
        )


def _by_day(plan: StandingPlan, first: date) -> dict[date, frozenset[str]]:
    """What a plan has for that day and later ones, and is still to do."""
    days: dict[date, set[str]] = defaultdict(set)
    for row in plan.open_items():
        if plan.day_of(row) >= first:
            days[plan.day_of(row)].add(row.concept_id)
    return {day: frozenset(concepts) for day, concepts in days.items()}


def _found(engine: Engine, student_id: Id, now: Situation, study: Study | None = None, on: date | None = None) -> StandingPlan | None:
    newest = plans.newest(engine.database, student_id, engine.records.now_ms(), on)
    if newest is None:
        return None
    plan, items = newest
    return StandingPlan(plan, items, (study or _study(engine, student_id, now)).states, now)


def _study(engine: Engine, student_id: Id, now: Situation) -> Study:
    with engine.histories.lock:
        return engine.histories.up_to_date(student_id, now.now_ms).study.study()


def _changes(
    before: StandingPlan | None, plan: Plan, request: PlanRequest, study: Study, wish: Wish, known: set[str]
) -> Sequence[PlanChange]:
    """What is otherwise than planned before; nothing after an absence, when all is, and none of it is worth telling, or after a plan of days to come."""
    first = request.today - timedelta(days=ABSENCE_DAYS_MAX)
    if before is None or not first <= date.fromisoformat(before.plan.starts_on) <= request.today:
        return ()
    made_ms, states = before.plan.created_at_ms, study.states
    old = [before.as_planned(row) for row in before.open_items() if row.concept_id in known]
    answered = {c for c, state in states.items() if state.last_answered_at_ms is not None and state.last_answered_at_ms >= made_ms}
    basis = plan_notes.read_notes(before.plan.notes).basis
    return plan_changes(old, plan, Since(request, states, answered, basis, wish.excluded))


def _new_item(item: PlanItem) -> NewPlanItem:
    return NewPlanItem(Id(item.concept_id), item.day.isoformat(), item.kind.value, item.minutes, item.reason, PLANNED)


def _kept_item(row: StudyPlanItem, before: StandingPlan, day: date) -> NewPlanItem:
    return NewPlanItem(Id(row.concept_id), day.isoformat(), row.kind, row.minutes, row.reason, before.status(row))
