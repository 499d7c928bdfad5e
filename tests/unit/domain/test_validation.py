"""One value and a whole column are judged by the same limits."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.registry import TABLES, Column, Kind
from domain.validation import bad_places, problem_in

ATTEMPTS = TABLES["question_attempts"]
MINUTES = TABLES["student_profiles"].column("available_minutes")
FORECAST = TABLES["study_plans"].column("forecast")


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        (ATTEMPTS.column("confidence"), 0, "between 1 and 4"),
        (ATTEMPTS.column("confidence"), 5, "between 1 and 4"),
        (ATTEMPTS.column("answered_at_ms"), 12, "between"),
        (ATTEMPTS.column("purpose"), "fun", "one of plan, review, quiz, free"),
        (ATTEMPTS.column("answer"), "x" * 4_001, "at most 4000 characters"),
        (ATTEMPTS.column("answer"), "a\x00b", "NUL"),
        (ATTEMPTS.column("correct"), None, "must be given"),
        (TABLES["student_profiles"].column("exam_on"), "2026-02-30", "date"),
        (TABLES["student_profiles"].column("exam_on"), "20260228", "date"),
        (MINUTES, list(range(100)), "bytes"),
        (MINUTES, [60] * 6, "seven whole numbers"),
        (MINUTES, [60] * 6 + [1_441], "seven whole numbers"),
        (MINUTES, [60] * 6 + [True], "seven whole numbers"),
        (MINUTES, {"monday": 60}, "seven whole numbers"),
        (FORECAST, [1], "object"),
        (FORECAST, {"summary": ["fine", {"no\x00t": 1}]}, "NUL"),
        (FORECAST, {"summary": [1, {"large": -(2**63) - 1}]}, "64 bits"),
    ],
)
def test_a_value_outside_its_columns_limits_is_named_without_being_repeated(column: Column, value: Any, words: str) -> None:
    problem = problem_in(column, value)
    assert problem is not None
    assert words in problem
    assert bad_places(column, [value]) == [0]


@pytest.mark.parametrize("value", [{"summary": "the six characters \\u0000"}, {"\\u0000": [None, 1, "\\\\u0000"]}, {}])
def test_json_that_only_speaks_of_the_character_nul_is_good(value: Any) -> None:
    assert problem_in(FORECAST, value) is None


some_values: dict[Kind, st.SearchStrategy[Any]] = {
    Kind.INTEGER: st.none() | st.integers(-5, 10),
    Kind.TEXT: st.none() | st.sampled_from(["free", "plan", "fun", "a\x00", "x" * 5_000]),
    Kind.BOOLEAN: st.none() | st.booleans(),
    Kind.ID: st.none() | st.uuids().map(lambda u: u.hex),
}


@given(st.sampled_from([c for c in ATTEMPTS.columns if c.kind in some_values]).flatmap(
    lambda c: st.tuples(st.just(c), st.lists(some_values[c.kind], max_size=8))
))  # fmt: skip
def test_a_column_is_bad_exactly_where_its_single_values_are(given_column: tuple[Column, list[Any]]) -> None:
    column, values = given_column
    assert bad_places(column, values) == [i for i, v in enumerate(values) if problem_in(column, v)]
