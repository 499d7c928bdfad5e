"""Which questions of a class are asked for, in which order, and the page of them that is told: of thousands, a few dozen are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeVar

from cloud_api.analytics.rows import ItemRow, WrongAnswerRow
from domain.learning.analytics.items import ItemFigures

_T = TypeVar("_T")


class ItemOrder(StrEnum):
    """Flagged ones first and then the hardest; by the share right at first try; by discrimination; by how many answered."""

    LOOK = "look"
    HARDEST = "hardest"
    EASIEST = "easiest"
    WEAKEST = "weakest"
    MOST = "most"


# Where a figure is not told, as of few students, the question comes last; ties are by id.
_KEYS: Mapping[ItemOrder, Callable[[ItemFigures], tuple[float, ...]]] = {
    ItemOrder.LOOK: lambda i: (-len(i.flags), 1.0 if i.facility is None else i.facility),
    ItemOrder.HARDEST: lambda i: (2.0 if i.facility is None else i.facility,),
    ItemOrder.EASIEST: lambda i: (1.0 if i.facility is None else -i.facility,),
    ItemOrder.WEAKEST: lambda i: (2.0 if i.discrimination is None else i.discrimination,),
    ItemOrder.MOST: lambda i: (-i.students,),
}


@dataclass(frozen=True, slots=True)
class ItemsWanted:
    """The questions of a topic or of a concept, or all; only those with a flag, or all."""

    topic_id: str | None = None
    concept_id: str | None = None
    flagged: bool = False
    order: ItemOrder = ItemOrder.LOOK

    def choose(self, figures: Sequence[ItemFigures]) -> list[ItemFigures]:
        """Those of the figures, which come by id, in the order wanted."""
        return sorted((item for item in figures if item.flags or not self.flagged), key=_KEYS[self.order])


class Span(NamedTuple):
    """A part of a list; without a limit all from `offset` on."""

    offset: int = 0
    limit: int | None = None

    def of(self, rows: Sequence[_T]) -> Sequence[_T]:
        return rows[self.offset :] if self.limit is None else rows[self.offset : self.offset + self.limit]


@dataclass(frozen=True, slots=True)
class ItemPage:
    """`rows` from `offset` on of `total` chosen ones; `answered` counts the questions with any answer before flags chose, `flagged` those with one."""

    total: int
    rows: list[ItemRow]
    offset: int
    answered: int
    flagged: int


@dataclass(frozen=True, slots=True)
class WrongAnswerPage:
    """`rows` from `offset` on of `total`."""

    total: int
    rows: list[WrongAnswerRow]
    offset: int
