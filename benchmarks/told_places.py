"""Where an answer belongs in its student's log, and when it was given, by a number and a clock that may both be wrong.

Answers are told as they are given, as a rule. One that comes late says so twice: its number is lower, and its time, if there is one, is earlier. A clock that
leaps is not believed at once: time stands still for that answer. When the next one agrees with it, time goes on from there, the leap left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from domain.learning.attempts import DAY_MS

# Nobody comes back after a longer pause; a clock that is set right or wrong leaps as far.
PAUSE_MAX_MS = 730 * DAY_MS
# Several devices of one student may differ by so much; time then stands still until the slower clock has caught up.
BEHIND_MAX_MS = 30 * DAY_MS


class Place(NamedTuple):
    """A place among the student's answers, and a time (UTC ms)."""

    order: int
    at_ms: int | None


@dataclass(slots=True)
class ToldPlaces:
    """One student's answers so far. `order` and `at_ms` are those of the latest, as believed; `told_ms` is what its clock said, `doubted_ms` what a clock said
    since that was not believed."""

    order: int = 0
    at_ms: int | None = None
    told_ms: int | None = None
    doubted_ms: int | None = None

    def time(self, told_ms: int | None) -> int | None:
        """The time to believe for an answer that comes now. Without one, that of the answer before."""
        if told_ms is None or self.at_ms is None:
            return told_ms if self.at_ms is None else self.at_ms
        return self.at_ms + (self._passed_ms(told_ms) or 0)

    def take(self, order: int | None, told_ms: int | None) -> Place:
        """The place and time to believe for an answer that was given; those to come are held against it."""
        if order is not None and order < self.order and (told_ms is None or self.told_ms is None or told_ms < self.told_ms):
            return Place(order, told_ms)
        at_ms = self.time(told_ms)
        if told_ms is not None:
            if self.told_ms is None or self._passed_ms(told_ms) is not None:
                self.told_ms, self.doubted_ms = told_ms, None
            elif not 0 < self.told_ms - told_ms <= BEHIND_MAX_MS:
                self.doubted_ms = told_ms
        self.order = self.order + 1 if order is None else max(order, self.order)
        self.at_ms = at_ms
        return Place(self.order, at_ms)

    def _passed_ms(self, told_ms: int) -> int | None:
        """Since the answer before; None for a leap."""
        if self.told_ms is not None and 0 <= told_ms - self.told_ms <= PAUSE_MAX_MS:
            return told_ms - self.told_ms
        if self.doubted_ms is not None and 0 < told_ms - self.doubted_ms <= PAUSE_MAX_MS:
            return told_ms - self.doubted_ms
        return None
