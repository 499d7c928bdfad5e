"""The next question of a student: domain/learning/questions.py over what is stored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile

from daemon.learning.course import Course
from daemon.learning.engine import Engine
from daemon.learning.plan_inputs import Wish, inputs_of
from daemon.learning.plan_making import standing
from daemon.learning.plans import StandingPlan
from daemon.learning.situation import Situation
from domain.errors import NotFound
from domain.ids import Id
from domain.learning.attempts import FoldedAttempt
from domain.learning.planner import LEARN_MINUTES, REVIEW_MINUTES, Kind, PlanItem, Study, StudyState, best_steps
from domain.learning.questions import ConceptLeft, Desk, NextQuestion, next_question


class Purpose(StrEnum):
    """What a question is asked for; an app sends it back with the answer (domain/registry.py, PURPOSES)."""

    PLAN = "plan"
    REVIEW = "review"
    FREE = "free"


@dataclass(frozen=True, slots=True)
class Choice:
    """What to ask, None when nothing is left today; what for; the plan item it is asked for, if any; the concepts that were left on the way to it."""

    question: NextQuestion | None
    purpose: Purpose
    plan_item_id: Id | None
    left: tuple[ConceptLeft, ...]


def choose(engine: Engine, student_id: Id, now: Situation, topic_id: Id | None = None) -> Choice:
    """The question for the first of today's planned items that has one; without such an item, for what would be best now.

    With `topic_id`, for what would be best now of that topic and the topics below it. Raises NotFound for a topic that is not in the course.
    """
    plan = standing(engine, student_id, now, on=now.today) if topic_id is None else None
    with engine.histories.lock:
        student = engine.histories.up_to_date(student_id, now.now_ms)
        study = student.study.study()
        with engine.database.read() as conn:
            course, inputs = engine.courses.current(conn), inputs_of(conn, student_id)
        desk = Desk(
            now_ms=now.now_ms,
            day_starts_at_ms=now.day_starts_at_ms,
            candidates=course.questions,
            concepts=course.concepts,
            state=student.state,
            study=study.states,
            today=_since(student.recent, now.day_starts_at_ms),
        )
        planned, left = _planned(desk, plan)
        if planned is not None:
            return planned
        steps = best_steps(course.nodes, study.states, inputs.request(Wish(), now, study))
        if topic_id is not None:
            steps = _of_topic(steps, _concepts_of(course, topic_id), study, now)
        free, left_free = _first(desk, steps)
    return Choice(free, Purpose.FREE, None, left_free if topic_id is not None else left)


def _planned(desk: Desk, plan: StandingPlan | None) -> tuple[Choice | None, tuple[ConceptLeft, ...]]:
    """The question for the first of today's items that has one, and the concepts left on the way to it."""
    rows = plan.open_on(plan.now.today) if plan else []
    left: tuple[ConceptLeft, ...] = ()
    for row in rows:
        question, also_left = _first(desk, [plan.as_planned(row)] if plan else [])
        if question is not None:
            return Choice(question, Purpose.REVIEW if row.kind == Kind.REVIEW else Purpose.PLAN, Id(row.id), left), left
        left += also_left
    return None, left


def _first(desk: Desk, steps: Iterable[PlanItem]) -> tuple[NextQuestion | None, tuple[ConceptLeft, ...]]:
    """The question for the first step that has one, and the concepts left on the way to it."""
    left: list[ConceptLeft] = []
    for step in steps:
        choice = next_question(desk, step)
        if isinstance(choice, NextQuestion):
            return choice, tuple(left)
        if choice is not None:
            left.append(choice)
    return None, tuple(left)


def _concepts_of(course: Course, topic_id: Id) -> set[str]:
    if topic_id not in course.syllabus.parent_of:
        raise NotFound("There is no such topic in the course.")
    return course.concepts_under(topic_id)


def _of_topic(steps: Sequence[PlanItem], concepts: set[str], study: Study, now: Situation) -> list[PlanItem]:
    """The best steps of a topic first, then what else it holds: somebody who chose a topic is not sent away because something else should come before."""
    best = [step for step in steps if step.concept_id in concepts]
    others = sorted(concepts - {step.concept_id for step in best})
    return best + [_chosen(concept, study.states.get(concept), now) for concept in others]


def _chosen(concept: str, state: StudyState | None, now: Situation) -> PlanItem:
    if state is not None and state.learnt:
        return PlanItem(now.today, concept, Kind.REVIEW, REVIEW_MINUTES, "chosen: learnt already")
    return PlanItem(now.today, concept, Kind.NEW, LEARN_MINUTES, "chosen: what it rests on is not learnt yet")


def _since(attempts: Sequence[FoldedAttempt], since_ms: int) -> list[FoldedAttempt]:
    """The latest attempts, in order; read from the end, since there are thousands before them."""
    latest = list(takewhile(lambda a: a.answered_at_ms is not None and a.answered_at_ms >= since_ms, reversed(attempts)))
    return latest[::-1]
