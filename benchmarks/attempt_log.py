"""Public logs of attempts, read from CSV: what the mastery model is measured on.

Columns: `student, question, skills` (joined by `;`), `order` (1, 2, 3 … of the student's attempts), `correct` (1 or 0), `timestamp` (seconds, may be
empty); others are not looked at. Plain or gzipped. Lines that cannot be read are left out, as logs of other systems hold a few.
"""

from __future__ import annotations

import csv
import gzip
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.line_protocol import number, whole
from domain.learning.attempts import FoldedAttempt

Log = dict[str, list[FoldedAttempt]]
# Times beyond this are no times.
_SECONDS_MAX = 10**11
_GZIP = b"\x1f\x8b"
_CELL_MAX = 1_000_000


def read_log(path: Path) -> Log:
    """Student to attempts, in their order. Raises OSError for a file that cannot be read."""
    csv.field_size_limit(_CELL_MAX)
    with path.open("rb") as probe:
        zipped = probe.read(2) == _GZIP
    with (gzip.open if zipped else open)(path, "rt", encoding="utf-8", errors="replace", newline="") as file:
        return log_of(csv.DictReader(line.replace("\0", "") for line in file))


def log_of(lines: Iterable[dict[str, Any]]) -> Log:
    """Student to attempts, in their order, from lines with the columns above."""
    ordered: dict[str, list[tuple[int, FoldedAttempt]]] = defaultdict(list)
    for place, line in enumerate(lines):
        student, question, correct = line.get("student"), line.get("question"), answer(line.get("correct"))
        if student and question and correct is not None:
            order = whole(line.get("order"), place)
            attempt = FoldedAttempt(f"{place:012}", time_ms(line.get("timestamp")), "", question, skills(line.get("skills")), correct)
            ordered[student].append((order, attempt))
    return {student: [a for _, a in sorted(attempts, key=lambda pair: pair[0])] for student, attempts in ordered.items()}


def skills(value: Any) -> tuple[str, ...]:
    """Skills from a list, or from a text that joins them by `;`."""
    if isinstance(value, str):
        value = value.split(";")
    if not isinstance(value, list | tuple):
        return () if value is None else (str(value),)
    return tuple(text for skill in value if skill is not None and (text := str(skill).strip()))


def time_ms(value: Any) -> int | None:
    """Seconds as milliseconds; None for what is no time."""
    seconds = number(value)
    return None if seconds is None or abs(seconds) > _SECONDS_MAX else round(seconds * 1000)


def answer(value: Any) -> bool | None:
    """Whether an answer was right; None when that is not said. Part of a point counts as right from a half on."""
    point = number(value)
    return None if point is None else point >= 0.5
