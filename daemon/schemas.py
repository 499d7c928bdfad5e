"""Requests and answers of the localhost API. Ids are dashed in answers, both forms are accepted; times are UTC ms; dates are ISO dates."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from daemon.endpoints import Input
from daemon.limits import Day, RowId, limited, one_of
from daemon.plans import HORIZON_DAYS_DEFAULT
from domain.operations import OperationState
from domain.planner import HORIZON_DAYS_MAX, MINUTES_A_DAY_MAX

PAGE_MAX = 500
PAGE_DEFAULT = 100
CURSOR_LENGTH_MAX = 100
# Attempts of one request.
ATTEMPTS_MAX = 500
URL_LENGTH_MAX = 2_000
DAYS_OFF_MAX = 400
EXCLUDED_MAX = 1_000

# --- requests

Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX, description="Items on one page.")]
PageCursor = Annotated[str, Meta(max_length=CURSOR_LENGTH_MAX, description="next_cursor of the page before.")] | None
Retired = Annotated[bool, Meta(description="Whether retired content is shown as well.")]
OwnId = Annotated[RowId | None, Meta(description="May only name the signed-in student; everything else is forbidden.")]


class OwnQuery(Input, frozen=True):
    student_id: OwnId = None


class OwnPageQuery(OwnQuery, frozen=True):
    limit: Limit = PAGE_DEFAULT
    cursor: PageCursor = None


class ContentQuery(OwnPageQuery, frozen=True):
    retired: Retired = False


class ConceptsQuery(ContentQuery, frozen=True):
    topic_id: RowId | None = None


class QuestionsQuery(ConceptsQuery, frozen=True):
    concept_id: RowId | None = None


class PageQuery(Input, frozen=True):
    limit: Limit = PAGE_DEFAULT
    cursor: PageCursor = None


class OperationsQuery(PageQuery, frozen=True):
    state: Annotated[str | None, one_of(*OperationState)] = None


class NewSession(Input, frozen=True):
    """Who signs in: by one of the two, or without either when only one student is on the device."""

    student_id: RowId | None = None
    username: Annotated[str | None, limited("users", "username")] = None


class NewAttempt(Input, frozen=True):
    """An answer. With an `id` of the app's own (a UUID, best UUIDv7) it can be sent again safely; without a time it was answered now."""

    question_id: Annotated[str, limited("question_attempts", "question_id")]
    correct: bool
    id: Annotated[str | None, limited("question_attempts", "id")] = None
    answer: Annotated[str | None, limited("question_attempts", "answer")] = None
    answered_at_ms: Annotated[int | None, limited("question_attempts", "answered_at_ms")] = None
    active_ms: Annotated[int | None, limited("question_attempts", "active_ms")] = None
    confidence: Annotated[int | None, limited("question_attempts", "confidence")] = None
    purpose: Annotated[str, limited("question_attempts", "purpose")] = "free"


AttemptList = Annotated[list[NewAttempt], Meta(min_length=1, max_length=ATTEMPTS_MAX)]


class AttemptBatch(Input, frozen=True):
    """Several answers: all are recorded, or none."""

    attempts: AttemptList


Minutes = Annotated[int, Meta(ge=0, le=MINUTES_A_DAY_MAX)]
Week = Annotated[list[Minutes], Meta(min_length=7, max_length=7, description="Minutes of each weekday, Monday first.")]


class ProfileChange(Input, frozen=True):
    """The fields to change; null clears one."""

    grade: Annotated[str | UnsetType | None, limited("student_profiles", "grade")] = UNSET
    exam_on: Annotated[str | UnsetType | None, limited("student_profiles", "exam_on")] = UNSET
    available_minutes: Week | UnsetType | None = UNSET


class NewPlan(Input, frozen=True):
    """What the plan should be. Exam and minutes a day come from the profile."""

    horizon_days: Annotated[int, Meta(ge=1, le=HORIZON_DAYS_MAX)] = HORIZON_DAYS_DEFAULT
    days_off: Annotated[list[Day], Meta(max_length=DAYS_OFF_MAX)] = msgspec.field(default_factory=list)
    exclude: Annotated[list[RowId], Meta(max_length=EXCLUDED_MAX, description="Concepts not to plan.")] = msgspec.field(
        default_factory=list
    )


class PlanItemChange(Input, frozen=True):
    """`moved_to` must be given with the status `moved`, and only then."""

    status: Annotated[str, limited("study_plan_items", "status")]
    moved_to: Annotated[str | None, limited("study_plan_items", "moved_to")] = None


class NewEnrolment(Input, frozen=True):
    """The school's server, a one-time code from it, and a name for this device."""

    cloud_url: Annotated[str, Meta(min_length=1, max_length=URL_LENGTH_MAX)]
    code: Annotated[str, Meta(min_length=1, max_length=100)]
    name: Annotated[str, Meta(min_length=1, max_length=100)]


# --- answers


class Output(msgspec.Struct, frozen=True):
    """Base of everything that is answered."""


class Health(Output, frozen=True):
    status: str


