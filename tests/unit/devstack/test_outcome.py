"""When the demonstration has succeeded, and what it says when it has not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from devstack.compare import TableComparison, compare
from devstack.demo import Outcome
from domain.registry import TABLES

GOOD = Outcome(
    sent=3,
    acknowledged=3,
    state="synced",
    pending=0,
    rejected=0,
    tables=[TableComparison("questions", 5, 5, ()), TableComparison("question_attempts", 3, 3, ())],
)


def test_agreement_leaves_nothing_to_say() -> None:
    assert GOOD.problems() == []


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"acknowledged": 2}, "1 attempts were not acknowledged."),
        ({"state": "waiting"}, "The device does not say `synced` but `waiting`."),
        ({"pending": 1}, "1 changes still wait on the device."),
        ({"rejected": 2}, "The school refused 2 changes."),
        ({"tables": [TableComparison("question_attempts", 2, 3, ())]}, "SQLite holds 2 attempts of 3."),
        ({"tables": [TableComparison("question_attempts", 3, 4, ())]}, "PostgreSQL holds 4 attempts of 3."),
        (
            {"tables": [TableComparison("question_attempts", 3, 3, ()), TableComparison("users", 1, 1, ("ab",))]},
            "users: 1 rows differ: ab",
        ),
    ],
)
def test_whatever_is_wrong_is_said(wrong: dict[str, object], said: str) -> None:
    assert replace(GOOD, **wrong).problems() == [said]  # type: ignore[arg-type]


def test_a_row_on_one_side_alone_and_a_row_with_another_value_both_differ() -> None:
    empty: dict[str, dict[str, tuple[object, ...]]] = {table: {} for table in TABLES}
    device = empty | {"users": {"a": ("a", 1), "b": ("b", 1), "c": ("c", None)}}
    cloud = empty | {"users": {"b": ("b", 2), "c": ("c", None), "d": ("d", 1)}}
    [users] = [found for found in compare(device, cloud) if found.table == "users"]
    assert users == TableComparison("users", 3, 3, ("a", "b", "d"))
