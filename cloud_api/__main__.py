"""`carrel-cloud`, and `python -m cloud_api`."""

from __future__ import annotations

from collections.abc import Callable

from migrations.beginning import begun


def main() -> None:
    """Imports the command line, and runs it."""
    begun(_load)


def _load() -> Callable[[], object]:
    from cloud_api import cli

    return cli.main


if __name__ == "__main__":
    main()
