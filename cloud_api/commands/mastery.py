"""`carrel-cloud mastery`."""

from __future__ import annotations

import click

from cloud_api import mastery as storage
from cloud_api.commands.site import Options, database_options, json_option, open_site, school_option, show
from cloud_api.people import find_class
from cloud_api.schools import find_school


@click.command(epilog="Example: carrel-cloud mastery --school 'Hill School' --class 7b")
@database_options
@school_option
@click.option("--class", "class_name", required=True, metavar="NAME", help="The class.")
@json_option
def mastery(options: Options, school: str, class_name: str, as_json: bool) -> None:
    """Show what the students of a class have mastered, from all attempts that have reached the server."""
    with open_site(options) as site, site.database() as database:
        with database.transaction(read_only=True) as cursor:
            school_id = find_school(cursor, school).id
            class_id = find_class(cursor, school_id, class_name)
        rows = database.retrying(lambda cursor: storage.of_class(cursor, school_id, class_id, site.clock.now_ms()))
    lines = [f"{r.display_name:24} {r.concept[:40]:40} {r.score:6.2f}  {r.level:20} {r.attempts:>5} answers" for r in rows]
    show(rows, as_json, lines or ["No attempts yet."])
