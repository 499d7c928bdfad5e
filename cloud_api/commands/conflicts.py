"""`carrel-cloud conflicts`: values that lost a merge, and bringing them back."""

from __future__ import annotations

import json
from typing import Any

import click

from cloud_api import people, schools
from cloud_api.commands.site import Options, database_options, id_argument, json_option, open_site, school_option, show, time_text
from cloud_api.repair import conflicts as stored
from domain.merge import Rule
from migrations.commands.groups import Group

LIMIT_DEFAULT = 50

_WHY: dict[str, str] = {
    Rule.LATER: "the other was set later",
    Rule.TEACHER_FIRST: "in this field the school's word comes first",
    Rule.DELETED: "the row was deleted",
}


@click.group(cls=Group)
def conflicts() -> None:
    """Values that lost against another when devices and school met."""


@conflicts.command(name="list", epilog="\b\nExample: carrel-cloud conflicts list --school 'Hill School' --student ada")
@database_options
@school_option
@click.option("--student", metavar="USERNAME", help="Only this student's.")
@click.option("--restored", is_flag=True, help="Those that were restored as well.")
@click.option("--limit", type=click.IntRange(1, stored.LIMIT_MAX), default=LIMIT_DEFAULT, show_default=True)
@json_option
def list_conflicts(options: Options, school: str, student: str | None, restored: bool, limit: int, as_json: bool) -> None:
    """Show the values that lost, newest first."""
    with open_site(options) as site, site.database() as database, database.transaction(snapshot=True) as cursor:
        school_id = schools.find_school(cursor, school).id
        student_id = people.find_user(cursor, school_id, student).id if student else None
        found = stored.list_conflicts(cursor, school_id, student_id=student_id, restored=restored, limit=limit)
    show(found, as_json, [_line(c) for c in found] or ["no conflicts"])


@conflicts.command(name="show", epilog="\b\nExample: carrel-cloud conflicts show --school 'Hill School' 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d")
@database_options
@school_option
@id_argument("conflict_id")
@json_option
def show_conflict(options: Options, school: str, conflict_id: str, as_json: bool) -> None:
    """Show one conflict, and what stands in its field now."""
    with open_site(options) as site, site.database() as database, database.transaction(snapshot=True) as cursor:
        school_id = schools.find_school(cursor, school).id
        found = stored.find_conflict(cursor, school_id, conflict_id)
        present = stored.present_value(cursor, school_id, found)
    lines = [
        _line(found),
        f"  row: {found.table} {found.row_id}",
        f"  lost: {_text(found.lost)} of {found.lost_by or 'nobody'}, because {_WHY.get(found.rule, found.rule)}",
        f"  kept: {_text(found.kept)} of {found.kept_by or 'nobody'}",
        f"  who wrote it last had seen: {_text(found.base)}",
        f"  now: {_text(present)}",
    ]
    show({"conflict": found, "present": present}, as_json, lines)


@conflicts.command(
    name="restore", epilog="\b\nExample: carrel-cloud conflicts restore --school 'Hill School' 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d"
)
@database_options
@school_option
@id_argument("conflict_id")
@json_option
def restore_value(options: Options, school: str, conflict_id: str, as_json: bool) -> None:
    """Make a lost value the school's word. It goes to the student's devices; what it replaces becomes a conflict in its turn."""
    with open_site(options) as site, site.database() as database:
        done = database.retrying(
            lambda cursor: stored.restore(cursor, site.ids, schools.find_school(cursor, school).id, conflict_id, site.clock.now_ms())
        )
    show(done, as_json, [f"{done.field} of {done.username or done.student_id} is {_text(done.lost)} again"])


def _line(c: stored.LostValue) -> str:
    state = f"  restored {time_text(c.restored_at_ms)}" if c.restored_at_ms else ""
    who = c.username or c.student_id
    return f"{c.id}  {time_text(c.created_at_ms)}  {who}  {c.field}: lost {_text(c.lost)}, kept {_text(c.kept)} ({c.rule}){state}"


def _text(value: Any) -> str:
    return "nothing" if value is None else json.dumps(value, ensure_ascii=False)
