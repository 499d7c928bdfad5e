"""What a class's teachers are told, as values: the rows of every table. Ids are in internal form, times in UTC ms, shares from 0 to 1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from domain.learning.analytics.curves import LearningCurve
from domain.learning.analytics.groups import Group
from domain.learning.analytics.heat_map import Cell
from domain.learning.analytics.items import ItemFigures
from domain.learning.analytics.needs_help import Reason
from domain.learning.analytics.plan_standing import PlanStanding
from domain.learning.analytics.reach import OutOfReach
from domain.learning.analytics.student import DayFigures
from domain.learning.analytics.wrong_answers import CommonWrongAnswer


@dataclass(frozen=True, slots=True)
class DataAge:
    """How old a student's figures are: when a device that the student answers on was last in contact, the last answer that has come, and how many
    that have come are not counted in yet.
    """

    last_sync_ms: int | None
    last_answer_at_ms: int | None
    uncounted: int


@dataclass(frozen=True, slots=True)
class StudentRow:
    """A line of the heat map. What was never answered has no cell."""

    student_id: str
    display_name: str
    data_age: DataAge
    cells: Mapping[str, Cell]
    topic_cells: Mapping[str, Cell]


@dataclass(frozen=True, slots=True)
class ConceptColumn:
    id: str
    title: str
    topic_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TopicColumn:
    """A topic and the concepts in it or in one of its parts."""

    id: str
    title: str
    parent_id: str | None
    concept_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Overview:
    """The heat map as of `as_of_ms`: students by name; concepts that somebody has met and their neighbours in the same topics."""

    class_id: str
    name: str
    as_of_ms: int
    students: list[StudentRow]
    concepts: list[ConceptColumn]
    topics: list[TopicColumn]


@dataclass(frozen=True, slots=True)
class StudentInNeed:
    student_id: str
    display_name: str
    reasons: list[Reason]
    data_age: DataAge


@dataclass(frozen=True, slots=True)
class ItemRow:
    stem: str
    figures: ItemFigures


@dataclass(frozen=True, slots=True)
class WrongAnswerRow:
    stem: str
    figures: CommonWrongAnswer


@dataclass(frozen=True, slots=True)
class DayRow:
    """A day (UTC) as YYYY-MM-DD."""

    day: str
    figures: DayFigures


@dataclass(frozen=True, slots=True)
class TimeRow:
    student_id: str
    display_name: str
    standing: PlanStanding
    days: list[DayRow]
    data_age: DataAge


@dataclass(frozen=True, slots=True)
class CurveRow:
    title: str
    figures: LearningCurve


@dataclass(frozen=True, slots=True)
class GroupRow:
    """`names` are those of the group's members, in their order."""

    title: str
    waiting_titles: list[str]
    names: list[str]
    figures: Group


@dataclass(frozen=True, slots=True)
class OffPlanRow:
    student_id: str
    display_name: str
    standing: PlanStanding
    data_age: DataAge


@dataclass(frozen=True, slots=True)
class ReachRow:
    """`names` are those of the students whose plans leave the topic out, in their order."""

    title: str
    names: list[str]
    figures: OutOfReach


@dataclass(frozen=True, slots=True)
class Help:
    """What stands on one page. `plans` counts the students with a plan for an exam to come."""

    needy: list[StudentInNeed]
    groups: list[GroupRow]
    off_plan: list[OffPlanRow]
    out_of_reach: list[ReachRow]
    plans: int


@dataclass(frozen=True, slots=True)
class RecentAttempt:
    """One attempt as it is stored; `at_ms` is its corrected time."""

    at_ms: int
    question_id: str
    stem: str
    given: str | None
    correct: bool
    active_ms: int | None
    confidence: int | None
    purpose: str


@dataclass(frozen=True, slots=True)
class ComingItem:
    """An item of the student's newest plan for `day` (the student's own, YYYY-MM-DD), with the reason that the planner gave. `status` is planned, moved,
    skipped, or done, also where answers did it.
    """

    day: str
    concept_id: str
    kind: str
    minutes: int
    reason: str | None
    status: str


@dataclass(frozen=True, slots=True)
class StudentDetail:
    """One student, for the teachers of the class: `titles` by concept, days oldest first, attempts newest first, what is planned in its order.

    `coverage` is the share of the exam's weight at proficient or above, None where the course states no weights; `learnt_share` what the newest plan says
    will be learnt by the exam, None without one to come.
    """

    row: StudentRow
    titles: Mapping[str, str]
    reasons: list[Reason]
    standing: PlanStanding
    days: list[DayRow]
    attempts: list[RecentAttempt]
    coming: list[ComingItem]
    coverage: float | None = None
    learnt_share: float | None = None
