"""`carrel-cloud audit`: what was written down of who did what."""

from __future__ import annotations

import json

import click

from cloud_api import audit as log
from cloud_api import schools
from cloud_api.commands.site import Options, database_options, json_option, open_site, plain_id, school_option, show, time_text
from migrations.commands.groups import Group

LIMIT_DEFAULT = 50


@click.group(cls=Group)
def audit() -> None:
    """What was done that a school may have to answer for: by ids, never by names."""


@audit.command(
    name="list",
    epilog="""\b
Examples:
  carrel-cloud audit list --school 'Hill School' --action student.read
  carrel-cloud audit list --school 'Hill School' --about 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d --json""",
)
@database_options
@school_option
@click.option("--about", metavar="ID", help="Only what was done to or by this person, device or other thing.")
@click.option("--action", help="Only this, such as student.read.")
@click.option("--limit", type=click.IntRange(1, log.LIMIT_MAX), default=LIMIT_DEFAULT, show_default=True)
@json_option
def list_entries(options: Options, school: str, about: str | None, action: str | None, limit: int, as_json: bool) -> None:
    """Show what was written down, newest first."""
    about_id = plain_id(about, "person or device") if about else None
    with open_site(options) as site, site.database() as database, database.transaction(snapshot=True) as cursor:
        found = log.entries(cursor, schools.find_school(cursor, school).id, about=about_id, action=action, limit=limit)
    show(found, as_json, [_line(entry) for entry in found] or ["no entries"])


def _line(entry: log.Entry) -> str:
    detail = "" if entry.detail is None else json.dumps(entry.detail, ensure_ascii=False)
    return "  ".join(filter(None, (time_text(entry.at_ms), entry.action, entry.actor, entry.subject, detail)))
