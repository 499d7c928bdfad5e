"""The hybrid logical clock."""

from __future__ import annotations

from domain.clock import HLC_AHEAD_MAX_MS, HLC_COUNTER_BITS, HybridClock, clamp_hlc


class StuckClock:
    def __init__(self, now_ms: int) -> None:
        self.time_ms = now_ms

    def now_ms(self) -> int:
        return self.time_ms

    def monotonic_ms(self) -> int:
        return 0


def test_values_only_grow_while_the_wall_clock_stands_still_or_goes_back() -> None:
    wall = StuckClock(1_000_000)
    clock = HybridClock(wall)
    values = [clock.tick() for _ in range(5)]
    wall.time_ms -= 500_000
    values += [clock.tick() for _ in range(5)]
    assert values == sorted(set(values))


def test_a_change_after_an_observed_one_sorts_behind_it() -> None:
    clock = HybridClock(StuckClock(1_000))
    far_ahead = 9_999_999 << HLC_COUNTER_BITS
    clock.observe(far_ahead)
    assert clock.tick() > far_ahead


def test_the_physical_part_follows_the_wall_clock() -> None:
    assert HybridClock(StuckClock(123_456)).tick() >> HLC_COUNTER_BITS == 123_456


def test_a_clock_that_runs_ahead_orders_at_most_five_minutes_ahead_of_the_server() -> None:
    ten_years_ms = 10 * 365 * 24 * 3_600_000
    server_ms = 1_700_000_000_000
    assert clamp_hlc((server_ms + ten_years_ms) << HLC_COUNTER_BITS, server_ms) >> HLC_COUNTER_BITS == server_ms + HLC_AHEAD_MAX_MS
    behind = (server_ms - ten_years_ms) << HLC_COUNTER_BITS
    assert clamp_hlc(behind, server_ms) == behind
