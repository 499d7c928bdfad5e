"""A day of a plan, arranged so that a student can bear it: reviews first, at most two new concepts in a row, sittings of half an hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from math import ceil

from domain.learning.plan import REVIEW_MINUTES, Kind, PlanItem

NEW_IN_A_ROW = 2
BLOCK_MINUTES_MAX = 30
# Two answers; with less time left nothing is begun, unless the whole day is no longer.
PART_MINUTES_MIN = 4
STRETCH = 3  # times its minutes, a new concept gets at most where time is left over


@dataclass(slots=True)
class DayDraft:
    """One day being filled. Without recaps, three new concepts may follow each other where reviews are short. `recaps` are short reviews of what was
    just learnt, by the pair of new concepts that they come before."""

    minutes_left: int
    with_recaps: bool = True
    reviews: list[PlanItem] = field(default_factory=list)
    new: list[PlanItem] = field(default_factory=list)
    recaps: dict[int, PlanItem] = field(default_factory=dict)
    part_minutes_min: int = field(init=False)

    def __post_init__(self) -> None:
        self.part_minutes_min = max(REVIEW_MINUTES, min(PART_MINUTES_MIN, self.minutes_left))

    def take(self, item: PlanItem) -> bool:
        """Add the item if its minutes are left, and those of a recap where no review is at hand to part it from the new ones before."""
        pairs_before = len(self.new) // NEW_IN_A_ROW
        recap = self._needs_recap(item)
        minutes = item.minutes + REVIEW_MINUTES * recap
        if minutes > self.minutes_left:
            return False
        if recap:
            learnt = self.new[-NEW_IN_A_ROW]
            self.recaps[pairs_before] = replace(learnt, kind=Kind.REVIEW, minutes=REVIEW_MINUTES, reason="review: learnt earlier today")
        self.minutes_left -= minutes
        (self.new if item.kind is Kind.NEW else self.reviews).append(item)
        return True

    def take_part(self, item: PlanItem) -> PlanItem | None:
        """Add as much of a new concept as there is time for, if it is worth beginning."""
        minutes = self.minutes_left - REVIEW_MINUTES * self._needs_recap(item)
        if item.kind is not Kind.NEW or not self.part_minutes_min <= minutes < item.minutes:
            return None
        part = replace(item, minutes=minutes)
        self.take(part)
        return part

    def stretch(self) -> None:
        """Spend minutes that nothing else needs on the new concepts, an answer each in turn: not everybody learns in the minutes that were planned."""
        most = {place: STRETCH * item.minutes for place, item in enumerate(self.new)}
        while growing := [place for place, minutes in most.items() if self.new[place].minutes + REVIEW_MINUTES <= minutes]:
            for place in growing:
                if self.minutes_left < REVIEW_MINUTES:
                    return
                self.new[place] = replace(self.new[place], minutes=self.new[place].minutes + REVIEW_MINUTES)
                self.minutes_left -= REVIEW_MINUTES

    def _needs_recap(self, item: PlanItem) -> bool:
        return self.with_recaps and item.kind is Kind.NEW and len(self.new) // NEW_IN_A_ROW > len(self.reviews) + len(self.recaps)

    def arranged(self) -> list[PlanItem]:
        """Reviews first; those of least gain, and the recaps, part the new concepts so that no three follow each other."""
        partings = range(1, (len(self.new) - 1) // NEW_IN_A_ROW + 1)
        first = max(0, len(self.reviews) - sum(pair not in self.recaps for pair in partings))
        items, rest = self.reviews[:first], iter(self.reviews[first:])
        for position, item in enumerate(self.new):
            pair, inside = divmod(position, NEW_IN_A_ROW)
            if pair and not inside:
                items += [self.recaps[pair]] if pair in self.recaps else islice(rest, 1)
            items.append(item)
        return items


def in_blocks(items: Sequence[PlanItem]) -> list[PlanItem]:
    """Cut a day into sittings of like length, none over `BLOCK_MINUTES_MAX` unless a single item is."""
    total = sum(item.minutes for item in items)
    wanted = total / max(1, ceil(total / BLOCK_MINUTES_MAX))
    block, minutes, cut = 0, 0, []
    for item in items:
        if minutes and (minutes >= wanted or minutes + item.minutes > BLOCK_MINUTES_MAX):
            block, minutes = block + 1, 0
        minutes += item.minutes
        cut.append(replace(item, block=block))
    return cut
