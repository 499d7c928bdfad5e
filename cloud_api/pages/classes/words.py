"""What the teachers' pages say of levels, answers and plans, in a teacher's words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date

from cloud_api.analytics.days import day_text
from cloud_api.analytics.rows import DataAge
from cloud_api.pages.formulas import plain
from cloud_api.pages.words import ago, count
from domain.learning.analytics.needs_help import RULE_SENTENCES, Rule
from domain.learning.attempts import DAY_MS
from domain.learning.levels import EVIDENCE_ANSWERS_MIN, Level

# Levels, best first, as a class is counted.
LEVELS: Mapping[Level, str] = {
    Level.MASTERED: "mastered",
    Level.PROFICIENT: "proficient",
    Level.FAMILIAR: "familiar",
    Level.ATTEMPTED: "attempted",
    Level.NOT_ENOUGH_EVIDENCE: "too few answers",
    Level.NOT_STARTED: "not started",
}
# What a level's key on the page explains.
MEANINGS: Mapping[Level, str] = {
    Level.MASTERED: "90 of 100 and more, on two days",
    Level.PROFICIENT: "80 of 100 and more",
    Level.FAMILIAR: "60 of 100 and more",
    Level.ATTEMPTED: "below 60 of 100",
    Level.NOT_ENOUGH_EVIDENCE: f"fewer than {EVIDENCE_ANSWERS_MIN} answers, so nothing is said",
    Level.NOT_STARTED: "no answer yet",
}
# The name by which the stylesheet colours a level.
STEPS: Mapping[Level, str] = {
    Level.MASTERED: "4",
    Level.PROFICIENT: "3",
    Level.FAMILIAR: "2",
    Level.ATTEMPTED: "1",
    Level.NOT_ENOUGH_EVIDENCE: "few",
    Level.NOT_STARTED: "none",
}
# Rules in a few words, for a badge.
RULES: Mapping[Rule, str] = {
    Rule.STUCK: "stuck",
    Rule.WRONG: "wrong in a row",
    Rule.FELL: "fell a level",
    Rule.IDLE: "away",
    Rule.FORECAST: "plan falls short",
    Rule.GUESSES: "guessing",
}
RULES_IN_FULL = RULE_SENTENCES
# From so many days without contact on a student's figures may be far from the truth.
OLD_DAYS = 7
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def counts(levels: Iterable[Level]) -> str:
    """How many of each level, best first: `3 mastered, 1 attempted`."""
    counted = Counter(levels)
    return ", ".join(f"{counted[level]} {name}" for level, name in LEVELS.items() if counted[level]) or "nothing"


def is_old(age: DataAge, now_ms: int) -> bool:
    """Whether a student's figures are to be read with care."""
    if age.last_sync_ms is None:
        return not age.uncounted
    return now_ms - age.last_sync_ms >= OLD_DAYS * DAY_MS


def age(found: DataAge, now_ms: int) -> str:
    """How old a student's figures are."""
    uncounted = count(found.uncounted, "answer") + " not counted yet" if found.uncounted else ""
    if found.last_sync_ms is None:
        return uncounted or ("no data yet" if found.last_answer_at_ms is None else "age unknown")
    return f"{ago(found.last_sync_ms, now_ms)}{', ' if uncounted else ''}{uncounted}"


def data_from(found: DataAge, now_ms: int) -> str:
    """The same with what it is the age of."""
    said = age(found, now_ms)
    return f"data from {said}" if found.last_sync_ms is not None else said


def day(number: int) -> str:
    """A day counted from 1970-01-01, as `5 Jan`."""
    return day_name(day_text(number))


def day_name(text: str) -> str:
    """`5 Jan` of YYYY-MM-DD."""
    at = date.fromisoformat(text)
    return f"{at.day} {_MONTHS[at.month - 1]}"


def minutes(ms: int) -> str:
    """A time on task."""
    return "–" if ms <= 0 else f"{max(1, round(ms / 60_000))} min"


def percent(share: float | None) -> str:
    """A share (0 to 1) as `62 %`; a dash where none is told."""
    return "–" if share is None else f"{share * 100:.0f} %"


def stem(text: str) -> str:
    """A question's text for reading over."""
    return plain(text) or "Question without text"
