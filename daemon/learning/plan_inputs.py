"""What a plan is made from besides the answers: the student's profile, the school's rules, and what was asked for."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import msgspec

from daemon.learning.situation import Situation
from domain.ids import Id
from domain.learning.pace import pace
from domain.learning.plan import FORECAST_DAYS_MAX
from domain.learning.planner import Pin, PlanRequest, Study, StudyState

# A student who has not said otherwise has this much time a day.
MINUTES_A_DAY_DEFAULT = 30
HORIZON_DAYS_DEFAULT = 7
# The latest answers that tell how long this student takes, and what of a single one counts.
PACED_ANSWERS_MAX = 500
ANSWER_MS_MAX = 5 * 60 * 1000
_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What a student asks a plan to be: so many days from today, without these days and concepts."""

    horizon_days: int = HORIZON_DAYS_DEFAULT
    days_off: frozenset[date] = frozenset()
    excluded: frozenset[str] = frozenset()


class PinRule(NamedTuple):
    """A teacher's pin, and when it was set (UTC ms)."""

    pin: Pin
    set_at_ms: int


@dataclass(frozen=True, slots=True)
class Inputs:
    """As stored: profile and rules. `days_off` are the student's and the school's together; `pace` as in domain/learning/pace.py."""

    exam_on: date | None = None
    minutes_by_weekday: tuple[int, ...] = (MINUTES_A_DAY_DEFAULT,) * 7
    days_off: frozenset[date] = frozenset()
    excluded: frozenset[str] = frozenset()
    pinned: tuple[PinRule, ...] = ()
    pace: float = 1.0

    def request(self, wish: Wish, now: Situation, study: Study) -> PlanRequest:
        """What to plan: to the exam where it is known, so that the forecast is one of the exam, else for the days wished."""
        days, states = (self.exam_on - now.today).days if self.exam_on else 0, study.states
        return PlanRequest(
            today=now.today,
            exam_on=self.exam_on,
            minutes_by_weekday=self.minutes_by_weekday,
            horizon_days=max(wish.horizon_days, min(days, FORECAST_DAYS_MAX)),
            days_off=self.days_off | wish.days_off,
            excluded=self.excluded | wish.excluded,
            utc_offset_ms=now.utc_offset_ms,
            pinned=tuple(rule.pin for rule in self.pinned if not _is_done(rule, states.get(rule.pin.concept_id), now)),
            memory=study.memory,
        )


def inputs_of(conn: sqlite3.Connection, student_id: Id) -> Inputs:
    """Inside the caller's read."""
    row = conn.execute("SELECT exam_on, available_minutes, days_off FROM student_profiles WHERE id = ?", (student_id,)).fetchone()
    exam_on, minutes, days_off = row or (None, None, None)
    rules = conn.execute(
        # Whoever is in two classes may have the same rule from both.
        "SELECT kind, concept_id, day, max(created_at_ms) FROM plan_rules WHERE student_id = ? GROUP BY 1, 2, 3 ORDER BY 4, min(id)",
        (student_id,),
    ).fetchall()
    days = [*(msgspec.json.decode(days_off) if days_off else ()), *(day for kind, _, day, _ in rules if kind == "day_off" and day)]
    return Inputs(
        exam_on=date.fromisoformat(exam_on) if exam_on else None,
        minutes_by_weekday=tuple(msgspec.json.decode(minutes)) if minutes else (MINUTES_A_DAY_DEFAULT,) * 7,
        days_off=frozenset(map(date.fromisoformat, days)),
        excluded=frozenset(concept for kind, concept, _, _ in rules if kind == "exclude" and concept),
        pinned=tuple(PinRule(Pin(c, _day(day)), set_at_ms) for kind, c, day, set_at_ms in rules if kind == "pin" and c),
        pace=_pace(conn, student_id),
    )


def _is_done(rule: PinRule, state: StudyState | None, now: Situation) -> bool:
    """Whether a pin has had its effect: the concept was answered about on its day or later; without a day, it was learnt and answered about since."""
    if state is None or state.last_answered_at_ms is None:
        return False
    if rule.pin.on is not None:
        return state.last_answered_at_ms >= now.starts_at_ms(rule.pin.on)
    return state.learnt and state.last_answered_at_ms >= rule.set_at_ms


def _day(text: str | None) -> date | None:
    return date.fromisoformat(text) if text else None


def _pace(conn: sqlite3.Connection, student_id: Id) -> float:
    """How many times as long as usual the student takes, by the times that the latest answers really took."""
    count, spent_ms = conn.execute(
        "SELECT count(*), total(min(active_ms, ?)) FROM (SELECT active_ms FROM question_attempts WHERE student_id = ? AND active_ms IS NOT NULL"
        " ORDER BY answered_at_ms DESC LIMIT ?)",
        (ANSWER_MS_MAX, student_id, PACED_ANSWERS_MAX),
    ).fetchone()
    return pace(spent_ms / _MINUTE_MS, count)
