"""The questions of a class as a page shows them: those to look at first, as many as a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cloud_api.analytics.rows import ItemRow, WrongAnswerRow
from domain.learning.analytics.items import FLAG_SENTENCES, Flag

# What stands on the page; the CSV has all.
ITEMS_MAX, WRONG_ANSWERS_MAX = 50, 20
# Flagged questions that are shown with their answers at once.
OPEN_MAX = 3
# Flags in a few words, and the kind of their badge.
FLAGS = {
    Flag.CHECK_KEY: ("check the key", "bad"),
    Flag.WEAK: ("tells little", "waiting"),
    Flag.HARD: ("hard", "waiting"),
    Flag.EASY: ("easy", "plain"),
}


@dataclass(frozen=True, slots=True)
class QuestionsView:
    """`items` and `wrong` are the first of `items_total` and `wrong_total`; `flagged` counts among all."""

    items: Sequence[ItemRow]
    items_total: int
    flagged: int
    wrong: Sequence[WrongAnswerRow]
    wrong_total: int

    @property
    def open_max(self) -> int:
        return OPEN_MAX

    @staticmethod
    def flags(row: ItemRow) -> list[tuple[str, str, str]]:
        """(words, kind of badge, sentence) for each flag of a question."""
        return [(*FLAGS[flag], FLAG_SENTENCES[flag]) for flag in row.figures.flags]


def question_views(items: Sequence[ItemRow], wrong: Sequence[WrongAnswerRow]) -> QuestionsView:
    """Both tables, cut to what a page holds; they come flagged and confident ones first."""
    flagged = sum(bool(row.figures.flags) for row in items)
    return QuestionsView(items[:ITEMS_MAX], len(items), flagged, wrong[:WRONG_ANSWERS_MAX], len(wrong))
