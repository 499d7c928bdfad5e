"""What a server can say about a device's clock, and about the times that were written by it (docs/protocol.md, "Versions and clocks").

Pure functions of the clock readings: of the request (now), and of each operation (when it was written). Within one boot the machine's monotonic
clock tells how long ago an operation was written, whatever became of the wall clock since; across boots only the wall clock is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from operator import sub

from domain.clock import CLOCK_OFFSET_MAX_MS, CLOCK_TOLERANCE_MS
from domain.registry import TIME_MAX_MS, TIME_MIN_MS
from domain.wire import ClockReading

# A device's own estimate of the server's time counts while the request can have been on its way for the rest.
WAY_MAX_MS = 5 * 60 * 1000
# Corrections are rounded to this, so that operations written one after another share theirs.
CORRECTION_STEP_MS = 100
# 2026-01-01: nothing was answered here before this program was. A machine whose battery is dead starts long before.
EARLIEST_MS = 1_767_225_600_000


@dataclass(frozen=True, slots=True)
class Correction:
    """What to add to the times of one operation; `doubtful` when that is a guess. (0, False) is a right time."""

    delta_ms: int
    doubtful: bool

    def __bool__(self) -> bool:
        return self.delta_ms != 0 or self.doubtful


RIGHT = Correction(0, False)


def measured_offset_ms(reading: ClockReading, server_ms: int) -> int:
    """What to add to the device's wall clock to get the server's, as measured, UTC ms.

    The request's arrival is later than its reading by its way, which may take long on a thin line; what the device has heard of the server's
    time before is later by the way of a small answer only, and is preferred while the two can both be true.
    """
    heard = reading.server_ms
    plausible = heard is not None and -CLOCK_TOLERANCE_MS <= server_ms - heard <= WAY_MAX_MS
    return _bounded((heard if plausible and heard is not None else server_ms) - reading.wall_ms)


def device_offset_ms(reading: ClockReading, server_ms: int) -> int:
    """The same for display and judgement: 0 while the two clocks agree within two seconds."""
    offset = measured_offset_ms(reading, server_ms)
    return offset if abs(offset) > CLOCK_TOLERANCE_MS else 0


def corrections(
    reading: ClockReading, server_ms: int, wall_ms: Sequence[int], mono_ms: Sequence[int], boots: Sequence[str]
) -> list[Correction] | None:
    """For each operation, given by its three clock values, what was wrong with the device's clock when it was written; None: nothing.

    Two seconds are nothing: clocks differ by as much.
    """
    offset = measured_offset_ms(reading, server_ms)
    if _all_right(reading, offset, wall_ms, mono_ms, boots):
        return None
    found = [_correction(reading, offset, *values) for values in zip(wall_ms, mono_ms, boots, strict=True)]
    return found if any(found) else None


def carried_offset_ms(reading: ClockReading, received_ms: int) -> int | None:
    """The same for a reading that came by stick: its arrival, days later perhaps, says nothing about when it was taken.

    What the device had heard of the server's time in the same boot does; None where it had heard nothing, or where that cannot be.
    """
    heard = reading.server_ms
    if heard is None or not EARLIEST_MS <= heard <= received_ms + CLOCK_TOLERANCE_MS:
        return None
    return _bounded(heard - reading.wall_ms)


def carried_corrections(
    reading: ClockReading, received_ms: int, wall_ms: Sequence[int], mono_ms: Sequence[int], boots: Sequence[str]
) -> list[Correction] | None:
    """What `corrections` works out, for operations that came by stick.

    Where the clock cannot be judged nothing is corrected but what cannot be: a time in the future becomes that of the arrival, a guess.
    """
    offset = carried_offset_ms(reading, received_ms)
    if offset is None:
        found = [_not_after(received_ms, shown_ms(wall)) for wall in wall_ms]
    elif _all_right(reading, offset, wall_ms, mono_ms, boots):
        return None
    else:
        found = [_correction(reading, offset, *values) for values in zip(wall_ms, mono_ms, boots, strict=True)]
    return found if any(found) else None


def _not_after(received_ms: int, written_ms: int) -> Correction:
    """Nobody writes in the future: it was when it arrived, at the latest."""
    return Correction(received_ms - written_ms, True) if written_ms > received_ms + CLOCK_TOLERANCE_MS else RIGHT


def _all_right(reading: ClockReading, offset_ms: int, wall_ms: Sequence[int], mono_ms: Sequence[int], boots: Sequence[str]) -> bool:
    """The common case, seen set-wise: everything was written in this boot, whose two clocks have kept their distance."""
    if set(boots) != {reading.boot_id} or max(mono_ms) > reading.mono_ms:
        return False
    distances = list(map(sub, wall_ms, mono_ms))
    now = reading.wall_ms - reading.mono_ms + offset_ms
    nearest, furthest = min(distances), max(distances)
    return bool(now - nearest <= CLOCK_TOLERANCE_MS and furthest - now <= CLOCK_TOLERANCE_MS)


def shown_ms(wall_ms: int) -> int:
    """A wall clock's time as a device writes it down: within the registry's times (daemon/records.py)."""
    return min(max(wall_ms, TIME_MIN_MS), TIME_MAX_MS)


def _correction(reading: ClockReading, offset_ms: int, wall_ms: int, mono_ms: int, boot: str) -> Correction:
    written_ms = shown_ms(wall_ms)
    sent_ms = reading.wall_ms + offset_ms
    if boot == reading.boot_id and mono_ms <= reading.mono_ms:
        return _of(sent_ms - (reading.mono_ms - mono_ms) - written_ms, doubtful=False)
    guess = _of(offset_ms, doubtful=True)
    guessed_ms = written_ms + guess.delta_ms
    if guessed_ms > sent_ms + CLOCK_TOLERANCE_MS:  # nobody writes in the future: it was when this was sent, at the latest
        return Correction(sent_ms - written_ms, True)
    return Correction(guess.delta_ms, True) if guessed_ms < EARLIEST_MS else guess


def answer_corrections(
    answered_ms: Sequence[int], wall_ms: Sequence[int], clocks: Sequence[Correction] | None
) -> Sequence[Correction] | None:
    """What to add to the times of answers, given what was wrong with the clock when each was written; None: nothing.

    The same as to the operation's own time, but for an answer that says that it was given after it was written: it was when it was written, at the
    latest, and when that was is known of every operation. No device of ours sends such an answer.
    """
    if clocks is None and (not answered_ms or max(map(sub, answered_ms, wall_ms)) <= CLOCK_TOLERANCE_MS):
        return None
    given = zip(answered_ms, wall_ms, clocks or repeat(RIGHT), strict=False)
    found = [_not_after_writing(answered, shown_ms(wall), clock) for answered, wall, clock in given]
    return found if any(found) else None


def _not_after_writing(answered_ms: int, written_ms: int, clock: Correction) -> Correction:
    if answered_ms <= written_ms + CLOCK_TOLERANCE_MS:
        return clock
    # Rounded as every correction, so that whoever has a copy can have it found again (daemon/sync/offering.py).
    return Correction((written_ms + clock.delta_ms - answered_ms) // CORRECTION_STEP_MS * CORRECTION_STEP_MS, True)


def _of(delta_ms: int, *, doubtful: bool) -> Correction:
    if abs(delta_ms) <= CLOCK_TOLERANCE_MS:
        return RIGHT
    steps = round(_bounded(delta_ms) / CORRECTION_STEP_MS)
    return Correction(steps * CORRECTION_STEP_MS, doubtful)


def _bounded(offset_ms: int) -> int:
    return min(max(offset_ms, -CLOCK_OFFSET_MAX_MS), CLOCK_OFFSET_MAX_MS)


def corrected_ms(time_ms: int, correction: Correction) -> int | None:
    """A time by the server's clock, within the registry's times; None where nothing is to be added."""
    if correction.delta_ms == 0:
        return None
    return shown_ms(time_ms + correction.delta_ms)
