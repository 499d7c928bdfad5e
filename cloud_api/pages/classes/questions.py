"""The questions of a class as a page shows them: page by page, of a topic or of all, in an order that somebody chose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from cloud_api.analytics.question_lists import ItemOrder, ItemPage, ItemsWanted, Span, WrongAnswerPage
from cloud_api.analytics.rows import ItemRow
from cloud_api.pages.classes.looks import asked_topic
from domain.errors import InvalidInput, Problem
from domain.ids import Id, dashed
from domain.learning.analytics.items import FLAG_SENTENCES, Flag

# What stands on one page, and the first questions that nobody pages beyond.
ITEMS_MAX, WRONG_ANSWERS_MAX = 50, 20
PAGES_MAX = 1_000
# Flagged questions that are shown with their answers at once.
OPEN_MAX = 3
# Flags in a few words, and the kind of their badge.
FLAGS = {
    Flag.CHECK_KEY: ("check the key", "bad"),
    Flag.WEAK: ("tells little", "waiting"),
    Flag.HARD: ("hard", "waiting"),
    Flag.EASY: ("easy", "plain"),
}
ORDERS: Mapping[ItemOrder, str] = {
    ItemOrder.LOOK: "To look at first",
    ItemOrder.HARDEST: "Hardest",
    ItemOrder.EASIEST: "Easiest",
    ItemOrder.WEAKEST: "Tell least",
    ItemOrder.MOST: "Most answered",
}


@dataclass(frozen=True, slots=True)
class QuestionsLook:
    """What the address of the page asks for; pages are counted from 1, one of questions and one of wrong answers."""

    topic: Id | None = None
    order: ItemOrder = ItemOrder.LOOK
    flagged: bool = False
    page: int = 1
    wrong_page: int = 1

    @property
    def wanted(self) -> ItemsWanted:
        return ItemsWanted(self.topic, None, self.flagged, self.order)

    @property
    def items(self) -> Span:
        return Span((self.page - 1) * ITEMS_MAX, ITEMS_MAX)

    @property
    def wrong(self) -> Span:
        return Span((self.wrong_page - 1) * WRONG_ANSWERS_MAX, WRONG_ANSWERS_MAX)

    def but(self, **changes: Any) -> str:
        """The query of the same look but for `changes`; what another choice lists begins at its first page: a topic is of both lists, all else of questions."""
        anew = {} if changes.keys() <= {"page", "wrong_page"} else {"page": 1, "wrong_page": 1} if "topic" in changes else {"page": 1}
        look = replace(self, **anew | changes)
        said = {
            "topic": dashed(look.topic) if look.topic else None,
            "order": str(look.order) if look.order is not ItemOrder.LOOK else None,
            "flagged": "true" if look.flagged else None,
            "page": look.page if look.page > 1 else None,
            "wrong": look.wrong_page if look.wrong_page > 1 else None,
        }
        given = {name: value for name, value in said.items() if value}
        return f"?{urlencode(given)}" if given else "?"


def read_questions_look(query: Mapping[str, str]) -> QuestionsLook:
    """From a query. Raises InvalidInput, and NotFound for a topic that can be none."""
    problems: list[Problem] = []

    def number(name: str) -> int:
        text = query.get(name, "1")
        if text.isascii() and text.isdecimal() and len(text) <= len(str(PAGES_MAX)) and 1 <= int(text) <= PAGES_MAX:
            return int(text)
        problems.append(Problem(f"$.{name}", "out_of_range", f"{name} must be a number from 1 to {PAGES_MAX}."))
        return 1

    def choice(name: str, values: tuple[str, ...]) -> str:
        if (text := query.get(name, values[0])) in values:
            return text
        problems.append(Problem(f"$.{name}", "invalid_value", f"{name} must be one of: {', '.join(values)}."))
        return values[0]

    look = QuestionsLook(
        asked_topic(query),
        ItemOrder(choice("order", tuple(ItemOrder))),
        choice("flagged", ("false", "true")) == "true",
        number("page"),
        number("wrong"),
    )
    if problems:
        raise InvalidInput(problems)
    return look


@dataclass(frozen=True, slots=True)
class QuestionsView:
    """A page of questions and a page of wrong answers."""

    look: QuestionsLook
    items: ItemPage
    wrong: WrongAnswerPage

    @property
    def item_pages(self) -> int:
        return -(-self.items.total // ITEMS_MAX)

    @property
    def wrong_pages(self) -> int:
        return -(-self.wrong.total // WRONG_ANSWERS_MAX)

    @property
    def open_max(self) -> int:
        """So many are open at once: the first of the first page, where flagged ones come first."""
        return OPEN_MAX if self.look.order is ItemOrder.LOOK and self.look.page == 1 else 0

    @staticmethod
    def flags(row: ItemRow) -> list[tuple[str, str, str]]:
        """(words, kind of badge, sentence) for each flag of a question."""
        return [(*FLAGS[flag], FLAG_SENTENCES[flag]) for flag in row.figures.flags]
