"""Which databases a command is for, and their addresses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import click

from domain.errors import InvalidConfig, Problem
from migrations.files import Kind


class Databases(NamedTuple):
    """The choice of databases, and the addresses given on the command line."""

    choice: str | None
    sqlite: Path | None
    url: str | None

    def kinds(self) -> list[Kind]:
        """The kinds chosen. Raises click.UsageError without a choice."""
        if self.choice is None:
            raise click.UsageError("Say which database: --db device, --db cloud or --db all.")
        kinds: list[Kind] = ["device", "cloud"]
        return [kind for kind in kinds if self.choice in (kind, "all")]

    def address(self, kind: Kind) -> str | None:
        """The address of one kind, from the command line or the environment; None when there is none."""
        if kind == "cloud":
            return self.url or os.environ.get("DATABASE_URL") or None
        return f"sqlite:///{self.sqlite}" if self.sqlite else os.environ.get("SQLITE_DATABASE_URL") or None

    def chosen(self) -> list[tuple[Kind, str]]:
        """(kind, address) of each database. Raises InvalidConfig with every address that is missing."""
        addresses = [(kind, self.address(kind)) for kind in self.kinds()]
        if problems := [_MISSING[kind] for kind, address in addresses if not address]:
            raise InvalidConfig("The choice of databases", problems)
        return [(kind, address) for kind, address in addresses if address]


_MISSING: dict[Kind, Problem] = {
    "device": Problem("device", "missing", "give --sqlite PATH, or set SQLITE_DATABASE_URL to sqlite:////absolute/path."),
    "cloud": Problem("cloud", "missing", "give --url postgresql://…, or set DATABASE_URL to it."),
}


def address_options(command: Any) -> Any:
    """The options --db, --sqlite and --url."""
    options = (
        click.option("--db", type=click.Choice(["device", "cloud", "all"]), help="Which database to work on."),
        click.option("--sqlite", type=click.Path(path_type=Path), help="The device's database file; otherwise SQLITE_DATABASE_URL."),
        click.option("--url", help="The cloud's database, postgresql://…; otherwise DATABASE_URL."),
    )
    for option in reversed(options):
        command = option(command)
    return command


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON array with an object for each database.")
scratch_option = click.option(
    "--scratch-url",
    metavar="URL",
    help="The PostgreSQL server on which scratch databases are made; otherwise that of the cloud's database.",
)
models_option = click.option(
    "--models", metavar="MODULE:NAME", help="The models to compare with, for one kind of database; otherwise those of this version."
)
