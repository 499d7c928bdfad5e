"""`python init_db.py`, installed `python -m migrations.commands.init`: both databases straight from the models, for development."""

from __future__ import annotations

from pathlib import Path

import click

from migrations.commands.databases import Databases, address_options, as_json_option
from migrations.commands.report import Run, on_each


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@address_options
@as_json_option
def init_db(db: str | None, sqlite: Path | None, url: str | None, as_json: bool) -> None:
    """Fill empty databases straight from the models and stamp them at head, for development.

    Both unless --db names one. The result is what all migrations make; a school's databases are made by `carrel-migrate upgrade`.
    """
    on_each(Databases(db or "all", sqlite, url).chosen, as_json, _init)


def _init(run: Run) -> None:
    from migrations.runner import open_migrations
    from migrations.schema.models import MODELS, load_models

    with run.during("filling"), open_migrations(run.kind, run.address) as migrations:
        migrations.init(load_models(MODELS[run.kind]))
        run.report["current"] = migrations.current()
    run.say(f"made from the models, stamped at {run.report['current']}")


if __name__ == "__main__":
    init_db()