class Status(Output, frozen=True):
    """The truth about sync. `state`: not_enrolled, unknown, waiting, pending, rejected, or synced, which is only said when everything written
    here is at school. `pending` and `rejected` count operations, `answers_pending` answers among the first. `notices` are sentences for the
    person who looks after the machine: settings that are not used, a content file that was refused."""

    state: str
    reason: str | None
    message: str | None
    pending: int
    rejected: int
    answers_pending: int
    school_name: str | None
    last_contact_ms: int | None
    last_push_ms: int | None
    last_pull_ms: int | None
    next_attempt_in_s: float | None
    notices: list[str]


class Student(Output, frozen=True):
    id: str
    username: str
    display_name: str


class Students(Output, frozen=True):
    items: list[Student]


class Session(Output, frozen=True):
    """`token` goes into `Authorization: Bearer …`; it is shown only here. `expires_at_ms` moves on with use."""

    token: str
    student: Student
    expires_at_ms: int


class Class(Output, frozen=True):
    id: str
    name: str


class Profile(Output, frozen=True):
    grade: str | None
    exam_on: str | None
    available_minutes: list[int] | None


class Me(Output, frozen=True):
    id: str
    username: str
    display_name: str
    classes: list[Class]
    profile: Profile


class Topic(Output, frozen=True):
    id: str
    parent_id: str | None
    title: str
    level: str
    position: int
    weightage: float | None
    external_id: str | None
    retired_at_ms: int | None


class Topics(Output, frozen=True):
    items: list[Topic]
    next_cursor: str | None


class Concept(Output, frozen=True):
    id: str
    topic_ids: list[str]
    title: str
    mastery_threshold: float
    external_id: str | None
    retired_at_ms: int | None


class Concepts(Output, frozen=True):
    items: list[Concept]
    next_cursor: str | None


class Question(Output, frozen=True):
    """A question with what grading needs: `answers` holds the right ones."""

    id: str
    topic_id: str
    concept_ids: list[str]
    kind: str
    stem: str
    choices: Any
    answers: Any
    source: str | None
    external_id: str | None
    retired_at_ms: int | None


class Questions(Output, frozen=True):
    items: list[Question]
    next_cursor: str | None


class ConceptLeft(Output, frozen=True):
    """A planned concept without more questions today; `flagged` when many answers did not reach its goal."""

    concept_id: str
    flagged: bool
    reason: str


class NextQuestion(Output, frozen=True):
    """What to ask now. `question` and the three after it are null when nothing is left to ask; `chance` is that of a right answer."""

    question: Question | None
    concept_id: str | None
    chance: float | None
    reason: str | None
    plan_item_id: str | None
    left: list[ConceptLeft]


class RecordedAttempt(Output, frozen=True):
    """`created` is false when the same attempt was recorded before."""

    id: str
    answered_at_ms: int
    created: bool


class RecordedAttempts(Output, frozen=True):
    """One for each attempt of the request, in its order."""

    attempts: list[RecordedAttempt]


class Attempt(Output, frozen=True):
    id: str
    question_id: str
    answer: str | None
    correct: bool
    answered_at_ms: int
    active_ms: int | None
    confidence: int | None
    purpose: str
    device_id: str
    corrected_at_ms: int | None


class Attempts(Output, frozen=True):
    items: list[Attempt]
    next_cursor: str | None


class Mastery(Output, frozen=True):
    """`score` is the chance of a right answer to a question of middle difficulty at `computed_at_ms`."""

    concept_id: str
    score: float
    level: str
    evidence: float
    attempts: int
    correct_attempts: int
    last_attempt_at_ms: int
    model_version: str
    computed_at_ms: int


class MasteryPage(Output, frozen=True):
    items: list[Mastery]
    next_cursor: str | None


class PlanItem(Output, frozen=True):
    id: str
    concept_id: str
    day: str
    position: int
    kind: str
    minutes: int
    reason: str
    status: str
    moved_to: str | None


class Plan(Output, frozen=True):
    """`forecast` says where the plan leads if all goes well: shares of the exam's weight, and a sentence."""

    id: str
    created_at_ms: int
    starts_on: str
    days: int
    planner_version: str
    forecast: dict[str, Any] | None
    items: list[PlanItem]


class SyncRound(Output, frozen=True):
    """`finished` is false when the round goes on after this answer; `outcome` is then null. `outcome` is `done`, or why it was not."""

    finished: bool
    outcome: str | None
    message: str | None
    pushed: int
    pulled: int
    rejected: int


class SyncOperation(Output, frozen=True):
    """One local change and what became of it. `code` and `message` say why it was rejected."""

    op_no: int
    id: str
    table: str
    row_id: str
    kind: str
    state: str
    code: str | None
    message: str | None
    written_at_ms: int
    settled_at_ms: int | None


class SyncOperations(Output, frozen=True):
    items: list[SyncOperation]
    next_cursor: str | None


class SyncConflict(Output, frozen=True):
    """A change of this device that lost a merge. The server keeps conflicts; devices are not told of them yet."""

    table: str
    row_id: str
    field: str
    noted_at_ms: int


class SyncConflicts(Output, frozen=True):
    items: list[SyncConflict]
    next_cursor: str | None


class Enrolled(Output, frozen=True):
    device_id: str
    school_id: str
    school_name: str
