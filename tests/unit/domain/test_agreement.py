"""What is summed to compare two sides, and what follows from it."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.agreement import (
    AGAIN_MS,
    BUCKETS,
    EVERY_MS,
    HASH_MODULUS,
    Outcome,
    Result,
    Sum,
    bucket_of,
    compare,
    content_text,
    differences,
    differing_buckets,
    is_due,
    result_of,
    result_to_keep,
    row_hash,
    sums_by_bucket,
)

IDS = st.text("0123456789abcdef", min_size=32, max_size=32)
VERSIONS = st.dictionaries(IDS, st.integers(0, HASH_MODULUS - 1), max_size=30)


def test_a_hash_is_what_the_protocol_page_says() -> None:
    digest = hashlib.md5(b"0123:42").digest()
    assert row_hash("0123", 42) == int.from_bytes(digest[:8], "big")
    assert row_hash("0123", 42, "[]") != row_hash("0123", 42)


def test_content_is_written_down_without_regard_to_the_order_of_keys() -> None:
    assert content_text(["é", None, True, 1.5, {"b": 1, "a": [2]}]) == '["é",null,true,1.5,{"a":[2],"b":1}]'


@given(VERSIONS)
def test_the_buckets_add_up_to_the_whole(versions: dict[str, int]) -> None:
    parts = sums_by_bucket(versions.items())
    assert len(parts) == BUCKETS
    assert sum(part.rows for part in parts) == len(versions)
    assert sum(part.total for part in parts) % HASH_MODULUS == sum(versions.values()) % HASH_MODULUS


@given(VERSIONS, VERSIONS)
def test_every_difference_lies_in_a_bucket_that_differs_and_is_named_once(ours: dict[str, int], theirs: dict[str, int]) -> None:
    buckets = set(differing_buckets(sums_by_bucket(ours.items()), sums_by_bucket(theirs.items())))
    found = differences(ours, theirs)
    named = [*found.missing, *found.stale, *found.extra]
    assert {bucket_of(row_id) for row_id in named} == buckets
    assert sorted(named) == sorted(row_id for row_id in ours.keys() | theirs.keys() if ours.get(row_id) != theirs.get(row_id))
    assert found.count == len(named)


def test_a_comparison_has_three_outcomes() -> None:
    assert compare(Sum(1, 5), Sum(1, 5), moved=False) is Outcome.MATCH
    assert compare(Sum(1, 5), Sum(1, 6), moved=False) is Outcome.MISMATCH
    assert compare(Sum(1, 5), Sum(1, 5), moved=True) is Outcome.INCONCLUSIVE


@pytest.mark.parametrize(
    ("outcomes", "repaired", "result"),
    [
        ([], False, Result.MATCH),
        ([Outcome.MATCH], False, Result.MATCH),
        ([Outcome.MATCH], True, Result.REPAIRED),
        ([Outcome.MATCH, Outcome.INCONCLUSIVE], True, Result.INCONCLUSIVE),
        ([Outcome.INCONCLUSIVE, Outcome.MISMATCH], False, Result.MISMATCH),
    ],
)
def test_the_worst_outcome_is_the_result(outcomes: list[Outcome], repaired: bool, result: Result) -> None:
    assert result_of(outcomes, repaired) is result


def test_only_a_comparison_that_said_something_ends_a_mismatch() -> None:
    assert result_to_keep("mismatch", Result.INCONCLUSIVE) is Result.MISMATCH
    assert result_to_keep("mismatch", Result.REPAIRED) is Result.REPAIRED
    assert result_to_keep("match", Result.INCONCLUSIVE) is Result.INCONCLUSIVE
    assert result_to_keep(None, Result.MATCH) is Result.MATCH


@pytest.mark.parametrize(
    ("since_ms", "result", "due"),
    [
        (EVERY_MS - 1, "match", False),
        (EVERY_MS, "match", True),
        (EVERY_MS - 1, "repaired", False),
        (AGAIN_MS, "mismatch", True),
        (AGAIN_MS - 1, "inconclusive", False),
        (-1, "match", True),
    ],
)
def test_it_is_done_once_a_day_and_sooner_after_a_mismatch(since_ms: int, result: str, due: bool) -> None:
    assert is_due(1_000_000_000_000 + since_ms, 1_000_000_000_000, result) is due
    assert is_due(5, None, None)
