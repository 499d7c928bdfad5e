"""Public logs of attempts, read from CSV: what the mastery model is measured on.

Columns: `student, question, skills` (joined by `;`), `order` (1, 2, 3 … of the student's attempts), `correct` (1 or 0), `timestamp` (seconds, may be
empty); others are not looked at. Plain or gzipped. Lines that cannot be read are left out, as logs of other systems hold a few.
"""

from __future__ import annotations

import csv
import gzip
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import click

from benchmarks.line_protocol import number, whole
from benchmarks.told_places import ToldPlaces
from domain.learning.attempts import FoldedAttempt

Log = dict[str, list[FoldedAttempt]]
# Seconds beyond this (the year 5138) are milliseconds (from 1973), and milliseconds beyond a thousand times this are microseconds.
_SECONDS_MAX = 10**11
_WORDS = {"true": True, "false": False}
_GZIP = b"\x1f\x8b"
_CELL_MAX = 1_000_000


def read_log(path: Path) -> Log:
    """Student to attempts, in their order; of a file that breaks off, what comes before. Raises OSError for one that cannot be opened."""
    csv.field_size_limit(_CELL_MAX)
    with path.open("rb") as probe:
        zipped = probe.read(2) == _GZIP
    with (gzip.open if zipped else open)(path, "rt", encoding="utf-8-sig", errors="replace", newline="") as file:
        return log_of(csv.DictReader(_whole_lines(file)))


def _whole_lines(file: Iterable[str]) -> Iterator[str]:
    try:
        for line in file:
            yield line.replace("\0", "")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        click.echo(f"read no further: {error}", err=True)


def log_of(lines: Iterable[dict[str, Any]]) -> Log:
    """Student to attempts, in their order, from lines with the columns above."""
    ordered: dict[str, list[tuple[int, FoldedAttempt]]] = defaultdict(list)
    for place, line in enumerate(lines):
        student, question, correct = line.get("student"), line.get("question"), answer(line.get("correct"))
        if student and question and correct is not None:
            order = whole(line.get("order"), place)
            attempt = FoldedAttempt("", time_ms(line.get("timestamp")), "", question, skills(line.get("skills")), correct)
            ordered[student].append((order, attempt))
    return {student: _in_told_order(student, attempts) for student, attempts in ordered.items()}


def _in_told_order(student: str, attempts: list[tuple[int, FoldedAttempt]]) -> list[FoldedAttempt]:
    """Numbered as the log has them, with times that a fold in canonical order does not put otherwise."""
    places = ToldPlaces()
    return [
        attempt._replace(attempt_id=f"{student} {number:09}", answered_at_ms=places.take(None, attempt.answered_at_ms).at_ms)
        for number, (_, attempt) in enumerate(sorted(attempts, key=itemgetter(0)))
    ]


def skills(value: Any) -> tuple[str, ...]:
    """Skills from a list, or from a text that joins them by `;`."""
    if isinstance(value, str):
        value = value.split(";")
    if not isinstance(value, list | tuple):
        return () if value is None else (str(value),)
    return tuple(text for skill in value if skill is not None and (text := str(skill).strip()))


def time_ms(value: Any) -> int | None:
    """Seconds, or the milliseconds or microseconds that some logs write, as milliseconds; None for what is no time."""
    time = number(value)
    if time is None:
        return None
    unit_ms = 1000 if abs(time) <= _SECONDS_MAX else 1 if abs(time) <= 1000 * _SECONDS_MAX else 0.001
    return round(time * unit_ms)


def answer(value: Any) -> bool | None:
    """Whether an answer was right; None when that is not said. Part of a point counts as right from a half on."""
    if isinstance(value, str) and value.strip().lower() in _WORDS:
        return _WORDS[value.strip().lower()]
    point = number(value)
    return None if point is None else point >= 0.5
