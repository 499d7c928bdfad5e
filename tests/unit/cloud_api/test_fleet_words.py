"""What the fleet page says on top: the worst that is true, and never that a device is well of which nothing is known."""

from __future__ import annotations

import pytest

from cloud_api.fleet.overview import State, Totals
from cloud_api.pages.fleet.words import clock, standing
from cloud_api.pages.words import ago, count, moment, span

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
