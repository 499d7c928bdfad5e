"""Real study records (seeds/reviews.csv.gz) as attempts at the course's questions.

The log says which flashcard was seen when, for how long, and whether it was remembered. A card becomes a question of the course, always the same;
what was remembered is answered rightly, what was forgotten with a wrong choice or another question's answer.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from daemon.records import NewAttempt
from domain.ids import Id

REVIEWS = Path(__file__).parents[1] / "seeds" / "reviews.csv.gz"
# The rating for "forgotten" (seeds/README.md).
FORGOTTEN = "1"
# Students of a class answer the same question this far apart.
STEP_MS = 997


class Question(NamedTuple):
    """A question of the course with a right and a wrong answer to it."""

    id: Id
    right: str
    wrong: str


@dataclass(frozen=True, slots=True)
class Review:
    """One line of the log; `card` numbers the flashcards in order of appearance."""

    card: int
    remembered: bool
    at_ms: int
    duration_ms: int


class Answered(NamedTuple):
    """An attempt, by the number of its student, at the time (UTC ms) when the device records it."""

    student: int
    at_ms: int
    attempt: NewAttempt


def read_reviews(path: Path = REVIEWS) -> list[Review]:
    """The log, oldest first."""
    cards: dict[str, int] = {}
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        return [
            Review(
                cards.setdefault(line["card"], len(cards)),
                line["rating"] != FORGOTTEN,
                round(datetime.fromisoformat(line["reviewed_at"]).timestamp() * 1000),
                int(line["duration_ms"]),
            )
            for line in csv.DictReader(file)
        ]


def answered(count: int, questions: Sequence[Question], students: int) -> Iterator[Answered]:
    """`count` attempts in order of time. Beyond the length of the log several students answer each question, shortly after one another."""
    reviews = read_reviews()
    at_ms = 0
    for number in range(count):
        review = reviews[number if count <= len(reviews) else number * len(reviews) // count]
        at_ms = max(review.at_ms, at_ms + STEP_MS)
        yield Answered(number % students, at_ms, _attempt(review, at_ms, questions[review.card % len(questions)]))


def _attempt(review: Review, at_ms: int, question: Question) -> NewAttempt:
    return NewAttempt(
        question_id=question.id,
        correct=review.remembered,
        purpose="review",
        answer=question.right if review.remembered else question.wrong,
        answered_at_ms=at_ms,
        active_ms=review.duration_ms,
    )
