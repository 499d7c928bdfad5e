"""current, history, check."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from migrations.commands.databases import Databases, as_json_option, models_option, scratch_option
from migrations.commands.report import EXIT_FOUND, Report, Run, on_each

if TYPE_CHECKING:
    from migrations.history import HistoryRow


@click.command()
@as_json_option
@click.pass_obj
def current(databases: Databases, as_json: bool) -> None:
    """Show the newest migration applied, when, by which version and how long it took, and how many are pending."""
    on_each(databases.chosen, as_json, _current)


def _current(run: Run) -> None:
    from migrations.runner import open_migrations

    with open_migrations(run.kind, run.address) as migrations:
        rows = migrations.applied()
        run.report["current"] = rows[-1].name if rows else None
        run.report["applied"] = rows[-1]._asdict() if rows else None
        run.report["pending"] = migrations.pending()
    run.say(f"at {run.report['current'] or 'nothing'}, {len(run.report['pending'])} pending")
    if rows:
        run.say(f"  {_details(rows[-1]._asdict())}")


@click.command()
@as_json_option
@click.pass_obj
def history(databases: Databases, as_json: bool) -> None:
    """List every migration: applied, pending, altered (edited after it was applied) or missing (applied, but not shipped)."""
    on_each(databases.chosen, as_json, _history)


def _history(run: Run) -> None:
    from migrations.runner import open_migrations

    with open_migrations(run.kind, run.address) as migrations:
        entries = [_entry(entry.name, entry.state, entry.row) for entry in migrations.history()]
    run.report["migrations"] = entries
    for entry in entries:
        details = "" if entry["applied_at_ms"] is None else f"  {_details(entry)}"
        run.say(f"{entry['state']:8} {entry['name']}{details}")


def _entry(name: str, state: str, row: HistoryRow | None) -> Report:
    columns = ("applied_at_ms", "duration_ms", "app_version", "checksum")
    return {"name": name, "state": state} | {column: getattr(row, column, None) for column in columns}


def _details(row: dict[str, Any]) -> str:
    applied_at = datetime.fromtimestamp(row["applied_at_ms"] / 1000, UTC)
    return f"{applied_at:%Y-%m-%d %H:%M:%S} UTC, by {row['app_version']}, in {row['duration_ms']} ms, checksum {row['checksum']}"


@click.command()
@models_option
@scratch_option
@as_json_option
@click.pass_obj
def check(databases: Databases, models: str | None, scratch_url: str | None, as_json: bool) -> None:
    """Compare the database with its history, the files with the models and with what travels; end with 1 if anything differs."""
    on_each(databases.chosen, as_json, lambda run: _check(run, models, scratch_url))


def _check(run: Run, models: str | None, scratch_url: str | None) -> None:
    from migrations.check import check as find
    from migrations.runner import open_migrations
    from migrations.schema.models import MODELS, load_models
    from migrations.scratch import scratch_for

    with (
        run.during("comparing"),
        open_migrations(run.kind, run.address) as migrations,
        scratch_for(run.kind, scratch_url or run.address) as scratch,
    ):
        findings = find(run.kind, migrations, load_models(models or MODELS[run.kind]), scratch)
    run.report["differences"] = [finding._asdict() for finding in findings]
    run.exit_code = EXIT_FOUND if findings else 0
    for finding in findings:
        run.say(f"{finding.source}: {finding.text}")
    run.say(f"{len(findings)} differences" if findings else "database, history, files, models and registry agree")
