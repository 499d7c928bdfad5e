"""The next question of a student: domain/questions.py over what is stored."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from daemon.attempts import folded_attempts
from daemon.course import concept_nodes, question_refs
from daemon.database import DeviceDatabase
from daemon.mastery import RATES
from daemon.plans import Situation, Wish, plan_request
from domain.ids import Id
from domain.mastery import fold_ordered
from domain.planner import Kind, PlanItem, best_steps, study_states
from domain.questions import ConceptLeft, Desk, NextQuestion, next_question


@dataclass(frozen=True, slots=True)
class Choice:
    """What to ask, None when nothing is left today; the plan item it is asked for, if any; the concepts that were left on the way to it."""

    question: NextQuestion | None
    plan_item_id: Id | None
    left: tuple[ConceptLeft, ...]


@dataclass(frozen=True, slots=True)
class _Due:
    """A planned item of today."""

    id: Id
    item: PlanItem


def choose(database: DeviceDatabase, student_id: Id, now: Situation) -> Choice:
    """The question for the first of today's planned items that has one; without such an item, for what would be best now."""
    with database.read() as conn:
        due = _due_today(conn, student_id, now.today)
        desk = _desk(conn, student_id, now)
    left: list[ConceptLeft] = []
    for planned in due:
        choice = next_question(desk, planned.item)
        if isinstance(choice, NextQuestion):
            return Choice(choice, planned.id, tuple(left))
        if choice is not None:
            left.append(choice)
    choice = next_question(desk, None)
    return Choice(choice if isinstance(choice, NextQuestion) else None, None, tuple(left))


def _desk(conn: sqlite3.Connection, student_id: Id, now: Situation) -> Desk:
    attempts = list(folded_attempts(conn, student_id))
    nodes, study = concept_nodes(conn), study_states(attempts)
    return Desk(
        now_ms=now.now_ms,
        day_starts_at_ms=now.day_starts_at_ms,
        candidates=question_refs(conn),
        concepts={node.id: node for node in nodes},
        state=fold_ordered(attempts, RATES),
        study=study,
        today=[a for a in attempts if a.answered_at_ms is not None and a.answered_at_ms >= now.day_starts_at_ms],
        steps=best_steps(nodes, study, plan_request(conn, student_id, Wish(), now)),
    )


def _due_today(conn: sqlite3.Connection, student_id: Id, today: date) -> Sequence[_Due]:
    """Today's items of the plan that counts, in order, those moved to today included, without what is done or skipped."""
    rows = conn.execute(
        "SELECT id, concept_id, kind, minutes, reason FROM study_plan_items WHERE plan_id ="
        " (SELECT id FROM study_plans WHERE student_id = ? ORDER BY created_at_ms DESC, id DESC LIMIT 1)"
        " AND (status = 'planned' AND day = ? OR status = 'moved' AND moved_to = ?) ORDER BY day, position",
        (student_id, today.isoformat(), today.isoformat()),
    )
    return [_Due(Id(id_), PlanItem(today, concept, Kind(kind), minutes, reason)) for id_, concept, kind, minutes, reason in rows]
