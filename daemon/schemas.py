"""Requests and answers of the localhost API. Ids are dashed in answers, both forms are accepted; times are UTC ms; dates are ISO dates."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from daemon.access.online import PASSWORD_LENGTH_MAX
from daemon.access.pins import PIN_LENGTH_MAX, PIN_LENGTH_MIN
from daemon.endpoints import Input
from daemon.learning.plan_inputs import HORIZON_DAYS_DEFAULT
from daemon.limits import Day, RowId, limited, one_of
from daemon.requeue import RETRY_MAX
from domain.learning.planner import HORIZON_DAYS_MAX, MINUTES_A_DAY_MAX
from domain.operations import OperationState

PAGE_MAX = 500
PAGE_DEFAULT = 100
CURSOR_LENGTH_MAX = 100
# Attempts of one request.
ATTEMPTS_MAX = 500
URL_LENGTH_MAX = 2_000
DAYS_OFF_MAX = 400
EXCLUDED_MAX = 1_000
ORIGINS_MAX = 20
# As browsers write them: lower case, no path, a port only where it is not the usual one.
ORIGIN_PATTERN = r"^https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?$"

# --- requests

Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX, description="Items on one page.")]
PageCursor = Annotated[str, Meta(max_length=CURSOR_LENGTH_MAX, description="next_cursor of the page before.")] | None
Retired = Annotated[bool, Meta(description="Whether retired content is shown as well.")]
OwnId = Annotated[RowId | None, Meta(description="May only name the signed-in student; everything else is forbidden.")]


class OwnQuery(Input, frozen=True):
    student_id: OwnId = None


class NextQuestionQuery(OwnQuery, frozen=True):
    topic_id: Annotated[RowId | None, Meta(description="Ask about this topic and those below it, whatever the plan says.")] = None


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


Pin = Annotated[str, Meta(min_length=PIN_LENGTH_MIN, max_length=PIN_LENGTH_MAX, description="Digits, or any other text.")]
Origin = Annotated[str, Meta(pattern=ORIGIN_PATTERN, max_length=URL_LENGTH_MAX, description="Such as http://localhost:3000.")]


class NewSession(Input, frozen=True):
    """Who signs in: by one of the two, or without either when only one student is on the device. `pin` where GET /students says `set`; or the
    `password` that the student has at school, which the school is asked about while there is a network, and this device for 30 days after.
    """

    student_id: RowId | None = None
    username: Annotated[str | None, limited("users", "username")] = None
    pin: Annotated[str, Meta(max_length=PIN_LENGTH_MAX)] | None = None
    password: Annotated[str, Meta(max_length=PASSWORD_LENGTH_MAX)] | None = None


class NewPin(Input, frozen=True):
    pin: Pin


class NewApp(Input, frozen=True):
    """A name for people, and the origins that the app's web pages come from, if it has any."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    origins: Annotated[list[Origin], Meta(max_length=ORIGINS_MAX)] = msgspec.field(default_factory=list)


class NewLaunch(Input, frozen=True):
    """Which app, for the command line; without one the account's own. An app launches itself."""

    app_id: RowId | None = None


class Redemption(Input, frozen=True):
    code: Annotated[str, Meta(min_length=1, max_length=100)]


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


DaysOff = Annotated[list[Day], Meta(max_length=DAYS_OFF_MAX, description="Days without study.")]


class ProfileChange(Input, frozen=True):
    """The fields to change; null clears one."""

    grade: Annotated[str | UnsetType | None, limited("student_profiles", "grade")] = UNSET
    exam_on: Annotated[str | UnsetType | None, limited("student_profiles", "exam_on")] = UNSET
    available_minutes: Week | UnsetType | None = UNSET
    days_off: DaysOff | UnsetType | None = UNSET


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


OperationIds = Annotated[list[RowId], Meta(min_length=1, max_length=RETRY_MAX)]


class Verify(Input, frozen=True):
    """`content` compares what stands in the rows as well as their versions; it costs more."""

    content: bool = False


class Retry(Input, frozen=True):
    """The rejected operations to send again; without `ids` all of them, the oldest first, at most 500 a request."""

    ids: OperationIds | None = None


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
    """The truth about sync. `state`: not_enrolled, unknown, waiting, pending, rejected, differs, or synced, which is only said when everything
    written here is at school. `last_verify_result`: match, repaired, mismatch or inconclusive, of the last comparison with the school's rows. `pending` and `rejected` count operations, `answers_pending` answers among the first. `notices` are sentences for the
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
    last_verify_ms: int | None
    last_verify_result: str | None
    notices: list[str]


class Student(Output, frozen=True):
    id: str
    username: str
    display_name: str


class ListedStudent(Student, frozen=True):
    """`pin` says what signing in takes: `set` a PIN, `not_needed` none; with `not_set` and `expired` a teacher must set one first."""

    pin: str


class Students(Output, frozen=True):
    items: list[ListedStudent]


class App(Output, frozen=True):
    id: str
    name: str
    origins: list[str]
    created_at_ms: int


class Apps(Output, frozen=True):
    items: list[App]


class AddedApp(Output, frozen=True):
    """`token` is shown only here."""

    app: App
    token: str


class Launch(Output, frozen=True):
    """`code` goes to a page of one of the origins, which exchanges it within a minute."""

    code: str
    origins: list[str]
    expires_at_ms: int


class PageToken(Output, frozen=True):
    """`token` is for the page's memory, and ends with the daemon."""

    token: str
    app: str
    expires_at_ms: int


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
    days_off: list[str] | None


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
    estimated_minutes: int | None
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
    """What to ask now. `question` and the four after it are null when nothing is left to ask; `chance` is that of a right answer. `purpose` goes with the
    answer: `plan` and `review` for an item of today's plan, else `free`."""

    question: Question | None
    concept_id: str | None
    chance: float | None
    reason: str | None
    purpose: str | None
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


