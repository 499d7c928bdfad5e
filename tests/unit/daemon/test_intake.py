"""Taking input in: what passes, and that all that is wrong is named with its place."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.api.intake import PROBLEMS_MAX, json_reader, query_reader
from daemon.api.schemas.access import NewApp
from daemon.api.schemas.content import QuestionsQuery
from daemon.api.schemas.people import ProfileChange
from daemon.api.schemas.study import AttemptBatch, NewAttempt, NewPlan
from domain.errors import InvalidInput

ID = "0192f7a0b1c27abc8def0123456789ab"
ATTEMPT = {"question_id": ID, "correct": True}

read_attempt, read_batch = json_reader(NewAttempt), json_reader(AttemptBatch)
read_change, read_plan = json_reader(ProfileChange), json_reader(NewPlan)


def problems(read: Any, value: Any) -> list[tuple[str, str]]:
    with pytest.raises(InvalidInput) as caught:
        read(value)
    return [(p.path, p.code) for p in caught.value.problems]


def test_problems_in_several_items_are_reported_together_with_their_places() -> None:
    body = {"attempts": [ATTEMPT, {**ATTEMPT, "confidence": 5}, {"correct": 1}, 7]}
    assert problems(read_batch, json.dumps(body).encode()) == [
        ("$.attempts[1].confidence", "invalid_value"),
        ("$.attempts[2].question_id", "missing_field"),
        ("$.attempts[2].correct", "wrong_type"),
        ("$.attempts[3]", "wrong_type"),
    ]


def test_problems_are_bounded() -> None:
    assert len(problems(read_batch, json.dumps({"attempts": [0] * 400}).encode())) == PROBLEMS_MAX
    assert len(problems(read_attempt, json.dumps({f"x{n}": 1 for n in range(1000)}).encode())) == PROBLEMS_MAX


def test_an_unknown_name_is_repeated_in_part_only() -> None:
    ((path, _),) = problems(read_attempt, json.dumps({**ATTEMPT, "x" * 10_000: 1}).encode())
    assert len(path) < 100


def test_a_repeated_name_is_found_at_any_depth() -> None:
    assert problems(read_batch, b'{"attempts": [{"question_id": "%s", "correct": true, "correct": true}]}' % ID.encode()) == [
        ("$.attempts[0].correct", "repeated_field")
    ]
    assert problems(read_batch, b'{"attempts": [], "attempts": [{"question_id": "%s", "correct": true}]}' % ID.encode()) == [
        ("$.attempts", "repeated_field")
    ]


def test_what_is_left_out_and_what_is_null_are_told_apart() -> None:
    change = json_reader(ProfileChange)(b'{"grade": null}')
    assert (change.grade, change.exam_on) == (None, msgspec.UNSET)


def test_lists_are_checked_item_by_item() -> None:
    body = {"days_off": ["2026-01-31", "2026-02-30", 5], "exclude": [ID, "x"]}
    assert problems(json_reader(NewPlan), json.dumps(body).encode()) == [
        ("$.days_off[1]", "invalid_value"),
        ("$.days_off[2]", "wrong_type"),
        ("$.exclude[1]", "invalid_value"),
    ]


def test_texts_of_a_query_become_numbers_and_truths() -> None:
    query = query_reader(QuestionsQuery)({"limit": ["7"], "retired": ["true"], "topic_id": [ID]})
    assert (query.limit, query.retired, query.topic_id, query.concept_id) == (7, True, ID, None)


def test_everything_wrong_with_a_query_is_reported_together() -> None:
    values = {"limit": ["x"], "retired": ["perhaps"], "topic_id": ["5"], "cursor": ["a", "b"], "colour": ["red"]}
    assert set(problems(query_reader(QuestionsQuery), values)) == {
        ("query.limit", "wrong_type"),
        ("query.retired", "wrong_type"),
        ("query.topic_id", "invalid_value"),
        ("query.cursor", "repeated_field"),
        ("query.colour", "unknown_field"),
    }


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["question_id", "correct", "answer", "attempts", "x"]), inner)
    ),
    max_leaves=12,
)


@given(_JSON)
def test_any_json_is_either_read_or_refused_with_at_least_one_problem(value: Any) -> None:
    for read in (read_attempt, read_batch, read_change, read_plan):
        try:
            read(json.dumps(value).encode())
        except InvalidInput as refused:
            assert refused.problems
            assert all(p.path.startswith("$") and p.message != "The request cannot be read." for p in refused.problems)


@given(st.binary(max_size=60))
def test_random_bytes_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidInput):
        read_attempt(body)


@pytest.mark.parametrize(
    "read, body, sentence",
    [
        (json_reader(NewApp), {"name": "", "origins": []}, "This must have at least 1 character."),
        (json_reader(NewApp), {"name": "x" * 101, "origins": []}, "This must have at most 100 characters."),
        (json_reader(NewApp), {"name": "x", "origins": ["*"]}, "This must look like http://localhost:3000."),
        (json_reader(NewApp), {"name": None}, "This must be text, not null."),
        (read_change, {"available_minutes": [1]}, "This must have at least 7 items."),
        (read_change, {"grade": 7}, "This must be text or null, not a whole number."),
        (read_plan, {"horizon_days": 0}, "This must be at least 1."),
    ],
)
def test_what_is_wrong_is_said_in_words_for_people(read: Any, body: Any, sentence: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read(json.dumps(body).encode())
    assert [p.message for p in caught.value.problems] == [sentence]
