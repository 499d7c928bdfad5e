"""The pace that devices are told, and that a thousand of them come back without a stampede."""

from __future__ import annotations

import heapq
import random

import pytest

from cloud_api.sync.admission import COUNT_EVERY_MS, POLL_AFTER_MAX_S, TURN_AFTER_MAX_S, TURN_AFTER_MIN_S, Pace, poll_after_s, turn_after_s
from daemon.sync.backoff import Backoff


@pytest.mark.parametrize(
    ("devices", "expected_s"), [(0, 30.0), (1, 30.0), (600, 30.0), (1_000, 50.0), (10_000, 500.0), (1_000_000, POLL_AFTER_MAX_S)]
)
def test_the_pace_keeps_all_devices_together_under_the_rate_and_within_its_bounds(devices: int, expected_s: float) -> None:
    assert poll_after_s(devices, least_s=30.0, polls_per_s=20.0) == expected_s


@pytest.mark.parametrize(
    ("devices", "expected_s"), [(0, TURN_AFTER_MIN_S), (30, TURN_AFTER_MIN_S), (1_000, 50.0), (100_000, TURN_AFTER_MAX_S)]
)
def test_a_classroom_waits_for_seconds_and_a_crowd_for_longer(devices: int, expected_s: float) -> None:
    assert turn_after_s(devices, polls_per_s=20.0) == expected_s


def test_devices_are_counted_once_in_a_while_and_by_one_request() -> None:
    class Standing:
        ms = 0

        def now_ms(self) -> int:
            return self.ms

        monotonic_ms = now_ms

    clock = Standing()
    pace = Pace(clock, least_s=30.0, polls_per_s=20.0)
    assert [pace.is_to_be_counted() for _ in range(3)] == [True, False, False]
    pace.heard(2_000)
    assert (pace.told_s, pace.turn_after_s) == (100.0, TURN_AFTER_MAX_S)
    clock.ms = COUNT_EVERY_MS
    assert [pace.is_to_be_counted() for _ in range(2)] == [True, False]


def test_a_thousand_devices_that_come_back_at_once_drain_without_a_stampede() -> None:
    """Places, waits and backoff as the product decides them; a first sync takes five seconds."""
    devices, places_max, takes_ms = 1_000, 8, 5_000
    draw = random.Random(11)
    events = [(draw.randrange(1_000), number) for number in range(devices)]
    heapq.heapify(events)
    ends: list[int] = []
    asked_in: dict[int, int] = {}
    waiting = dict.fromkeys(range(devices), Backoff())
    now_ms = 0
    while events:
        now_ms, number = heapq.heappop(events)
        asked_in[now_ms // 1_000] = asked_in.get(now_ms // 1_000, 0) + 1
        ends = [end for end in ends if end > now_ms]
        if len(ends) < places_max:
            ends.append(now_ms + takes_ms)
            continue
        retry_s = turn_after_s(devices, polls_per_s=20.0) * (1 + draw.random() / 2)
        waiting[number] = waiting[number].after_refused_turn(now_ms, retry_s, draw.random)
        heapq.heappush(events, (waiting[number].until_ms, number))
    least_s = devices * takes_ms / places_max / 1_000
    assert now_ms / 1_000 < 1.5 * least_s, "places do not stand empty while devices wait"
    after_the_first_second = [count for second, count in asked_in.items() if second > 1]
    assert max(after_the_first_second) < devices / 10, "the crowd of the first second does not come again"


def test_waiting_its_turn_is_no_failure() -> None:
    backoff = Backoff(failures=3)
    assert backoff.after_refused_turn(1_000, 10.0, lambda: 0.0) == Backoff(3, 11_000)
    assert backoff.after_refused_turn(1_000, 10.0, lambda: 1.0) == Backoff(3, 16_000)