class Share(Output, frozen=True):
    """What one part of the student's history adds to the score, and why."""

    part: str
    added: float
    reason: str


class ExplainedMastery(Output, frozen=True):
    """Why a score is what it is now: `start` is what is expected of a student of whom nothing is known; with all shares it adds up to `score`."""

    concept_id: str
    start: float
    shares: list[Share]
    score: float
    at_ms: int


class MasteryPage(Output, frozen=True):
    items: list[Mastery]
    next_cursor: str | None


class PlanItem(Output, frozen=True):
    """`by_answers`: nobody marked it as done, the student's answers have done it."""

    id: str
    concept_id: str
    day: str
    position: int
    kind: str
    minutes: int
    reason: str
    status: str
    moved_to: str | None
    by_answers: bool


class PlanChange(Output, frozen=True):
    """A concept that is studied on another day than in the plan before: `what` is added, dropped, earlier or later."""

    concept_id: str
    kind: str
    what: str
    was: str | None
    now: str | None
    why: str


class IgnoredPrerequisite(Output, frozen=True):
    """A prerequisite that the plan does not keep, as it closes a circle or is not in the course (`why`: circle, unknown)."""

    concept_id: str
    prerequisite_id: str
    why: str


class Plan(Output, frozen=True):
    """`forecast` says where the plan leads if all goes well: shares of the exam's weight, and a sentence. `changes` are the first 60 of the `changes_count`
    since the plan before; `days_off` and `excluded` are those wished for this plan."""

    id: str
    created_at_ms: int
    starts_on: str
    days: int
    planner_version: str
    forecast: dict[str, Any] | None
    days_off: list[str]
    excluded: list[str]
    changes: list[PlanChange]
    changes_count: int
    ignored: list[IgnoredPrerequisite]
    ignored_count: int
    items: list[PlanItem]


class SyncRound(Output, frozen=True):
    """`finished` is false when the round goes on after this answer; `outcome` is then null. `outcome` is `done`, or why it was not."""

    finished: bool
    outcome: str | None
    message: str | None
    pushed: int
    pulled: int
    rejected: int


class Verification(Output, frozen=True):
    """How the comparison with the school went: `result` is match, repaired, mismatch or inconclusive, null while it is still going on. `places` are the
    tables and scopes compared, `differed` those of them that differed at first, `repaired` the rows put right, `kept` those that the school lacks and
    that stay here."""

    finished: bool
    result: str | None
    message: str | None
    places: int
    differed: int
    repaired: int
    kept: int


class SyncOperation(Output, frozen=True):
    """One local change and what became of it. `code` and `message` say why it was rejected. `student_id` is whose row it concerns, null
    when that row has left this device."""

    op_no: int
    id: str
    table: str
    row_id: str
    student_id: str | None
    student_name: str | None
    kind: str
    state: str
    code: str | None
    message: str | None
    written_at_ms: int
    settled_at_ms: int | None


class SyncOperations(Output, frozen=True):
    items: list[SyncOperation]
    next_cursor: str | None


class SyncOperationWhole(SyncOperation, frozen=True):
    """The same with what it holds: `payload` maps fields to values, `base` an update's fields to [what stood there, its clock]."""

    payload: dict[str, Any]
    base: dict[str, Any] | None
    schema: int
    hlc: int


class UnsentOperations(Output, frozen=True):
    items: list[SyncOperationWhole]
    next_cursor: str | None


class RetriedOperations(Output, frozen=True):
    """`retried` operations are queued again, as the operations `op_nos`; `left` are rejected still."""

    retried: int
    op_nos: list[int]
    left: int


class BundleParties(Output, frozen=True):
    """Between whom bundles travel: this device of its school, and the public halves of its server's keys (hex), null where it has none."""

    device_id: str
    school_id: str
    server_verify_key: str | None
    server_seal_key: str | None


class BundleExport(Output, frozen=True):
    """What lies in the state folder to be sealed: operations, how many of them are answers, and how many more did not fit."""

    operations: int
    answers: int
    left: int


class BundleImport(Output, frozen=True):
    """What a bundle came to: operations settled and refused, rows applied, whether there are more at school; whether the log began anew, and
    whether its rows were left out for being older than what is here."""

    settled: int
    rejected: int
    rows: int
    more: bool
    anew: bool
    older: bool


class SyncConflict(Output, frozen=True):
    """A value that lost a merge. `kept_by` and `lost_by` are `school`, `this_device`, `another_device`, or null where nobody had set the
    field; `seen` is what the writer of the later value had before the eyes, where that is known. `restored_at_ms` is when the school took the
    lost value after all."""

    id: str
    student_id: str
    student_name: str | None
    table: str
    row_id: str
    field: str
    kept: Any
    kept_by: str | None
    lost: Any
    lost_by: str | None
    seen: Any
    rule: str
    noted_at_ms: int
    restored_at_ms: int | None


class SyncConflicts(Output, frozen=True):
    items: list[SyncConflict]
    next_cursor: str | None


class Enrolled(Output, frozen=True):
    device_id: str
    school_id: str
    school_name: str
