"""The forms by which plan rules are made: what was typed, and the rules that it means."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from cloud_api.pages.classes.rules import is_over
from cloud_api.plan_rules import DAY_OFF, EXCLUDE, PIN, NewRule
from domain.errors import InvalidInput, Problem
from domain.learning.attempts import DAY_MS
from domain.registry import PLAN_RULES

# Days off that one form makes, a day a rule; how far ahead a day may lie: beyond that it is a slip of the pen.
DAYS_OFF_MAX = 60
AHEAD_DAYS_MAX = 730
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


@dataclass(frozen=True, slots=True)
class WantedRule:
    """What a form says, as it was typed, so that it is still there when something is wrong with it. `student`: empty for the whole class.

    `last_day` is the end of several days off, empty for a single one.
    """

    kind: str = PIN
    concept: str = ""
    day: str = ""
    last_day: str = ""
    student: str = ""


def read_form(form: Mapping[str, str]) -> WantedRule:
    """From a form. Kinds that no form has are read as empty."""
    kind = form.get("kind", "")
    values = (form.get(name, "").strip() for name in ("concept", "day", "last_day", "student"))
    return WantedRule(kind if kind in PLAN_RULES else "", *values)


def read_last_day(form: Mapping[str, str]) -> str:
    """The last of the days off that are to be taken away; empty for a single one."""
    text = form.get("last_day", "")
    return text if _DAY.fullmatch(text) else ""


def rules_wanted(wanted: WantedRule, concepts: Collection[str], students: Collection[str], now_ms: int) -> list[NewRule]:
    """The rules that a form means, for one of `students` or for all. Raises InvalidInput with everything that is wrong with it."""
    problems: list[Problem] = []
    if not students:
        problems.append(Problem("$.student", "invalid_value", "There are no students in this class yet."))
    elif wanted.student and wanted.student not in students:
        problems.append(Problem("$.student", "invalid_value", "The student who was chosen is not in the class any more."))
    found = _days_off(wanted, now_ms, problems) if wanted.kind == DAY_OFF else _about_concept(wanted, concepts, now_ms, problems)
    if problems:
        raise InvalidInput(problems)
    return found


def _about_concept(wanted: WantedRule, concepts: Collection[str], now_ms: int, problems: list[Problem]) -> list[NewRule]:
    if wanted.kind not in (PIN, EXCLUDE):
        problems.append(Problem("$.kind", "invalid_value", "Choose whether the concept is to be studied or left out."))
    if not wanted.concept:
        problems.append(Problem("$.concept", "invalid_value", "Choose a concept."))
    elif wanted.concept not in concepts:
        problems.append(Problem("$.concept", "invalid_value", "The concept that was chosen is not in the course any more."))
    if wanted.kind == EXCLUDE and wanted.day:
        problems.append(Problem("$.day", "invalid_value", "A concept is left out on every day: leave the day empty."))
    day = _day("day", wanted.day, now_ms, problems) if wanted.day else None
    return [NewRule(wanted.kind, wanted.concept, day)]


def _days_off(wanted: WantedRule, now_ms: int, problems: list[Problem]) -> list[NewRule]:
    first = _day("day", wanted.day, now_ms, problems)
    last = _day("last_day", wanted.last_day, now_ms, problems) if wanted.last_day else first
    if first is None or last is None:
        return []
    count = (last - first).days + 1
    if not 1 <= count <= DAYS_OFF_MAX:
        wrong = "The last day comes before the first." if count < 1 else f"At most {DAYS_OFF_MAX} days at a time."
        problems.append(Problem("$.last_day", "invalid_value", wrong))
        return []
    return [NewRule(DAY_OFF, None, first + timedelta(days=n)) for n in range(count)]


def _day(name: str, text: str, now_ms: int, problems: list[Problem]) -> date | None:
    """A day that is not over; None, with what is wrong with it noted, otherwise."""
    try:
        day = date.fromisoformat(text) if _DAY.fullmatch(text) else None
    except ValueError:
        day = None
    if day is None:
        problems.append(Problem(f"$.{name}", "invalid_value", "A day is given as year-month-day, like 2026-03-09."))
    elif is_over(day, now_ms):
        problems.append(Problem(f"$.{name}", "invalid_value", f"{text} is over."))
    elif day > date(1970, 1, 1) + timedelta(days=now_ms // DAY_MS + AHEAD_DAYS_MAX):
        problems.append(Problem(f"$.{name}", "invalid_value", f"{text} is more than {AHEAD_DAYS_MAX} days ahead."))
    else:
        return day
    return None
