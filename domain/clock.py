"""Time: the only `now()` of the project, and the hybrid logical clock.

Everything that asks for the time takes a `Clock`; a simulation hands in its own.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol

HLC_COUNTER_BITS = 16
# A clock that runs ahead may order its writes at most this far into the future (docs/protocol.md, "Clocks").
HLC_AHEAD_MAX_MS = 5 * 60 * 1000


class Clock(Protocol):
    """UTC milliseconds for what is stored, monotonic milliseconds for intervals."""

    def now_ms(self) -> int: ...

    def monotonic_ms(self) -> int: ...


# What goes on while the machine is suspended: an answer written before the lid was closed is as old as it is. macOS calls it CLOCK_MONOTONIC.
_RUNS_IN_SLEEP: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.clock_gettime_ns(_RUNS_IN_SLEEP) // 1_000_000


class HybridClock:
    """Hybrid logical clock (Kulkarni et al. 2014) in one integer: 48 bits of UTC milliseconds, 16 bits of counter.

    A value is greater than every value this clock gave or observed before, and stays near the wall clock. A device starts it
    with the greatest value it has stored.
    """

    def __init__(self, clock: Clock, last: int = 0) -> None:
        self._clock = clock
        self._last = last
        self._lock = threading.Lock()

    def tick(self) -> int:
        """A new value for a local change."""
        with self._lock:
            self._last = max(self._last + 1, self._clock.now_ms() << HLC_COUNTER_BITS)
            return self._last

    def observe(self, value: int) -> None:
        """Take note of a value that came from elsewhere, so that later local changes sort behind it."""
        with self._lock:
            self._last = max(self._last, value)


def clamp_hlc(value: int, server_now_ms: int) -> int:
    """The value by which the server orders a write: its physical part at most five minutes ahead of the server's clock.

    The raw value is kept beside it; a wrong clock never rejects a write (docs/protocol.md, "Clocks").
    """
    ceiling = (server_now_ms + HLC_AHEAD_MAX_MS) << HLC_COUNTER_BITS
    return min(value, ceiling)


# A difference below this is the way of the request, not a wrong clock.
CLOCK_TOLERANCE_MS = 2_000
# No clock is further off than this, whatever it says; the difference stays within 64 bits.
CLOCK_OFFSET_MAX_MS = 2**53
