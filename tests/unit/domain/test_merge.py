"""Per field, the last writer wins; what loses is kept."""

from __future__ import annotations

from itertools import permutations
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from domain.merge import SERVER_WRITER, FieldClock, Rule, merge_fields, visible_row
from domain.registry import TABLES

PROFILES = TABLES["student_profiles"]
Change = tuple[dict[str, Any], FieldClock]


def apply(changes: list[Change]) -> tuple[dict[str, Any], list[Any]]:
    row: dict[str, Any] = {}
    clocks: dict[str, FieldClock] = {}
    lost = []
    for fields, clock in changes:
        merged = merge_fields(PROFILES, row, clocks, fields, clock)
        row, clocks = row | dict(merged.changed), dict(merged.clocks)
        lost += [(loser.field, loser.lost) for loser in merged.losers]
    return row, lost


changes = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(["grade", "exam_on", "available_minutes"]), st.integers(0, 3), min_size=1),
        st.tuples(st.integers(0, 4), st.sampled_from(["a", "b"])),
    ),
    max_size=4,
    unique_by=lambda change: change[1],
)


@given(changes)
def test_the_order_of_arrival_does_not_change_the_merged_row(given_changes: list[Change]) -> None:
    results = [apply(list(order))[0] for order in permutations(given_changes)]
    assert all(result == results[0] for result in results)


def test_a_value_that_does_not_come_through_is_kept_with_its_rule() -> None:
    merged = merge_fields(PROFILES, {"grade": "8"}, {"grade": (20, "b")}, {"grade": "7"}, (10, "a"))
    (loser,) = merged.losers
    assert (loser.field, loser.kept, loser.lost, loser.rule) == ("grade", "8", "7", Rule.LATER)
    assert not merged.changed


def test_fields_of_one_change_are_decided_each_by_itself() -> None:
    merged = merge_fields(PROFILES, {"grade": "8"}, {"grade": (20, "b")}, {"grade": "7", "available_minutes": [1]}, (10, "a"))
    assert merged.changed == {"available_minutes": [1]}
    assert len(merged.losers) == 1


def test_in_a_field_the_school_owns_its_word_stands_against_a_later_clock() -> None:
    merged = merge_fields(PROFILES, {"grade": "8"}, {"grade": (10, SERVER_WRITER)}, {"grade": "7"}, (99, "a"))
    assert merged.losers[0].rule is Rule.TEACHER_FIRST
    own = merge_fields(
        PROFILES, {"available_minutes": [1]}, {"available_minutes": (10, SERVER_WRITER)}, {"available_minutes": [2]}, (99, "a")
    )
    assert own.changed == {"available_minutes": [2]}


def test_the_same_value_from_two_writers_makes_no_conflict() -> None:
    assert not merge_fields(PROFILES, {"grade": "8"}, {"grade": (20, "b")}, {"grade": "8"}, (10, "a")).losers


def test_queued_changes_lie_over_the_servers_version_in_their_order() -> None:
    assert visible_row({"a": 1, "b": 1}, [{"a": 2}, {"a": 3}]) == {"a": 3, "b": 1}
