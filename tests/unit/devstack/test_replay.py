"""A review log as requests: who answers what, when, and in which portions."""

from __future__ import annotations

import gzip
from collections import Counter
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import pytest

from daemon.api.schemas.study import ATTEMPTS_MAX
from devstack.replay import REQUEST_SIZES, Request, Review, read_reviews, requests_of
from domain.registry import TABLES
from domain.validation import problem_in

LOG = Path(__file__).parents[3] / "seeds" / "reviews.csv.gz"
QUESTIONS = [f"question {n}" for n in range(5)]


def reviews(*cards: str, rating: int = 3) -> list[Review]:
    """Reviews of these cards, a second apart."""
    return [Review(card, rating, 1_711_744_352_000 + 1000 * n, 7_000 + n) for n, card in enumerate(cards)]


def replay(log: list[Review], students: int = 1) -> list[Request]:
    numbers = count()
    return requests_of(log, QUESTIONS, students, lambda: f"id {next(numbers)}")


def attempts(requests: list[Request]) -> list[dict[str, Any]]:
    return [attempt for request in requests for attempt in request.attempts]


@pytest.fixture(scope="module")
def whole_log() -> list[Review]:
    with gzip.open(LOG, "rt", encoding="utf-8", newline="") as lines:
        return read_reviews(lines)


def test_a_line_of_the_log_is_read_to_the_millisecond() -> None:
    lines = ["card,rating,reviewed_at,duration_ms", "card7,1,2024-03-29T20:32:32.257000+00:00,25060"]
    assert read_reviews(lines) == [Review("card7", 1, 1711744352257, 25060)]


def test_time_and_duration_of_a_review_are_those_of_the_attempt() -> None:
    [attempt] = attempts(replay(reviews("a")))
    assert attempt == {
        "id": "id 0",
        "question_id": "question 0",
        "correct": True,
        "answered_at_ms": 1_711_744_352_000,
        "active_ms": 7_000,
        "purpose": "review",
    }


@pytest.mark.parametrize(("rating", "correct"), [(1, False), (2, False), (3, True), (4, True)])
def test_what_was_remembered_is_correct(rating: int, correct: bool) -> None:
    assert attempts(replay(reviews("a", rating=rating)))[0]["correct"] is correct


def test_a_card_that_comes_back_meets_the_same_question() -> None:
    assert [a["question_id"] for a in attempts(replay(reviews("a", "b", "a", "c", "b")))] == [
        "question 0", "question 1", "question 0", "question 2", "question 1",
    ]  # fmt: skip


def test_the_course_begins_anew_when_there_are_more_cards_than_questions() -> None:
    assert [a["question_id"] for a in attempts(replay(reviews(*"abcdefg")))][-3:] == ["question 4", "question 0", "question 1"]


def test_a_card_belongs_to_one_student() -> None:
    log = reviews(*"abcabcabbc")
    cards = {review.reviewed_at_ms: review.card for review in log}
    owners = {(cards[a["answered_at_ms"]], r.student) for r in replay(log, students=3) for a in r.attempts}
    assert sorted(owners) == [("a", 0), ("b", 1), ("c", 2)]


def test_the_whole_log_is_sent_once_and_in_order_of_time(whole_log: list[Review]) -> None:
    requests = replay(whole_log, students=3)
    sent = attempts(requests)
    assert len(sent) == len(whole_log) == 6_280
    assert len({a["id"] for a in sent}) == len(sent)
    assert Counter((a["answered_at_ms"], a["active_ms"]) for a in sent) == Counter((r.reviewed_at_ms, r.duration_ms) for r in whole_log)
    starts = [request.attempts[0]["answered_at_ms"] for request in requests]
    assert starts == sorted(starts)
    for student in range(3):
        own = [a["answered_at_ms"] for r in requests if r.student == student for a in r.attempts]
        assert all(earlier <= later for earlier, later in pairwise(own))


def test_requests_are_of_mixed_sizes_that_the_api_takes(whole_log: list[Review]) -> None:
    sizes = Counter(len(request.attempts) for request in replay(whole_log, students=3))
    assert set(REQUEST_SIZES) <= set(sizes)
    assert max(sizes) == 50 <= ATTEMPTS_MAX


def test_every_attempt_of_the_whole_log_keeps_the_limits_of_the_registry(whole_log: list[Review]) -> None:
    table = TABLES["question_attempts"]
    checked = ("correct", "answered_at_ms", "active_ms", "purpose")
    wrong = {problem_in(table.column(name), a[name]) for a in attempts(replay(whole_log)) for name in checked}
    assert wrong == {None}


def test_the_same_log_gives_the_same_requests(whole_log: list[Review]) -> None:
    assert replay(whole_log, students=2) == replay(whole_log, students=2)
