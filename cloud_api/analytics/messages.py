"""The tables of a class as the cloud API tells them: ids dashed, times in UTC ms, shares from 0 to 1 and null where too few students answered."""

from __future__ import annotations

import msgspec

from domain.learning.levels import Level


class CellMessage(msgspec.Struct, frozen=True):
    """One student's mastery of a concept or topic (`id`). Shown grey at `not_enough_evidence`; `answers` is the evidence."""

    id: str
    level: Level
    score: float | None
    answers: int
    last_answer_at_ms: int | None


class StudentMessage(msgspec.Struct, frozen=True):
    """A line of the heat map. What was never answered has no cell. `last_sync_ms`: the last contact of a device that the student answers on;
    `uncounted_answers` are at school and not in the figures yet.
    """

    student_id: str
    display_name: str
    last_sync_ms: int | None
    last_answer_at_ms: int | None
    uncounted_answers: int
    concepts: list[CellMessage]
    topics: list[CellMessage]


class ConceptMessage(msgspec.Struct, frozen=True):
    id: str
    title: str
    topic_ids: list[str]


class TopicMessage(msgspec.Struct, frozen=True):
    """A topic with the concepts in it or in its parts."""

    id: str
    title: str
    parent_id: str | None
    concept_ids: list[str]


class ClassMastery(msgspec.Struct, frozen=True):
    """The heat map: students by name, from `offset`, of `total`; columns in the order of the course."""

    class_id: str
    name: str
    as_of_ms: int
    total: int
    offset: int
    students: list[StudentMessage]
    concepts: list[ConceptMessage]
    topics: list[TopicMessage]


class ReasonMessage(msgspec.Struct, frozen=True):
    """A rule that applies, by name and in a sentence."""

    rule: str
    sentence: str
    concept_id: str | None


class NeedMessage(msgspec.Struct, frozen=True):
    student_id: str
    display_name: str
    reasons: list[ReasonMessage]
    last_sync_ms: int | None
    last_answer_at_ms: int | None


class OptionMessage(msgspec.Struct, frozen=True):
    """An answer given first: by how many, its share among all that were not let go of, among the top and the bottom third of these."""

    given: str
    right: bool
    students: int
    share: float | None
    share_top: float | None
    share_bottom: float | None


class FlagMessage(msgspec.Struct, frozen=True):
    flag: str
    sentence: str


class ItemMessage(msgspec.Struct, frozen=True):
    """A question: share right at first try, corrected point-biserial (from 20 students on), and what was given."""

    question_id: str
    stem: str
    students: int
    answers: int
    facility: float | None
    discrimination: float | None
    median_active_ms: int | None
    flags: list[FlagMessage]
    options: list[OptionMessage]


class WrongAnswerMessage(msgspec.Struct, frozen=True):
    """`students` of `answered` gave it, `sure` of them with confidence; the share lies between `low` and `high` with 95 %. Who is counted has an answer
    that was not let go of. No share is told of fewer than five.
    """

    question_id: str
    stem: str
    given: str
    students: int
    answered: int
    sure: int
    share: float | None
    low: float | None
    high: float | None


class StandingMessage(msgspec.Struct, frozen=True):
    """Minutes of the last two weeks, today not counted; `behind_since` is the oldest day (YYYY-MM-DD) of which something is left."""

    due_minutes: int
    done_minutes: int
    skipped_minutes: int
    spent_minutes: int
    behind_minutes: int
    overdue_items: int
    idle_planned_days: int
    off_plan: bool
    behind_since: str | None


class DayMessage(msgspec.Struct, frozen=True):
    """A day (UTC), YYYY-MM-DD; `proficient` counts concepts at proficient or above after its last answer."""

    day: str
    active_ms: int
    answers: int
    right: int
    proficient: int


class TimeMessage(msgspec.Struct, frozen=True):
    student_id: str
    display_name: str
    standing: StandingMessage
    days: list[DayMessage]
    last_sync_ms: int | None
    last_answer_at_ms: int | None


class PointMessage(msgspec.Struct, frozen=True):
    """The n-th answer about a concept: by how many students, share wrong, and how many stopped after it, wrong ones counted."""

    opportunity: int
    students: int
    error: float
    stopped: int
    stopped_wrong: int


class CurveMessage(msgspec.Struct, frozen=True):
    concept_id: str
    title: str
    flat: bool
    points: list[PointMessage]


class MemberMessage(msgspec.Struct, frozen=True):
    """`known`: concepts of the prerequisite at familiar or above; `met`: with any answer."""

    student_id: str
    display_name: str
    known: int
    met: int


class GroupMessage(msgspec.Struct, frozen=True):
    """Students who lack the topic and work on those in `waiting`."""

    topic_id: str
    title: str
    concepts: int
    waiting: list[str]
    waiting_titles: list[str]
    members: list[MemberMessage]


class OffPlanMessage(msgspec.Struct, frozen=True):
    student_id: str
    display_name: str
    standing: StandingMessage
    last_sync_ms: int | None
    last_answer_at_ms: int | None


class ReachMessage(msgspec.Struct, frozen=True):
    """A topic of `concepts` concepts at least half of which the plans of these students leave out; `plans` look ahead to an exam."""

    topic_id: str
    title: str
    concepts: int
    plans: int
    student_ids: list[str]
    display_names: list[str]


class PlannedMessage(msgspec.Struct, frozen=True):
    """An item of the newest plan for `day`, the student's own. `status`: planned, moved, skipped, or done, also where answers did it."""

    day: str
    concept_id: str
    kind: str
    minutes: int
    reason: str | None
    status: str


class AttemptMessage(msgspec.Struct, frozen=True):
    at_ms: int
    question_id: str
    stem: str
    given: str | None
    correct: bool
    active_ms: int | None
    confidence: int | None
    purpose: str


class StudentFiguresMessage(msgspec.Struct, frozen=True):
    """One student: mastery, reasons for help, standing to the plan, the days of four weeks, the latest attempts, the plan of the next seven days;
    the share of the exam's weight at proficient or above, and what the plan says will be learnt.
    """

    student: StudentMessage
    reasons: list[ReasonMessage]
    standing: StandingMessage
    days: list[DayMessage]
    attempts: list[AttemptMessage]
    plan: list[PlannedMessage]
    coverage: float | None
    learnt_share: float | None


class NeedsHelpPage(msgspec.Struct, frozen=True):
    total: int
    offset: int
    rows: list[NeedMessage]


class ItemsPage(msgspec.Struct, frozen=True):
    total: int
    offset: int
    rows: list[ItemMessage]


class WrongAnswersPage(msgspec.Struct, frozen=True):
    total: int
    offset: int
    rows: list[WrongAnswerMessage]


class TimePage(msgspec.Struct, frozen=True):
    total: int
    offset: int
    rows: list[TimeMessage]


class CurvesPage(msgspec.Struct, frozen=True):
    total: int
    offset: int
    rows: list[CurveMessage]


class GroupsPage(msgspec.Struct, frozen=True):
    total: int
    offset: int
    rows: list[GroupMessage]


class OffPlanPage(msgspec.Struct, frozen=True):
    total: int
    offset: int
    rows: list[OffPlanMessage]


class OutOfReachPage(msgspec.Struct, frozen=True):
    total: int
    offset: int
    rows: list[ReachMessage]
