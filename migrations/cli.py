"""`carrel-migrate`: migrate the device's database, the cloud's, or both."""

from __future__ import annotations

from pathlib import Path

import click

from migrations.commands.databases import Databases, address_options
from migrations.commands.move import downgrade, stamp, upgrade
from migrations.commands.show import check, current, history
from migrations.commands.write import create


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@address_options
@click.pass_context
def main(context: click.Context, db: str | None, sqlite: Path | None, url: str | None) -> None:
    """Bring Carrel's databases to the schema of this version, and back."""
    context.obj = Databases(db, sqlite, url)


for command in (upgrade, downgrade, current, history, stamp, check, create):
    main.add_command(command)

if __name__ == "__main__":
    main()
