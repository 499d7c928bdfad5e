"""Per field, the last writer wins; what loses is kept."""

from __future__ import annotations

import copy
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.merge import (
    FIRST_CLOCK,
    SERVER_WRITER,
    Base,
    FieldClock,
    QueuedChange,
    Rule,
    Seen,
    merge_fields,
    merge_into_deleted,
    value_key,
    visible_clocks,
    visible_row,
)
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
    queued = [QueuedChange({"a": 2}, 7), QueuedChange({"a": 3}, 8)]
    assert visible_row({"a": 1, "b": 1}, queued) == {"a": 3, "b": 1}
    assert visible_clocks({"a": (5, "x"), "b": (6, "x")}, queued, "me") == {"a": (8, "me"), "b": (6, "x")}


def test_a_value_overwritten_by_somebody_who_had_another_before_the_eyes_is_kept() -> None:
    merged = merge_fields(PROFILES, {"grade": "8"}, {"grade": (10, "b")}, {"grade": "7"}, (20, "a"), {"grade": Seen("5", (3, "b"))})
    (loser,) = merged.losers
    assert (loser.lost, loser.lost_clock, loser.kept, loser.kept_clock, loser.base) == ("8", (10, "b"), "7", (20, "a"), ("5", (3, "b")))
    assert not loser.arrived
    assert merged.changed == {"grade": "7"}


@pytest.mark.parametrize("base", [{"grade": Seen("8", (10, "b"))}, {"grade": Seen("8", None)}, None])
def test_a_value_that_was_seen_and_replaced_is_no_loser(base: Base | None) -> None:
    assert not merge_fields(PROFILES, {"grade": "8"}, {"grade": (10, "b")}, {"grade": "7"}, (20, "a"), base).losers


def test_a_field_that_the_writer_did_not_look_at_counts_as_unseen() -> None:
    assert merge_fields(PROFILES, {"grade": "8"}, {"grade": (10, "b")}, {"grade": "7"}, (20, "a"), {}).losers


def test_nothing_that_nobody_has_written_is_no_loser() -> None:
    assert not merge_fields(PROFILES, {"grade": None}, {}, {"grade": "7"}, (20, "a"), {"grade": Seen("5", (3, "b"))}).losers


def test_a_value_that_came_with_the_row_is_kept_too_when_nobody_saw_it() -> None:
    merged = merge_fields(PROFILES, {"grade": "8"}, {}, {"grade": "7"}, (20, "a"), {"grade": Seen(None, None)})
    assert [(loser.lost, loser.lost_clock) for loser in merged.losers] == [("8", FIRST_CLOCK)]


def test_two_values_of_one_clock_from_two_copies_of_one_device_are_both_kept() -> None:
    merged = merge_fields(PROFILES, {"grade": "8"}, {"grade": (10, "a")}, {"grade": "7"}, (10, "a"))
    assert (merged.changed, [loser.lost for loser in merged.losers]) == ({}, ["7"])


def test_the_schools_own_later_word_replaces_its_earlier_one() -> None:
    merged = merge_fields(PROFILES, {"grade": "8"}, {"grade": (10, SERVER_WRITER)}, {"grade": "7"}, (11, SERVER_WRITER))
    assert merged.changed == {"grade": "7"}


def test_every_field_of_a_change_of_a_deleted_row_is_a_loser() -> None:
    losers = merge_into_deleted({"grade": "7", "exam_on": None}, (20, "a"), {"grade": Seen("5", (3, "b"))})
    assert [(x.field, x.lost, x.rule, x.kept_clock) for x in losers] == [
        ("grade", "7", Rule.DELETED, None), ("exam_on", None, Rule.DELETED, None)
    ]  # fmt: skip


# --- every value that was ever written


class Desk:
    """A device in a world of one field: what it shows, what it has queued and what it has sent, as (hlc, value, base)."""

    def __init__(self, name: str) -> None:
        self.name, self.hlc = name, 0
        self.shown = Seen(0, None)
        self.queued: list[tuple[int, int, Seen]] = []
        self.sent: list[tuple[int, int, Seen]] = []

    def write(self, value: int, now: int) -> None:
        self.hlc = max(self.hlc + 1, now, (self.shown.clock or FIRST_CLOCK)[0] + 1)
        self.queued.append((self.hlc, value, self.shown))
        self.shown = Seen(value, (self.hlc, self.name))


class School:
    """The server of that world, which clamps clocks at 1,000."""

    def __init__(self) -> None:
        self.value: Any = 0
        self.clocks: dict[str, FieldClock] = {}
        self.lost: list[int] = []
        self.settled: set[str] = set()

    def take(self, writer: str, operation: tuple[int, int, Seen]) -> None:
        hlc, value, base = operation
        key = value_key("student_profiles", "1", "grade", (hlc, writer), value)
        if key not in self.settled:
            self.merge((min(hlc, 1_000), writer), value, base)
        self.settled.add(key)
        if base.clock:
            self.settled.add(value_key("student_profiles", "1", "grade", base.clock, base.value))

    def merge(self, clock: FieldClock, value: int, base: Seen) -> None:
        merged = merge_fields(PROFILES, {"grade": self.value}, self.clocks, {"grade": value}, clock, {"grade": base})
        self.value, self.clocks = merged.changed.get("grade", self.value), dict(merged.clocks)
        self.lost += [loser.lost for loser in merged.losers]

    def shown(self) -> Seen:
        return Seen(self.value, self.clocks.get("grade"))


WHAT = ("write", "write", "write", "push", "push", "pull", "resend", "copy", "page", "teach")
happenings = st.lists(st.tuples(st.sampled_from(WHAT), st.integers(0, 9), st.integers(0, 2_000)), max_size=30)


@settings(max_examples=500)
@given(happenings)
def test_LOSER_KEPT_every_value_ever_written_is_there_or_was_seen_by_who_replaced_it_or_is_kept(
    steps: list[tuple[str, int, int]],
) -> None:
    school, desks = School(), [Desk("a"), Desk("b")]
    page, written, seen = school.shown(), 0, {0}
    for what, which, now in steps:
        desk = desks[which % len(desks)]
        match what:
            case "write" | "teach":
                written += 1
                seen.add((desk.shown if what == "write" else page).value)
                if what == "write":
                    desk.write(written, now)
                else:  # a teacher's page may have been open for long
                    school.merge((max(now, school.clocks.get("grade", FIRST_CLOCK)[0] + 1), SERVER_WRITER), written, page)
            case "push" if desk.queued:
                desk.sent.append(desk.queued.pop(0))
                school.take(desk.name, desk.sent[-1])
            case "pull" if not desk.queued:
                desk.shown = school.shown()
            case "resend":
                desk.queued, desk.sent = desk.sent + desk.queued, []
            case "copy":  # two devices of one name, with one log
                desks.append(copy.deepcopy(desk))
            case "page":
                page = school.shown()
    for desk in desks:
        for operation in desk.queued:
            school.take(desk.name, operation)
    assert set(range(1, written + 1)) - seen - set(school.lost) <= {school.value}


def test_a_log_that_is_sent_again_makes_no_conflicts() -> None:
    school, desk, other = School(), Desk("a"), Desk("b")
    for value in (1, 2, 3):
        desk.write(value, now=value)
    for operation in desk.queued:
        school.take("a", operation)
    other.shown = school.shown()
    other.write(4, now=9)
    school.take("b", other.queued[0])
    for operation in desk.queued:
        school.take("a", operation)
    assert (school.value, school.lost) == (4, [])
