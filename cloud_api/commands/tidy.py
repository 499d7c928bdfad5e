"""`carrel-cloud tidy`."""

from __future__ import annotations

import click

from cloud_api.commands.erasure import write_anew
from cloud_api.commands.site import Options, database_options, json_option, open_site, show
from cloud_api.config import erasures_path
from cloud_api.erasure import register
from cloud_api.retention import Tidied, tidy


@click.command(
    name="tidy",
    epilog="""\b
Examples:
  carrel-cloud tidy
  carrel-cloud tidy --json""",
)
@database_options
@json_option
def tidy_server(options: Options, as_json: bool) -> None:
    """Let go of what is kept for a time only: for a timer, once a day.

    Old tombstones, expired codes, old entries of the audit log, places in logs that nobody continues; devices that were silent for years are
    revoked, students who left long ago erased, if that is wanted. How long each is kept is set in [cloud.retention].
    """
    with open_site(options) as site, site.database() as database:
        done = tidy(database, site.clock, site.ids, site.config.retention)
        if done.students_erased:
            with database.transaction(read_only=True) as cursor:
                known = register.entries(cursor)
            register.complete(erasures_path(site.config), known)
            write_anew(site, database, as_json)
    show(done, as_json, [_sentence(done)])


def _sentence(done: Tidied) -> str:
    counts = f"{done.tombstones} tombstones, {done.codes} codes and {done.incarnations} incarnations removed"
    erased = f", {done.students_erased} students erased" if done.students_erased else ""
    return f"{counts}; {done.devices_revoked} devices revoked{erased}{'; there is more to do' if done.more else ''}"
