"""`carrel-cloud tidy`."""

from __future__ import annotations

import click

from cloud_api.analytics.keep_up import keep_up_school
from cloud_api.commands.erasure import write_anew
from cloud_api.commands.site import Options, Site, database_options, json_option, keep_withdrawals, open_site, show
from cloud_api.config import erasures_path
from cloud_api.database import CloudDatabase
from cloud_api.erasure import answers, register
from cloud_api.erasure.erase import unwritten
from cloud_api.erasure.rewriting import Rewritten, rewrite
from cloud_api.retention import Tidied, tidy
from cloud_api.schools import list_schools
from domain.counted import counted
from migrations.waiting import waiting_on_stderr


@click.command(
    name="tidy",
    epilog="""\b
Examples:
  carrel-cloud tidy
  carrel-cloud tidy --json""",
)
@database_options
@click.option("--clock-is-right", is_flag=True, help="Go on though something speaks against this server's clock.")
@json_option
def tidy_server(options: Options, clock_is_right: bool, as_json: bool) -> None:
    """Let go of what is kept for a time only: for a timer, once a day.

    Old tombstones, expired codes, old entries of the audit log, places in logs that nobody continues; devices that were silent for years are
    revoked, students who left long ago erased and old answers let go of, if that is wanted. How long each is kept is set in [cloud.retention].
    """
    with open_site(options) as site, site.database() as database:
        done = tidy(database, site.clock, site.ids, site.config.retention, clock_is_right=clock_is_right)
        keep_withdrawals(site, database)
        _keep_erasures(site, database)
        if _erasures_to_write(database):
            write_anew(site, database, as_json)
        with waiting_on_stderr(silent=as_json) as activity:
            if rewritten := answers.write_anew(database, lambda tables: rewrite(site.url, tables, activity)):
                _count_anew(database)
                for line in _kept_by(rewritten):
                    click.echo(line, err=True)
    show(done, as_json, [_sentence(done)])


def _keep_erasures(site: Site, database: CloudDatabase) -> None:
    """Has the register hold every erasure, also those of a run that was killed before it could. Raises OperatorError."""
    with database.transaction(read_only=True) as cursor:
        known = register.entries(cursor)
    if known:
        register.complete(erasures_path(site.config), known)


def _erasures_to_write(database: CloudDatabase) -> bool:
    """Whether somebody was erased since the tables were written anew: in this run, in one that was killed, or by hand and for later."""
    with database.transaction(read_only=True) as cursor:
        return bool(unwritten(cursor))


def _kept_by(rewritten: Rewritten) -> list[str]:
    """Where answers that were let go of still are, by which nobody but a person may be rid of them."""
    logs = ["PostgreSQL keeps older write-ahead logs: they hold old answers until it lets go of them (docs/security.md)."]
    copies = [f"The database {name}, a copy of before, still holds old answers: drop it." for name in rewritten.copies]
    return [*(logs if not rewritten.log_ended else []), *copies]


def _count_anew(database: CloudDatabase) -> None:
    """Figures of classes without what was let go of: whoever looks at a class does not have to wait for it."""
    with database.transaction(read_only=True) as cursor:
        schools = [school.id for school in list_schools(cursor)]
    for school_id in schools:
        keep_up_school(database, school_id)


def _sentence(done: Tidied) -> str:
    counts = (
        f"{counted(done.tombstones, 'tombstone')}, {counted(done.codes, 'code')} and {counted(done.incarnations, 'incarnation')} removed"
    )
    erased = f", {counted(done.students_erased, 'student')} erased" if done.students_erased else ""
    answers = f", {counted(done.answers, 'answer')} let go of" if done.answers else ""
    return f"{counts}; {counted(done.devices_revoked, 'device')} revoked{erased}{answers}{'; there is more to do' if done.more else ''}"
