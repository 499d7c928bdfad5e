"""`carrel-cloud class`: the figures of a class."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click
import msgspec

from cloud_api.analytics import csv_tables, telling
from cloud_api.analytics.class_figures import ClassFigures
from cloud_api.analytics.csv_tables import write_csv
from cloud_api.analytics.keep_up import recount
from cloud_api.analytics.question_lists import ItemsWanted, Span
from cloud_api.analytics.roster import STUDENTS_MAX
from cloud_api.analytics.rows import Overview
from cloud_api.analytics.tables import MASTERY, TABLES
from cloud_api.commands.site import Options, database_options, json_option, open_site, school_option, show, time_text
from cloud_api.database import CloudDatabase
from cloud_api.people import find_class
from cloud_api.schools import find_school
from domain.counted import counted
from domain.ids import Id
from domain.learning.levels import Level
from migrations.commands.groups import Group

# Lines that the report shows of a table.
LINES_MAX = 10
_LEVELS = (Level.NOT_ENOUGH_EVIDENCE, Level.ATTEMPTED, Level.FAMILIAR, Level.PROFICIENT, Level.MASTERED)


@click.group(name="class", cls=Group)
def class_() -> None:
    """The figures of a class."""


@class_.command(epilog="\b\nExample: carrel-cloud class report --school 'Hill School' --class 7b")
@database_options
@school_option
@click.option("--class", "class_name", required=True, metavar="NAME", help="The class.")
@click.option("--table", type=click.Choice((MASTERY, *TABLES)), default=MASTERY, show_default=True, help="The table that --csv prints.")
@click.option("--csv", "as_csv", is_flag=True, help="Print one table as CSV.")
@json_option
def report(options: Options, school: str, class_name: str, table: str, as_csv: bool, as_json: bool) -> None:
    """Show where a class stands: mastery by student, who needs help, who is off plan, which questions to look at."""
    with open_site(options) as site, site.database() as database:
        school_id, class_id = _find(database, school, class_name)
        figures = ClassFigures(database, site.clock, site.ids)
        if as_csv:
            click.echo(_csv(figures, table, school_id, class_id), nl=False)
        elif as_json:
            click.echo(msgspec.json.format(msgspec.json.encode(_everything(figures, school_id, class_id)), indent=2))
        else:
            _print_report(figures, school_id, class_id)


@class_.command(name="recount", epilog="\b\nExample: carrel-cloud class recount --school 'Hill School'")
@database_options
@school_option
@json_option
def recount_school(options: Options, school: str, as_json: bool) -> None:
    """Make the figures of all classes of a school anew from its attempts.

    They are kept up by themselves. What was counted from attempts that are no longer kept is lost by this.
    """
    with open_site(options) as site, site.database() as database:
        with database.transaction(read_only=True) as cursor:
            school_id = find_school(cursor, school).id
        students = recount(database, school_id)
    show({"students": students}, as_json, [f"Counted {counted(students, 'student')} anew."])


def _find(database: CloudDatabase, school: str, class_name: str) -> tuple[Id, Id]:
    with database.transaction(read_only=True) as cursor:
        school_id = find_school(cursor, school).id
        return school_id, find_class(cursor, school_id, class_name)


def _csv(figures: ClassFigures, table: str, school_id: str, class_id: str) -> str:
    if table == MASTERY:
        return write_csv(csv_tables.mastery(figures.overview(school_id, class_id)))
    kind = TABLES[table]
    return write_csv(kind.table(kind.read(figures, school_id, class_id, Span()).rows))


def _everything(figures: ClassFigures, school_id: str, class_id: str) -> dict[str, Any]:
    """Every table by name, as the API tells them."""
    tables = {name: [kind.message(row) for row in kind.read(figures, school_id, class_id, Span()).rows] for name, kind in TABLES.items()}
    return {MASTERY: telling.class_mastery(figures.overview(school_id, class_id), 0, STUDENTS_MAX), **tables}


def _print_report(figures: ClassFigures, school_id: str, class_id: str) -> None:
    overview = figures.overview(school_id, class_id)
    click.echo(f"{overview.name}: {counted(len(overview.students), 'student')}, {counted(len(overview.concepts), 'concept')}")
    for line in _mastery_lines(overview):
        click.echo(line)
    needs = [f"{n.display_name}: {' '.join(r.sentence for r in n.reasons)}" for n in figures.needs_help(school_id, class_id)]
    off = [
        f"{o.display_name}: {o.standing.behind_minutes} of {o.standing.due_minutes} min not done"
        for o in figures.off_plan(school_id, class_id)
    ]
    flagged = figures.items(school_id, class_id, ItemsWanted(flagged=True)).rows
    items = [f"{' '.join(i.figures.flags)}: {i.stem[:80]}" for i in flagged]
    for title, lines in (("Need help", needs), ("Off plan", off), ("Questions to look at", items)):
        _print_part(title, lines)


def _mastery_lines(overview: Overview) -> list[str]:
    """A line a student: concepts by level, and how old that is."""
    lines = []
    for row in overview.students:
        counts = Counter(cell.level for cell in row.cells.values())
        levels = ", ".join(f"{counts[level]} {level.value.replace('_', ' ')}" for level in _LEVELS if counts[level]) or "no answers"
        age = time_text(row.data_age.last_sync_ms) if row.data_age.last_sync_ms else "never"
        lines.append(f"  {row.display_name:24} {levels} (last sync: {age})")
    return lines


def _print_part(title: str, lines: list[str]) -> None:
    click.echo(f"{title}: {len(lines) or 'none'}")
    for line in lines[:LINES_MAX]:
        click.echo(f"  {line}")
    if len(lines) > LINES_MAX:
        click.echo(f"  and {len(lines) - LINES_MAX} more")
