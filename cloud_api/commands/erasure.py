"""`carrel-cloud export` and `carrel-cloud erase`: what is held about one student, given out or gone for good."""

from __future__ import annotations

from pathlib import Path

import click

from cloud_api import audit
from cloud_api.commands.site import Options, Site, database_options, json_option, open_site, plain_id, show, time_text
from cloud_api.config import erasures_path
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.erasure import export, register
from cloud_api.erasure.erase import erase
from cloud_api.erasure.erase import write_anew as write_tables_anew
from cloud_api.erasure.holdings import counts, school_of
from cloud_api.erasure.orders import Standing, standings
from cloud_api.erasure.rewriting import Rewritten, rewrite
from cloud_api.people import display_name, find_user
from cloud_api.schools import find_school
from domain.counted import counted
from domain.errors import InvalidInput, NotFound, Problem
from migrations.waiting import waiting_on_stderr

school_of_name = click.option("--school", metavar="NAME|ID", help="The school, where the student is given by user name.")


@click.command(
    name="export",
    epilog="""\b
Examples:
  carrel-cloud export --school 'Hill School' --student ada --out /root/exports
  carrel-cloud export --student 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d""",
)
@database_options
@click.option("--student", required=True, metavar="ID|USERNAME", help="The student, by id, or by user name in the --school.")
@school_of_name
@click.option("--out", type=click.Path(path_type=Path, file_okay=False, exists=True), default=Path(), help="Where to; else here.")
@json_option
def export_student(options: Options, student: str, school: str | None, out: Path, as_json: bool) -> None:
    """Write down everything that is held about a student: JSON and CSV, in a folder that only this account can read."""
    with open_site(options) as site, site.database() as database:
        student_id = _meant(database, student, school)

        def run(cursor: Cursor) -> dict[str, export.Rows]:
            school_id = school_of(cursor, student_id)
            audit.record(cursor, school_id, site.ids.new(), site.clock.now_ms(), audit.OPERATOR, "student.exported", student_id)
            return export.gather(cursor, school_id, student_id, site.clock.now_ms())

        done = export.write(out, student_id, database.retrying(run), site.clock.now_ms())
    show({"path": str(done.path), "rows": done.rows}, as_json, [f"{done.path}: {_counted(done.rows)}"])


@click.command(
    name="erase",
    epilog="""\b
Examples:
  carrel-cloud erase --school 'Hill School' --student ada --dry-run
  carrel-cloud erase --student 0192f0c1d2e37a4b8c9d0e1f2a3b4c5d
  carrel-cloud erase --status""",
)
@database_options
@click.option("--student", metavar="ID|USERNAME", help="The student, by id, or by user name in the --school.")
@school_of_name
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--later", is_flag=True, help="Leave the rewriting of the tables to `carrel-cloud tidy`, at night perhaps.")
@click.option("--rewrite", "only_rewrite", is_flag=True, help="Write the tables anew, so that no byte of what was erased is left.")
@click.option("--status", "only_status", is_flag=True, help="Which devices have carried out which erasure, and which are silent.")
@json_option
def erase_student(
    options: Options,
    student: str | None,
    school: str | None,
    dry_run: bool,
    yes: bool,
    later: bool,
    only_rewrite: bool,
    only_status: bool,
    as_json: bool,
) -> None:
    """Erase a student: here, and through an order on every device. There is no way back.

    Backups that were made before still hold the student until they are deleted; restoring one erases again.
    """
    if (student is not None) + only_rewrite + only_status != 1:
        raise InvalidInput([Problem("--student", "invalid_value", "Give one of --student, --rewrite and --status.")])
    with open_site(options) as site, site.database() as database:
        if only_status:
            _show_status(site, database, as_json)
        elif student is None:
            _rewrite(site, database, as_json)
        else:
            _erase(site, database, _meant(database, student, school), dry_run=dry_run, yes=yes, later=later, as_json=as_json)


