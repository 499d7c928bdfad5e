"""What is said of a device's clock from its readings alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from domain.device_clock import (
    CORRECTION_STEP_MS,
    EARLIEST_MS,
    RIGHT,
    WAY_MAX_MS,
    Correction,
    carried_corrections,
    carried_offset_ms,
    corrected_ms,
    corrections,
    measured_offset_ms,
)
from domain.registry import TIME_MAX_MS, TIME_MIN_MS
from domain.wire import ClockReading

NOW = 1_795_000_000_000
HOUR = 3_600_000
BOOT = "this boot"


def reading(ahead_ms: int = 0, *, mono_ms: int = 50_000_000, heard_ms: int | None = None) -> ClockReading:
    """A device's clocks at the moment NOW, its wall clock wrong by `ahead_ms`."""
    return ClockReading(NOW + ahead_ms, mono_ms, BOOT, heard_ms)


def one(now: ClockReading, wall_ms: int, mono_ms: int, boot: str = BOOT) -> Correction:
    found = corrections(now, NOW, [wall_ms], [mono_ms], [boot])
    return found[0] if found else RIGHT


def test_a_right_clock_corrects_nothing() -> None:
    assert corrections(reading(1_900), NOW, [NOW - HOUR, NOW - 5], [50_000_000 - HOUR, 49_999_995], [BOOT, BOOT]) is None


def test_a_clock_that_is_an_hour_ahead_takes_an_hour_off() -> None:
    assert one(reading(HOUR), NOW - 60_000 + HOUR, 50_000_000 - 60_000) == Correction(-HOUR, False)


def test_a_clock_set_right_since_is_found_out_by_the_monotonic_one() -> None:
    assert one(reading(), NOW - 60_000 - 9 * HOUR, 50_000_000 - 60_000) == Correction(9 * HOUR, False)


def test_a_suspended_machine_is_not_a_wrong_clock() -> None:
    """Both clocks go on in sleep."""
    assert one(reading(), NOW - 8 * HOUR, 50_000_000 - 8 * HOUR) == RIGHT


def test_another_boot_is_corrected_by_the_clock_of_now_and_doubtful() -> None:
    assert one(reading(-HOUR), NOW - 3 * HOUR, 7, "another") == Correction(HOUR, True)


def test_another_boot_under_a_right_clock_is_believed() -> None:
    assert one(reading(), NOW - 3 * HOUR, 7, "another") == RIGHT


def test_another_boot_in_the_future_was_now_at_the_latest() -> None:
    assert one(reading(), NOW + HOUR, 7, "another") == Correction(-HOUR, True)


def test_another_boot_before_there_was_such_a_program_is_doubtful() -> None:
    assert one(reading(), 5_000, 7, "another") == Correction(0, True)
    assert one(reading(), EARLIEST_MS - 1, 7, "another").doubtful


def test_a_dead_battery_in_this_boot_is_corrected_from_the_time_that_was_written_down() -> None:
    found = one(reading(), 5_000, 50_000_000 - 60_000)
    assert corrected_ms(TIME_MIN_MS, found) == NOW - 60_000


def test_a_monotonic_clock_that_runs_backwards_is_not_believed() -> None:
    assert one(reading(HOUR), NOW, 60_000_000).doubtful


def test_a_slow_upload_is_not_a_slow_clock() -> None:
    """The reading is 40 seconds old when it arrives; the device had heard the server's time before."""
    late = ClockReading(NOW - 40_000, 50_000_000, BOOT, NOW - 40_100)
    assert measured_offset_ms(late, NOW) == -100
    assert one(late, NOW - 50_000, 50_000_000 - 10_000) == RIGHT


def test_what_a_device_says_it_heard_counts_only_while_it_can_be_true() -> None:
    assert measured_offset_ms(reading(heard_ms=NOW + HOUR), NOW) == 0
    assert measured_offset_ms(reading(heard_ms=NOW - WAY_MAX_MS - 1), NOW) == 0


@given(
    st.integers(-10 * 365 * 24 * HOUR, 10 * 365 * 24 * HOUR),
    st.integers(-10 * 365 * 24 * HOUR, 10 * 365 * 24 * HOUR),
    st.lists(st.integers(0, 40_000_000), min_size=1, max_size=20),
)
def test_within_one_boot_every_time_comes_right_whatever_the_wall_clock_did(then_ahead: int, now_ahead: int, ages: list[int]) -> None:
    walls, monos = [NOW - age + then_ahead for age in ages], [50_000_000 - age for age in ages]
    found = corrections(reading(now_ahead), NOW, walls, monos, [BOOT] * len(ages)) or [RIGHT] * len(ages)
    for age, wall, correction in zip(ages, walls, found, strict=True):
        shown = min(max(wall, TIME_MIN_MS), TIME_MAX_MS)
        right = corrected_ms(shown, correction) or shown
        assert abs(right - (NOW - age)) <= max(2_000, CORRECTION_STEP_MS)
        assert not correction.doubtful


@given(st.integers(-(2**62), 2**62), st.integers(-(2**62), 2**62), st.integers(0, 2**62), st.text(max_size=3), st.integers(-(2**62), 2**62))
def test_no_reading_is_too_absurd_to_be_judged(wall: int, op_wall: int, mono: int, boot: str, server: int) -> None:
    found = corrections(ClockReading(wall, mono, "b", server), NOW, [op_wall], [5], [boot]) or [RIGHT]
    assert TIME_MIN_MS <= (corrected_ms(NOW, found[0]) or NOW) <= TIME_MAX_MS


# --- readings that came by stick

DAY = 24 * HOUR


def carried(now: ClockReading, wall_ms: int, mono_ms: int, boot: str = BOOT, *, received_ms: int = NOW + 9 * DAY) -> Correction:
    found = carried_corrections(now, received_ms, [wall_ms], [mono_ms], [boot])
    return found[0] if found else RIGHT


def test_a_right_clock_is_believed_however_late_its_bundle_arrives() -> None:
    assert carried(reading(), NOW - HOUR, 50_000_000 - HOUR) == RIGHT
    assert carried(reading(heard_ms=NOW), NOW - HOUR, 50_000_000 - HOUR) == RIGHT


def test_what_the_device_had_heard_corrects_a_bundle_as_it_would_a_push() -> None:
    wrong = reading(HOUR, heard_ms=NOW)
    assert carried(wrong, NOW - 60_000 + HOUR, 50_000_000 - 60_000) == Correction(-HOUR, False)
    assert carried(wrong, NOW - 3 * HOUR, 7, "another") == Correction(-HOUR, True)


def test_a_wrong_clock_that_nobody_can_judge_is_left_as_it_is() -> None:
    assert carried(reading(-HOUR), NOW - 60_000 - HOUR, 50_000_000 - 60_000) == RIGHT
    assert carried(reading(HOUR), NOW - 60_000 + HOUR, 50_000_000 - 60_000) == RIGHT


def test_nothing_in_a_bundle_was_written_after_it_arrived() -> None:
    received_ms = NOW + DAY
    assert carried(reading(30 * DAY), NOW + 30 * DAY, 50_000_000, received_ms=received_ms) == Correction(-29 * DAY, True)


def test_a_servers_time_that_cannot_have_been_heard_is_not_believed() -> None:
    assert carried_offset_ms(reading(heard_ms=NOW + DAY), NOW) is None
    assert carried_offset_ms(reading(heard_ms=7), NOW) is None
    assert carried_offset_ms(reading(HOUR, heard_ms=NOW), NOW + DAY) == -HOUR
