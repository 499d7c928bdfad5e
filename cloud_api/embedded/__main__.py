"""`python -m cloud_api.embedded remove DATA_DIR`: delete a server's data, wherever `reachable_folder` has put it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cloud_api.embedded.account import reachable_folder
from cloud_api.embedded.server import remove_data
from domain.errors import OperatorError


@click.group()
def main() -> None:
    """The embedded PostgreSQL."""


@main.command()
@click.argument("data_dir", type=click.Path(path_type=Path))
def remove(data_dir: Path) -> None:
    """Delete the data under DATA_DIR; refused while a server runs over it."""
    try:
        remove_data(reachable_folder(data_dir))
    except OperatorError as error:
        click.echo(f"carrel: {error.message}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
