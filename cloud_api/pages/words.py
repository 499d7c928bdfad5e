"""What all pages of the server say alike: times, spans and numbers in words."""

from __future__ import annotations

import datetime
import re

from domain.counted import counted

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000
_NUMBERS = re.compile(r"(\d+)")


def ago(at_ms: int | None, now_ms: int) -> str:
    """A moment (UTC ms) as people say it; `never` for None."""
    if at_ms is None:
        return "never"
    return "just now" if now_ms - at_ms < MINUTE_MS else f"{span(now_ms - at_ms)} ago"


def span(ms: int) -> str:
    """A time span to its largest unit: `5 minutes`, `1 day`."""
    for unit_ms, name in ((DAY_MS, "day"), (HOUR_MS, "hour"), (MINUTE_MS, "minute")):
        if (some := ms // unit_ms) >= 1:
            return count(some, name)
    return "less than a minute"


def moment(at_ms: int) -> str:
    """UTC ms as a date and time."""
    at = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    return f"{at.day} {_MONTHS[at.month - 1]} {at.year}, {at:%H:%M} UTC"


def number(some: int) -> str:
    """`12,345`."""
    return f"{some:,}"


def count(some: int, noun: str) -> str:
    """`1 student`, `12,345 students`."""
    return counted(some, noun)


def as_people_count(name: str) -> list[tuple[int, str]]:
    """What to sort by so that class 9b comes before 10a."""
    return [(int(part), "") if part.isdecimal() else (-1, part.lower()) for part in _NUMBERS.split(name) if part]


# The names are the pages' own: they speak one language on every machine.
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
