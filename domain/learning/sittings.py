"""A day of a plan, arranged so that a student can bear it: reviews first, at most two new concepts in a row, sittings of half an hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from math import ceil

from domain.learning.plan import REVIEW_MINUTES, Kind, PlanItem

NEW_IN_A_ROW = 2
BLOCK_MINUTES_MAX = 30


@dataclass(slots=True)
class DayDraft:
    """One day being filled. Without recaps, three new concepts may follow each other where reviews are short. `recaps` are short reviews of what was just learnt, by the pair of new concepts that they come before."""

    minutes_left: int
    with_recaps: bool = True
    reviews: list[PlanItem] = field(default_factory=list)
    new: list[PlanItem] = field(default_factory=list)
    recaps: dict[int, PlanItem] = field(default_factory=dict)

    def take(self, item: PlanItem) -> bool:
        """Add the item if its minutes are left, and those of a recap where no review is at hand to part it from the new ones before."""
        pairs_before = len(self.new) // NEW_IN_A_ROW
        recap = self.with_recaps and item.kind is Kind.NEW and pairs_before > len(self.reviews) + len(self.recaps)
        minutes = item.minutes + REVIEW_MINUTES * recap
        if minutes > self.minutes_left:
            return False
        if recap:
            learnt = self.new[-NEW_IN_A_ROW]
            self.recaps[pairs_before] = replace(learnt, kind=Kind.REVIEW, minutes=REVIEW_MINUTES, reason="review: learnt earlier today")
        self.minutes_left -= minutes
        (self.new if item.kind is Kind.NEW else self.reviews).append(item)
        return True

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
