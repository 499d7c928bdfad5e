"""`carrel-migrate`: migrate the device's database, the cloud's, or both."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from domain.errors import EXIT_INTERRUPTED
from migrations.commands.databases import Databases, address_options
from migrations.commands.groups import Group
from migrations.commands.move import downgrade, stamp, upgrade
from migrations.commands.show import check, current, history
from migrations.commands.write import create


class _Commands(Group):
    """Says of Ctrl-C what shells say, and what was in hand."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("carrel-migrate: Interrupted; `carrel-migrate current` says how far it came.", err=True)
            sys.exit(EXIT_INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="carrel", prog_name="carrel-migrate")
@address_options
@click.pass_context
def main(context: click.Context, db: str | None, sqlite: Path | None, url: str | None) -> None:
    """Bring Carrel's databases to the schema of this version, and back."""
    context.obj = Databases(db, sqlite, url)


for command in (upgrade, downgrade, current, history, stamp, check, create):
    main.add_command(command)

if __name__ == "__main__":
    main()
