"""upgrade, downgrade, stamp."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from domain.errors import OperatorError
from migrations.commands.databases import Databases, as_json_option
from migrations.commands.report import Run, on_each

if TYPE_CHECKING:
    from migrations.backup import Backup
    from migrations.history import Direction

sql_option = click.option("--sql", "as_sql", is_flag=True, help="Print the SQL that would run, and run nothing.")
backup_option = click.option(
    "--backup", "dump_folder", metavar="FOLDER", type=click.Path(path_type=Path, file_okay=False),
    help="Dump a cloud database into this folder first. A device's file that holds data is always backed up, beside itself.",
)  # fmt: skip


@click.command()
@click.argument("target", default="head")
@sql_option
@backup_option
@as_json_option
@click.pass_obj
def upgrade(databases: Databases, target: str, as_sql: bool, dump_folder: Path | None, as_json: bool) -> None:
    """Apply pending migrations up to TARGET: head (the default), +N, or a migration's name."""
    on_each(databases.chosen, as_json, lambda run: _move(run, "up", target, as_sql, dump_folder))


# Without ignore_unknown_options, "-1" would be read as an option.
@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("target", default="-1")
@sql_option
@backup_option
@click.option("--yes", is_flag=True, help="Do not ask, on a terminal, before the first migration is taken back as well.")
@as_json_option
@click.pass_obj
def downgrade(databases: Databases, target: str, as_sql: bool, dump_folder: Path | None, yes: bool, as_json: bool) -> None:
    """Take migrations back, newest first, to TARGET: -N (by default -1), or the name of the migration to end at."""

    def work(run: Run) -> None:
        if not (yes or as_sql or as_json) and sys.stdin.isatty():
            _ask_before_nothing_is_left(run, target)
        _move(run, "down", target, as_sql, dump_folder)

    on_each(databases.chosen, as_json, work)


def _ask_before_nothing_is_left(run: Run, target: str) -> None:
    """Raises OperatorError unless a person agrees, where the downgrade would drop all that there is."""
    from migrations.runner import open_migrations

    with open_migrations(run.kind, run.address) as migrations:
        everything = len(migrations.downgrade_plan(target)) == len(migrations.applied()) > 0
    question = f"{run.kind}: take back every migration? All tables go, with the rows in them"
    if everything and not click.confirm(question, err=True):
        raise OperatorError("Nothing was changed.")


def _move(run: Run, direction: Direction, target: str, as_sql: bool, dump_folder: Path | None) -> None:
    if as_sql:
        _print_sql(run, direction, target)
        return
    from migrations.runner import open_migrations

    def tell_backup(backup: Backup) -> None:
        run.report["backup"] = {"path": str(backup.path), "size_bytes": backup.size_bytes}
        run.say(f"backed up to {backup.path}")

    run.report["steps"] = []
    with open_migrations(run.kind, run.address, dump_folder=dump_folder, tell_backup=tell_backup, activity=run) as migrations:
        if direction == "up":
            migrations.upgrade(target, run.progress)
        else:
            migrations.downgrade(target, run.progress)
        run.report["current"] = migrations.current()
    nothing = "" if run.report["steps"] else "nothing to do, "
    run.say(f"{nothing}at {run.report['current'] or 'nothing'}")


def _print_sql(run: Run, direction: Direction, target: str) -> None:
    from migrations.preview import sql_of

    with run.during("working out the SQL"):
        lines = list(sql_of(run.kind, run.address, direction=direction, target=target))
    if run.as_json:
        run.report["sql"] = lines
    else:
        click.echo("\n".join(lines))


@click.command()
@click.argument("target", default="head")
@click.option("--yes", is_flag=True, help="Do not ask before rows of the history are dropped.")
@as_json_option
@click.pass_obj
def stamp(databases: Databases, target: str, yes: bool, as_json: bool) -> None:
    """Write into the history that exactly the files up to TARGET, head or a migration's name, are applied; run nothing."""
    on_each(databases.chosen, as_json, lambda run: _stamp(run, target, yes))


def _stamp(run: Run, target: str, yes: bool) -> None:
    from migrations.runner import open_migrations

    with open_migrations(run.kind, run.address) as migrations:
        planned = migrations.stamp_plan(target)
        if planned.drop and not yes:
            _ask(run, planned.drop)
        done = migrations.stamp(target, planned.drop)
        run.report |= {"dropped": done.drop, "recorded": done.record, "current": migrations.current()}
    for verb, names in (("dropped from", done.drop), ("recorded in", done.record)):
        for name in names:
            run.say(f"{name} {verb} the history")
    run.say(f"stamped at {run.report['current']}")


def _ask(run: Run, names: tuple[str, ...]) -> None:
    """Raises OperatorError unless a person agrees."""
    question = f"{run.kind}: drop {', '.join(names)} from the history? What they did to the database stays"
    if run.as_json or not click.confirm(question, err=True):
        raise OperatorError("Nothing was changed: rows of the history would be dropped; --yes agrees to that.")
