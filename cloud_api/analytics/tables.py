"""The tables of a class by name: how each is read, and how it is told as JSON and as CSV. Routes and commands have them from here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from cloud_api.analytics import csv_tables, messages, telling
from cloud_api.analytics.class_figures import ClassFigures
from cloud_api.analytics.csv_tables import Table


class Kind(NamedTuple):
    """One table: its rows for (figures, school, class), a row and a page (total, offset, rows) of them as messages, all of them as CSV."""

    rows: Callable[[ClassFigures, str, str], Sequence[Any]]
    message: Callable[[Any], Any]
    page: Callable[[int, int, list[Any]], Any]
    table: Callable[[Sequence[Any]], Table]


TABLES: dict[str, Kind] = {
    "needs-help": Kind(ClassFigures.needs_help, telling.need, messages.NeedsHelpPage, csv_tables.needs_help),
    "items": Kind(ClassFigures.items, telling.item, messages.ItemsPage, csv_tables.items),
    "wrong-answers": Kind(ClassFigures.wrong_answers, telling.wrong_answer, messages.WrongAnswersPage, csv_tables.wrong_answers),
    "time": Kind(ClassFigures.time, telling.time, messages.TimePage, csv_tables.time),
    "curves": Kind(ClassFigures.curves, telling.curve, messages.CurvesPage, csv_tables.curves),
    "groups": Kind(ClassFigures.groups, telling.group, messages.GroupsPage, csv_tables.groups),
    "off-plan": Kind(ClassFigures.off_plan, telling.off_plan, messages.OffPlanPage, csv_tables.off_plan),
}
# The heat map is a table as well, but of another shape.
MASTERY = "mastery"
