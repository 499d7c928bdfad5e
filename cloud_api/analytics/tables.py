"""The tables of a class by name: how each is read, and how it is told as JSON and as CSV. Routes and commands have them from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cloud_api.analytics import csv_tables, messages, telling
from cloud_api.analytics.class_figures import ClassFigures
from cloud_api.analytics.csv_tables import Table
from cloud_api.analytics.question_lists import ItemsWanted, Span


class Listed(NamedTuple):
    """Rows of a table, out of so many."""

    total: int
    rows: Sequence[Any]


# The rows of a table within a span, for (figures, school, class).
Read = Callable[[ClassFigures, str, str, Span], Listed]


class Kind(NamedTuple):
    """One table: how it is read, a row and a page (total, offset, rows) of them as messages, rows as CSV."""

    read: Read
    message: Callable[[Any], Any]
    page: Callable[[int, int, list[Any]], Any]
    table: Callable[[Sequence[Any]], Table]


def _whole(rows: Callable[[ClassFigures, str, str], Sequence[Any]]) -> Read:
    """Of a table that is worked out whole: it has no more rows than the class has students or the course concepts."""

    def read(figures: ClassFigures, school_id: str, class_id: str, span: Span) -> Listed:
        found = rows(figures, school_id, class_id)
        return Listed(len(found), span.of(found))

    return read


def read_items(wanted: ItemsWanted) -> Read:
    """Item analysis of the questions wanted."""

    def read(figures: ClassFigures, school_id: str, class_id: str, span: Span) -> Listed:
        page = figures.items(school_id, class_id, wanted, span)
        return Listed(page.total, page.rows)

    return read


def _read_wrong_answers(figures: ClassFigures, school_id: str, class_id: str, span: Span) -> Listed:
    page = figures.wrong_answers(school_id, class_id, span)
    return Listed(page.total, page.rows)


TABLES: dict[str, Kind] = {
    "needs-help": Kind(_whole(ClassFigures.needs_help), telling.need, messages.NeedsHelpPage, csv_tables.needs_help),
    "items": Kind(read_items(ItemsWanted()), telling.item, messages.ItemsPage, csv_tables.items),
    "wrong-answers": Kind(_read_wrong_answers, telling.wrong_answer, messages.WrongAnswersPage, csv_tables.wrong_answers),
    "time": Kind(_whole(ClassFigures.time), telling.time, messages.TimePage, csv_tables.time),
    "curves": Kind(_whole(ClassFigures.curves), telling.curve, messages.CurvesPage, csv_tables.curves),
    "groups": Kind(_whole(ClassFigures.groups), telling.group, messages.GroupsPage, csv_tables.groups),
    "off-plan": Kind(_whole(ClassFigures.off_plan), telling.off_plan, messages.OffPlanPage, csv_tables.off_plan),
    "out-of-reach": Kind(_whole(ClassFigures.out_of_reach), telling.out_of_reach, messages.OutOfReachPage, csv_tables.out_of_reach),
}
# The heat map is a table as well, but of another shape.
MASTERY = "mastery"
