"""`carrel-migrate`: migrate the device's database, the cloud's, or both.

The runner, and with it peewee, is imported by the commands that need it: `--help` must answer at once, and on a device without
psycopg2.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from domain.errors import CarrelError, InvalidConfig, Problem
from migrations.files import Kind

if TYPE_CHECKING:
    from migrations.history import HistoryEntry
    from migrations.runner import Applied, Migrations, Progress

Report = dict[str, Any]
Work = Callable[["Migrations", Report], None]
Show = Callable[[Report], None]


class Databases(NamedTuple):
    """Which databases a command is for, and the addresses given on the command line."""

    choice: str | None
    sqlite: Path | None
    url: str | None

    def chosen(self) -> list[tuple[Kind, str]]:
        """(kind, address) of each database. Raises InvalidConfig with every address that is missing."""
        if self.choice is None:
            raise click.UsageError("Say which database: --db device, --db cloud or --db all.")
        addresses: dict[Kind, str | None] = {}
        if self.choice != "cloud":
            addresses["device"] = f"sqlite:///{self.sqlite}" if self.sqlite else os.environ.get("SQLITE_DATABASE_URL")
        if self.choice != "device":
            addresses["cloud"] = self.url or os.environ.get("DATABASE_URL")
        if problems := [_MISSING[kind] for kind, address in addresses.items() if not address]:
            raise InvalidConfig("The choice of databases", problems)
        return [(kind, address) for kind, address in addresses.items() if address]


_MISSING: dict[Kind, Problem] = {
    "device": Problem("device", "missing", "give --sqlite PATH, or set SQLITE_DATABASE_URL to sqlite:////absolute/path."),
    "cloud": Problem("cloud", "missing", "give --url postgresql://…, or set DATABASE_URL to it."),
}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--db", type=click.Choice(["device", "cloud", "all"]), help="Which database to work on.")
@click.option("--sqlite", type=click.Path(path_type=Path), help="The device's database file; otherwise SQLITE_DATABASE_URL.")
@click.option("--url", help="The cloud's database, postgresql://…; otherwise DATABASE_URL.")
@click.pass_context
def main(context: click.Context, db: str | None, sqlite: Path | None, url: str | None) -> None:
    """Bring Carrel's databases to the schema of this version, and back."""
    context.obj = Databases(db, sqlite, url)


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON array with an object for each database.")


@main.command()
@click.argument("target", default="head")
@as_json
@click.pass_obj
def upgrade(databases: Databases, target: str, as_json: bool) -> None:
    """Apply pending migrations up to TARGET: head (the default), +N, or a migration's name."""

    def work(migrations: Migrations, report: Report) -> None:
        migrations.upgrade(target, _reporter(report, as_json))
        report["current"] = migrations.current()

    _run(databases, as_json, work, _show_current)


# Without ignore_unknown_options, "-1" would be read as an option.
@main.command(context_settings={"ignore_unknown_options": True})
@click.argument("target", default="-1")
@as_json
@click.pass_obj
def downgrade(databases: Databases, target: str, as_json: bool) -> None:
    """Take migrations back, newest first, to TARGET: -N (by default -1), or the name of the migration to end at."""

    def work(migrations: Migrations, report: Report) -> None:
        migrations.downgrade(target, _reporter(report, as_json))
        report["current"] = migrations.current()

    _run(databases, as_json, work, _show_current)


@main.command()
@as_json
@click.pass_obj
def current(databases: Databases, as_json: bool) -> None:
    """Show the newest migration applied, and how many are pending."""

    def work(migrations: Migrations, report: Report) -> None:
        report["current"] = migrations.current()
        report["pending"] = migrations.pending()

    def show(report: Report) -> None:
        click.echo(f"{report['db']}: at {report['current'] or 'nothing'}, {len(report['pending'])} pending")

    _run(databases, as_json, work, show)


@main.command()
@as_json
@click.pass_obj
def history(databases: Databases, as_json: bool) -> None:
    """List every migration: applied, pending, altered (edited after it was applied) or missing (applied, but not shipped)."""

    def work(migrations: Migrations, report: Report) -> None:
        report["migrations"] = [_entry(entry) for entry in migrations.history()]

    def show(report: Report) -> None:
        for entry in report["migrations"]:
            by = f"  {entry['duration_ms']} ms, by {entry['app_version']}" if entry["applied_at_ms"] is not None else ""
            click.echo(f"{report['db']}: {entry['state']:8} {entry['name']}{by}")

    _run(databases, as_json, work, show)


def _run(databases: Databases, as_json: bool, work: Work, show: Show) -> None:
    """Do `work` on each database in turn, show its report, and end the process with the first error's exit code."""
    reports: list[Report] = []
    exit_code = 0
    try:
        for kind, url in databases.chosen():
            reports.append({"db": kind})
            _work_on(kind, url, work, reports[-1])
            if not as_json:
                show(reports[-1])
    except CarrelError as error:
        exit_code = error.exit_code
        if not as_json:
            click.echo(f"carrel-migrate: {error.message}", err=True)
        reports = reports or [{}]
        reports[-1]["error"] = {"code": error.code, "message": error.message}
    if as_json:
        click.echo(json.dumps(reports))
    sys.exit(exit_code)


def _work_on(kind: Kind, url: str, work: Work, report: Report) -> None:
    from migrations.runner import open_migrations

    with open_migrations(kind, url) as migrations:
        work(migrations, report)


def _reporter(report: Report, as_json: bool) -> Callable[[Progress], None]:
    """Collects what was done, so that it is told even when a later file fails, and says what is going on to a person who waits."""
    steps: list[Report] = report.setdefault("steps", [])

    def tell(progress: Progress) -> None:
        if progress.done is None:
            if not as_json and sys.stderr.isatty():
                click.echo(f"{report['db']}: {progress.name} ({progress.position} of {progress.total}) …", err=True)
            return
        steps.append(asdict(progress.done))
        if not as_json:
            click.echo(_step_line(report["db"], progress.done))

    return tell


def _step_line(db: str, step: Applied) -> str:
    verb = "applied" if step.direction == "up" else "taken back"
    return f"{db}: {step.name} {verb} in {step.duration_ms} ms"


def _show_current(report: Report) -> None:
    nothing = "" if report["steps"] else "nothing to do, "
    click.echo(f"{report['db']}: {nothing}at {report['current'] or 'nothing'}")


def _entry(entry: HistoryEntry) -> Report:
    columns = ("applied_at_ms", "duration_ms", "app_version")
    return {"name": entry.name, "state": entry.state} | {column: getattr(entry.row, column, None) for column in columns}


if __name__ == "__main__":
    main()
