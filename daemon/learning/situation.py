"""A student's now."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from domain.clock import Clock
from domain.learning.attempts import DAY_MS

_EPOCH = date(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class Situation:
    """UTC ms, and what the clock on the wall is ahead of UTC."""

    now_ms: int
    utc_offset_ms: int

    @property
    def today(self) -> date:
        return _EPOCH + timedelta(milliseconds=self.now_ms + self.utc_offset_ms)

    @property
    def day_starts_at_ms(self) -> int:
        """Midnight on the student's clock."""
        return self.starts_at_ms(self.today)

    def starts_at_ms(self, day: date) -> int:
        """Midnight of that day on the student's clock."""
        return (day - _EPOCH).days * DAY_MS - self.utc_offset_ms


def situation(clock: Clock) -> Situation:
    """Now, in the time zone of this machine, which is taken for the student's."""
    now_ms = clock.now_ms()
    time.tzset()  # else a process keeps the time zone in which it was started, wherever the machine has been taken
    offset = datetime.fromtimestamp(now_ms / 1000).astimezone().utcoffset() or timedelta()
    return Situation(now_ms, int(offset.total_seconds() * 1000))
