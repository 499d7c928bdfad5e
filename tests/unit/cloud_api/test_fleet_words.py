"""What the fleet page says on top: the worst that is true, and never that a device is well of which nothing is known."""

from __future__ import annotations

import pytest

from cloud_api.fleet.overview import SORTS, DeviceRow, State, Totals
from cloud_api.pages.fleet.words import COLUMNS, clock, standing, state_of, troubles, waiting
from cloud_api.pages.words import ago, count, moment, span
from domain.ids import Id

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 24 * 3_600_000


def totals(**states: int) -> Totals:
    return Totals({state: states.get(state, 0) for state in State}, 0, None, 0, 0, 0, 0, None)


@pytest.mark.parametrize(
    ("states", "kind", "sentence"),
    [
        ({}, "waiting", "No device is enrolled."),
        ({"revoked": 3}, "waiting", "No device is enrolled."),
        ({"current": 1}, "good", "The device is up to date."),
        ({"current": 2}, "good", "Every device has been heard of today, and says that nothing waits on it."),
        ({"current": 9, "waiting": 1}, "working", "1 of 10 devices is on the way."),
        ({"current": 9, "silent": 1}, "waiting", "1 of 10 devices is silent."),
        ({"silent": 2}, "waiting", "All 2 devices are silent."),
        ({"never": 1}, "waiting", "The device is silent."),
        ({"silent": 5, "trouble": 2}, "bad", "2 devices need a look."),
        ({"trouble": 1}, "bad", "One device needs a look."),
    ],
)
def test_the_sentence_is_about_the_worst(states: dict[str, int], kind: str, sentence: str) -> None:
    said = standing(totals(**states))
    assert (said.kind, said.sentence) == (kind, sentence)


def test_whatever_needs_a_look_the_silent_ones_are_named_too() -> None:
    assert "5 of 7 devices are not heard of" in standing(totals(silent=5, trouble=2)).detail


@pytest.mark.parametrize(
    ("offset_ms", "said"), [(None, "unknown"), (0, "right"), (3 * HOUR_MS, "3 hours behind"), (-2 * MINUTE_MS, "2 minutes ahead")]
)
def test_a_clock_is_behind_when_something_must_be_added_to_it(offset_ms: int | None, said: str) -> None:
    assert clock(offset_ms) == said


def test_times_and_numbers_are_said_as_people_do() -> None:
    assert [ago(None, 5), ago(DAY_MS, DAY_MS + 1), ago(0, 2 * DAY_MS + HOUR_MS)] == ["never", "just now", "2 days ago"]
    assert [span(30_000), span(MINUTE_MS), span(90 * MINUTE_MS)] == ["less than a minute", "1 minute", "1 hour"]
    assert [count(1, "change"), count(12_345, "change"), moment(0)] == ["1 change", "12,345 changes", "1 Jan 1970, 00:00 UTC"]


def device(
    state: State, last_seen_ms: int | None = 0, clock_offset_ms: int = 0, oldest_ms: int | None = None, dead_letters: int = 0
) -> DeviceRow:
    """A device of version 1 with three changes waiting."""
    known = (Id("1" * 32), "Room 5", state, "1", 1, 0, last_seen_ms, clock_offset_ms)
    return DeviceRow(*known, None, None, None, None, 3, oldest_ms, 0, None, dead_letters, 0)


@pytest.mark.parametrize(
    ("found", "badge", "advice"),
    [
        (device(State.TROUBLE, dead_letters=2, clock_offset_ms=2 * HOUR_MS), "changes refused", "2 of its changes were refused"),
        (device(State.TROUBLE, clock_offset_ms=2 * HOUR_MS), "wrong clock", "Its clock is 2 hours behind"),
        (device(State.TROUBLE, last_seen_ms=2 * DAY_MS, oldest_ms=0), "stuck for 2 days", "“carrel doctor” on it says why"),
        (device(State.SILENT, oldest_ms=0), "silent for 2 days", "switch it on where it reaches the school"),
    ],
)
def test_whatever_needs_a_look_says_at_what_and_what_to_do(found: DeviceRow, badge: str, advice: str) -> None:
    assert state_of(found, 2 * DAY_MS)[0] == badge
    assert advice in troubles(found, 2 * DAY_MS)[0]


def test_what_waits_on_a_silent_device_is_what_waited_then() -> None:
    assert [waiting(device(state)) for state in (State.SILENT, State.WAITING)] == ["3 then", "3"]


def test_every_order_has_its_column_and_the_other_way_round() -> None:
    assert sorted(sort for _, sort in COLUMNS) == sorted(SORTS)
