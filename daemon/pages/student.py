"""What the device page shows a student who has signed in: what to do today, what was done, where they stand, what became of their work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby

from daemon import content
from daemon.learning import attempts, plan_making
from daemon.learning.engine import Engine
from daemon.learning.mastery import mastery_of
from daemon.learning.plans import MOVED, PLANNED, StandingPlan
from daemon.learning.situation import situation
from daemon.models.study import ConceptMastery, StudyPlanItem
from daemon.models.sync import SyncOperation
from daemon.pages import words
from daemon.queue import sync_log
from domain.ids import Id
from domain.operations import OperationState

ACTIVITY_DAYS = 14
# Concepts listed, those worked on last first; more would be no overview.
CONCEPTS_SHOWN_MAX = 12
CONCEPTS_READ_MAX = 500
CHANGES_SHOWN_MAX = 6
CHANGES_READ_MAX = 100
REFUSED_SHOWN_MAX = 20
TASKS_SHOWN_MAX = 12


@dataclass(frozen=True, slots=True)
class Task:
    """A line of today's plan. `settled` is `done` or `skipped`, empty while it is to do; `late`: it was planned for an earlier day."""

    concept: str
    minutes: int
    reason: str
    settled: str
    late: bool


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a student stands with a concept; `score` is 0 to 1."""

    concept: str
    level: str
    level_words: str
    score: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one change, or of several alike. `why` is there for one that the school did not take."""

    what: str
    when: str
    state: str
    kind: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Day:
    """A day's answers."""

    name: str
    answers: int


@dataclass(frozen=True, slots=True)
class StudentView:
    """Everything that is shown, in the order of the page. `tasks_more` are those for today that are not among the tasks."""

    name: str
    classes: Sequence[str]
    tasks: Sequence[Task]
    tasks_more: int
    has_plan: bool
    days: Sequence[Day]
    standings: Sequence[Standing]
    concepts_met: int
    refused: Sequence[Change]
    changes: Sequence[Change]

    @property
    def minutes_left(self) -> int:
        return sum(task.minutes for task in self.tasks if not task.settled)


def view_of(engine: Engine, student_id: Id) -> StudentView:
    """What this student sees. Raises NotFound for a student who is not on this device (any more)."""
    database, now = engine.database, situation(engine.clock)
    user, _, classes = content.student(database, student_id)
    plan = plan_making.standing(engine, student_id, now)
    mastery = mastery_of(database, student_id, engine.clock, "", CONCEPTS_READ_MAX, engine.histories)
    recent = sorted(mastery, key=lambda row: row.last_attempt_at_ms, reverse=True)[:CONCEPTS_SHOWN_MAX]
    today = _for_today(plan) if plan else []
    titles = content.concept_titles(database, [*(item.concept_id for item in today), *(row.concept_id for row in recent)])
    refused = sync_log.operations(database, student_id, OperationState.REJECTED.value, None, REFUSED_SHOWN_MAX)
    changes = sync_log.operations(database, student_id, None, None, CHANGES_READ_MAX)
    return StudentView(
        name=user.display_name,
        classes=[class_.name for class_ in classes],
        tasks=[_task(plan, item, titles) for item in today[:TASKS_SHOWN_MAX]] if plan else [],
        tasks_more=len(today[TASKS_SHOWN_MAX:]),
        has_plan=plan is not None,
        days=_days(attempts.daily_counts(database, student_id, now.utc_offset_ms, _epoch_day(now.today), ACTIVITY_DAYS), now.today),
        standings=[_standing(row, titles) for row in recent],
        concepts_met=len(mastery),
        refused=[_change(row, now.now_ms) for row in refused],
        changes=_grouped(changes, now.now_ms)[:CHANGES_SHOWN_MAX],
    )


def _for_today(plan: StandingPlan) -> list[StudyPlanItem]:
    """What the plan has for today, and behind that what it had for earlier days and was not dealt with, the latest first."""
    late = [item for item in plan.open_items() if plan.day_of(item) < plan.now.today]
    return [*(item for item in plan.items if plan.day_of(item) == plan.now.today), *reversed(late)]


def _task(plan: StandingPlan, item: StudyPlanItem, titles: Mapping[str, str]) -> Task:
    status = plan.status(item)
    settled = "" if status in (PLANNED, MOVED) else status
    return Task(titles.get(item.concept_id, "A concept"), item.minutes, item.reason, settled, plan.day_of(item) < plan.now.today)


def _standing(row: ConceptMastery, titles: Mapping[str, str]) -> Standing:
    return Standing(titles.get(row.concept_id, "A concept"), row.level, words.LEVELS.get(row.level, row.level), row.score, row.attempts)


def _change(row: SyncOperation, now_ms: int) -> Change:
    state, kind = words.state_of_change(row.state)
    why = words.why_refused(row.message, row.code) if row.state == OperationState.REJECTED else ""
    return Change(words.change(row.table_name, row.kind, 1), words.when(row.wall_ms, now_ms), state, kind, why)


def _grouped(rows: Sequence[SyncOperation], now_ms: int) -> list[Change]:
    """Neighbours that are alike as one: a new plan is one change to whoever made it, and a hundred lines in the log."""

    def alike(row: SyncOperation) -> tuple[str, str, str, str]:
        return row.table_name, row.kind, row.state, words.when(row.wall_ms, now_ms)

    groups = [(kind, len(list(group))) for kind, group in groupby(rows, alike)]
    return [Change(words.change(table, kind, count), when, *words.state_of_change(state)) for (table, kind, state, when), count in groups]


def _days(counts: Mapping[int, int], today: date) -> list[Day]:
    """The last days up to today, also those without an answer."""
    days = [today - timedelta(days=back) for back in reversed(range(ACTIVITY_DAYS))]
    return [Day(words.day_name(day, today), counts.get(_epoch_day(day), 0)) for day in days]


def _epoch_day(day: date) -> int:
    return (day - date(1970, 1, 1)).days
