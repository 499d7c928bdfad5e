"""What the server's clock says, as far as this device can know without asking: its last answer, counted on by the monotonic clock."""

from __future__ import annotations

from domain.clock import Clock


class ServerTime:
    """The server's time. An answer was written before it arrived, so this is never ahead of the server by more than the clocks drift."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_ms: int | None = None  # of the monotonic clock

    def heard(self, server_ms: int) -> None:
        """Takes note of the time in an answer that has just arrived."""
        self._ahead_ms = server_ms - self._clock.monotonic_ms()

    def now_ms(self) -> int | None:
        """UTC ms; None while this process has heard nothing."""
        return None if self._ahead_ms is None else self._ahead_ms + self._clock.monotonic_ms()