def _meant(database: CloudDatabase, student: str, school: str | None) -> str:
    """The id of the student. Raises NotFound: by user name, for those who have left too."""
    if school is None:
        try:
            return plain_id(student, "student")
        except NotFound as error:
            said = (
                "That is not the id of a student. Give --school as well, for a user name; or the id, which `carrel-cloud user list` shows."
            )
            raise NotFound(said) from error
    with database.transaction(read_only=True) as cursor:
        return find_user(cursor, find_school(cursor, school).id, student).id


def _erase(site: Site, database: CloudDatabase, student_id: str, *, dry_run: bool, yes: bool, later: bool, as_json: bool) -> None:
    with database.transaction(snapshot=True) as cursor:
        school_id = school_of(cursor, student_id)
        found, name = counts(cursor, school_id, student_id), display_name(cursor, school_id, student_id)
    if dry_run:
        show({"student_id": student_id, "rows": found}, as_json, [f"would go: {_counted(found)}"])
        return
    if not yes:
        click.confirm(
            f"Erase {name or 'this student'} here and on every device, {_counted(found)}? There is no way back.", abort=True, err=True
        )
    done = erase(database, site.clock, site.ids, school_id, student_id)
    register.complete(erasures_path(site.config), [done.entry])
    written = None if later else write_anew(site, database, as_json)
    backups = register.backups_beside(erasures_path(site.config))
    data = {
        "student_id": student_id,
        "rows": done.rows,
        "register": str(erasures_path(site.config)),
        "rewritten": written,
        "backups": [str(path) for path in backups],
    }
    advice = (
        ["The bytes of the rows stay in the tables' files until `carrel-cloud tidy`, or `carrel-cloud erase --rewrite`."] if later else []
    )
    lines = [
        f"erased: {_counted(done.rows)}",
        *_said_of(written),
        *advice,
        *(f"{path} still holds the student: make another backup and delete it." for path in backups),
        "`carrel-cloud erase --status` shows which devices have followed.",
    ]
    show(data, as_json, lines)


def _rewrite(site: Site, database: CloudDatabase, as_json: bool) -> None:
    written = write_anew(site, database, as_json)
    show(written, as_json, _said_of(written))


def write_anew(site: Site, database: CloudDatabase, as_json: bool) -> Rewritten:
    """Writes every table anew that may have held a student who was erased. Raises OperatorError."""
    with waiting_on_stderr(silent=as_json) as activity:
        return write_tables_anew(database, lambda tables: rewrite(site.url, tables, activity))


def _said_of(written: Rewritten | None) -> list[str]:
    if written is None:
        return []
    lines = [f"{counted(written.tables, 'table')} written anew"]
    if not written.log_ended:
        lines.append("PostgreSQL keeps older write-ahead logs: they hold the rows until it lets go of them (docs/security.md).")
    lines += [f"The database {name}, a copy of before, still holds the student: drop it." for name in written.copies]
    return lines


def _show_status(site: Site, database: CloudDatabase, as_json: bool) -> None:
    with database.transaction(snapshot=True) as cursor:
        found, known = standings(cursor), register.entries(cursor)
    register.complete(erasures_path(site.config), known)
    show(found, as_json, [line for standing in found for line in _status_lines(standing)] or ["nobody was erased"])


def _status_lines(standing: Standing) -> list[str]:
    head = f"student {standing.student_id}  erased {time_text(standing.erased_at_ms)}: {counted(standing.confirmed, 'device')} confirmed"
    return [f"{head}, {len(standing.waiting)} silent"] + [
        f"  {device.id}  {device.name}  {_seen(device.last_seen_ms)}{'  (revoked: it will never hear of it)' if device.revoked else ''}"
        for device in standing.waiting
    ]


def _seen(last_seen_ms: int | None) -> str:
    return f"last seen {time_text(last_seen_ms)}" if last_seen_ms else "not seen since it was enrolled"


def _counted(rows: dict[str, int]) -> str:
    return ", ".join(f"{count} of {table}" for table, count in rows.items()) or "nothing"
