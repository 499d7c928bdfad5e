"""Requests and answers about studying: the next question, attempts, mastery, the plan."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from daemon.api.endpoints import Input
from daemon.api.limits import Day, RowId, limited, one_of
from daemon.api.schemas.content import Question
from daemon.api.schemas.paging import Output, OwnQuery
from daemon.api.schemas.people import DAYS_OFF_MAX
from daemon.learning.plan_inputs import HORIZON_DAYS_DEFAULT
from domain.learning.explanation import Part
from domain.learning.levels import Level
from domain.learning.plan_changes import What
from domain.learning.planner import HORIZON_DAYS_MAX

# Attempts of one request.
ATTEMPTS_MAX = 500
EXCLUDED_MAX = 1_000


class NextQuestionQuery(OwnQuery, frozen=True):
    topic_id: Annotated[RowId | None, Meta(description="Ask about this topic and those below it, whatever the plan says.")] = None


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
    purpose: Annotated[str, limited("question_attempts", "purpose")] | None
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
    purpose: Annotated[str, limited("question_attempts", "purpose")]
    device_id: str
    corrected_at_ms: int | None


class Attempts(Output, frozen=True):
    items: list[Attempt]
    next_cursor: str | None


class Mastery(Output, frozen=True):
    """`score` is the chance of a right answer to a question of middle difficulty at `computed_at_ms`; `evidence` counts answers, older ones for less.
    From `attempted` on, each `level` is higher than the one before it."""

    concept_id: str
    score: float
    level: Annotated[str, one_of(*Level)]
    evidence: float
    attempts: int
    correct_attempts: int
    last_attempt_at_ms: int
    model_version: str
    computed_at_ms: int


class Share(Output, frozen=True):
    """What one part of the student's history adds to the score, and why."""

    part: Annotated[str, one_of(*Part)]
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
    kind: Annotated[str, limited("study_plan_items", "kind")]
    minutes: int
    reason: str
    status: Annotated[str, limited("study_plan_items", "status")]
    moved_to: str | None
    by_answers: bool


class PlanChange(Output, frozen=True):
    """A concept that is studied on another day than in the plan before."""

    concept_id: str
    kind: Annotated[str, limited("study_plan_items", "kind")]
    what: Annotated[str, one_of(*What)]
    was: str | None
    now: str | None
    why: str


class IgnoredPrerequisite(Output, frozen=True):
    """A prerequisite that the plan does not keep, as it closes a circle or is not in the course (`why`: circle, unknown)."""

    concept_id: str
    prerequisite_id: str
    why: str


class Plan(Output, frozen=True):
    """`forecast` says where the plan leads if all goes well: `minutes_planned`; `learnt_share` and `recall_share`, how much of the exam's weight is learnt
    by then and recalled on the day; `left_out`, the weightiest of the `left_out_count` concepts without a place; and `summary`, a sentence. `changes` are the first 60 of the `changes_count`
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
