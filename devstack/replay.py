"""A review log as requests to the localhost API. Pure: the same log and the same ids give the same requests.

The log has no questions of this course, so each of its cards is lent one. What is real is when a learner sat down, for how long, in which order
cards came back, and whether the answer was remembered.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import cycle, islice
from typing import Any

# Ratings of the log: 1 is "forgotten", 2 "hard"; from 3 on the answer was remembered (seeds/README.md).
REMEMBERED_MIN = 3
# Attempts of one request, over and over: an app that reports each answer, and apps that report a session of up to 50 at once.
REQUEST_SIZES = (1, 1, 1, 2, 5, 1, 10, 1, 20, 50)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Review:
    """One line of the log. Times are UTC ms, the duration is ms."""

    card: str
    rating: int
    reviewed_at_ms: int
    duration_ms: int


@dataclass(frozen=True, slots=True)
class Request:
    """One POST /v1/attempts of the student with that place in the class; `attempts` are its bodies, oldest first."""

    student: int
    attempts: tuple[dict[str, Any], ...]


def read_reviews(lines: Iterable[str]) -> list[Review]:
    """The reviews of a log: CSV with the columns card, rating, reviewed_at (ISO 8601 with a zone), duration_ms."""
    return [
        Review(row["card"], int(row["rating"]), _utc_ms(row["reviewed_at"]), int(row["duration_ms"]))
        for row in csv.DictReader(lines)
    ]  # fmt: skip


def requests_of(reviews: Sequence[Review], question_ids: Sequence[str], students: int, new_id: Callable[[], str]) -> list[Request]:
    """The reviews as requests, in the order of time of their first attempts.

    The n-th card to appear in the log is dealt to student n mod `students` and lent question n mod the number of questions, so that
    each student goes through the course in its order, and meets the same question when the card comes back.
    """
    cards: dict[str, int] = {}
    decks: list[list[dict[str, Any]]] = [[] for _ in range(students)]
    for review in reviews:
        place = cards.setdefault(review.card, len(cards))
        decks[place % students].append(_attempt(review, question_ids[place % len(question_ids)], new_id()))
    requests = [Request(student, chunk) for student, deck in enumerate(decks) for chunk in _chunks(deck)]
    return sorted(requests, key=lambda request: (request.attempts[0]["answered_at_ms"], request.student))


def _attempt(review: Review, question_id: str, attempt_id: str) -> dict[str, Any]:
    return {
        "id": attempt_id,
        "question_id": question_id,
        "correct": review.rating >= REMEMBERED_MIN,
        "answered_at_ms": review.reviewed_at_ms,
        "active_ms": review.duration_ms,
        "purpose": "review",
    }


def _chunks(deck: Sequence[dict[str, Any]]) -> Iterable[tuple[dict[str, Any], ...]]:
    attempts = iter(deck)
    for size in cycle(REQUEST_SIZES):
        chunk = tuple(islice(attempts, size))
        if not chunk:
            return
        yield chunk


def _utc_ms(text: str) -> int:
    """Exact, which a float of seconds is not."""
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(milliseconds=1)
