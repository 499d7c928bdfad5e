"""`carrel-cloud plan`: what the school says about its students' plans."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

from cloud_api import people, plan_rules, schools
from cloud_api.commands.site import Options, database_options, id_argument, json_option, open_site, school_option, show
from cloud_api.database import Cursor
from cloud_api.plan_rules import DAY_OFF, EXCLUDE, PIN, NewRule, PlanRule
from domain.errors import InvalidInput, Problem
from migrations.commands.groups import Group


@click.group(cls=Group)
def plan() -> None:
    """Pins, exclusions and days off: what study plans have to respect. Devices plan by them from their next sync on."""


class _Day(click.DateTime):
    """A day, refused in words of people."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail("A day is given as year-month-day, like 2026-03-09.", param, ctx)


_day = _Day(formats=["%Y-%m-%d"])
_class = click.option("--class", "class_name", metavar="NAME", help="For every student of the class, whoever joins it later included.")
_student = click.option("--student", metavar="USERNAME", help="For this student.")


@plan.command(epilog="\b\nExample: carrel-cloud plan pin 'solve linear equations' --class 7b --on 2026-03-09 --school 'Hill School'")
@database_options
@click.argument("concept")
@school_option
@_class
@_student
@click.option("--on", type=_day, metavar="YYYY-MM-DD", help="The day to study it (else as soon as there is time).")
def pin(options: Options, concept: str, school: str, class_name: str | None, student: str | None, on: datetime | None) -> None:
    """Have a concept studied, after what it needs. CONCEPT is a title or an external id."""
    day = on.date() if on else None
    _add(options, school, class_name, student, lambda cursor, id_: [NewRule(PIN, plan_rules.find_concept(cursor, id_, concept), day)])


@plan.command(epilog="\b\nExample: carrel-cloud plan exclude 'solve linear equations' --student ada --school 'Hill School'")
@database_options
@click.argument("concept")
@school_option
@_class
@_student
def exclude(options: Options, concept: str, school: str, class_name: str | None, student: str | None) -> None:
    """Leave a concept out of plans, and out of what they aim at. CONCEPT is a title or an external id."""
    _add(options, school, class_name, student, lambda cursor, id_: [NewRule(EXCLUDE, plan_rules.find_concept(cursor, id_, concept))])


@plan.command(name="day-off", epilog="\b\nExample: carrel-cloud plan day-off 2026-04-03 2026-04-06 --class 7b --school 'Hill School'")
@database_options
@click.argument("days", type=_day, nargs=-1, required=True, metavar="YYYY-MM-DD...")
@school_option
@_class
@_student
def day_off(options: Options, days: tuple[datetime, ...], school: str, class_name: str | None, student: str | None) -> None:
    """Keep DAYS free of study. Students' own days off stand in their profiles."""
    _add(options, school, class_name, student, lambda _cursor, _id: [NewRule(DAY_OFF, None, day.date()) for day in days])


@plan.command(name="rules", epilog="\b\nExample: carrel-cloud plan rules --class 7b --school 'Hill School'")
@database_options
@school_option
@_class
@_student
@json_option
def rules(options: Options, school: str, class_name: str | None, student: str | None, as_json: bool) -> None:
    """Show what was said."""
    with open_site(options) as site, site.database() as database, database.transaction(snapshot=True) as cursor:
        school_id = schools.find_school(cursor, school).id
        found = plan_rules.list_rules(cursor, school_id, _students(cursor, school_id, class_name, student))
    show(found, as_json, [_line(rule) for rule in found] or ["no rules"])


@plan.command(name="remove", epilog="\b\nExample: carrel-cloud plan remove 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d --school 'Hill School'")
@database_options
@id_argument("rule_id")
@school_option
def remove(options: Options, rule_id: str, school: str) -> None:
    """Take a rule back."""
    with open_site(options) as site, site.database() as database:
        with database.transaction(read_only=True) as cursor:
            school_id = schools.find_school(cursor, school).id
        database.retrying(lambda cursor: plan_rules.remove_rules(cursor, site.ids, school_id, [rule_id], site.clock.now_ms()))
    click.echo("removed")


def _add(
    options: Options, school: str, class_name: str | None, student: str | None, rules_of: Callable[[Cursor, str], list[NewRule]]
) -> None:
    with open_site(options) as site, site.database() as database:

        def add(cursor: Cursor) -> Any:
            school_id = schools.find_school(cursor, school).id
            students = _students(cursor, school_id, class_name, student)
            class_id = people.find_class(cursor, school_id, class_name) if class_name else None
            new, now_ms = rules_of(cursor, school_id), site.clock.now_ms()
            return plan_rules.add_rules(cursor, site.ids, school_id, students, new, now_ms, class_id=class_id)

        added = database.retrying(add)
    click.echo(f"{added} added" if added else "nothing to add: it was said before")


def _students(cursor: Cursor, school_id: str, class_name: str | None, student: str | None) -> list[str]:
    if (class_name is None) == (student is None):
        raise InvalidInput([Problem("--class", "invalid_value", "Say either --class or --student.")])
    if student is not None:
        user = people.find_user(cursor, school_id, student)
        return [user.id] if user.role == "student" else []
    return plan_rules.students_of(cursor, school_id, people.find_class(cursor, school_id, class_name or ""))


def _line(rule: PlanRule) -> str:
    made = f"  by {rule.created_by}" if rule.created_by else ""
    return f"{rule.id}  {rule.student:16} {rule.kind:8} {rule.day or '':10}  {rule.concept or ''}".rstrip() + made
