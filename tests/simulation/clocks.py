"""Time in a simulation: it moves only when a step says so."""

from __future__ import annotations


class WorldClock:
    """The true time, which is the server's as well: UTC ms, and ms since the world began."""

    def __init__(self, now_ms: int) -> None:
        self.time_ms = self._began_ms = now_ms

    def now_ms(self) -> int:
        return self.time_ms

    def monotonic_ms(self) -> int:
        return self.time_ms - self._began_ms


class DeviceClock:
    """A device's clocks: the wall clock is off by `offset_ms`, the other one counts from the boot."""

    def __init__(self, world: WorldClock) -> None:
        self._world = world
        self._booted_ms = world.time_ms
        self.offset_ms = 0

    def now_ms(self) -> int:
        return self._world.time_ms + self.offset_ms

    def monotonic_ms(self) -> int:
        return self._world.time_ms - self._booted_ms

    def reboot(self) -> None:
        """The machine starts again."""
        self._booted_ms = self._world.time_ms
