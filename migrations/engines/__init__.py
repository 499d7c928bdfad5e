"""The two databases as the runner needs them: opening, one process at a time, a transaction around a file, and its checks.

contract   what the runner asks of either
sqlite     a device's file
postgres   a school's database
"""

from __future__ import annotations

import os
from pathlib import Path

from domain.errors import InvalidConfig, Problem
from migrations.engines.contract import Engine, Limits, first_line
from migrations.engines.postgres import PostgresEngine, with_database
from migrations.engines.sqlite import SqliteEngine
from migrations.files import Kind

__all__ = ["Engine", "Limits", "PostgresEngine", "SqliteEngine", "first_line", "open_engine", "sqlite_path", "with_database"]


def open_engine(kind: Kind, url: str, limits: Limits) -> Engine:
    """The engine for `url`: `sqlite:///relative` or `sqlite:////absolute` for a device, `postgresql://…` for the cloud.

    Raises InvalidConfig for any other address; nothing is opened yet.
    """
    if kind == "device":
        return SqliteEngine(sqlite_path(url), limits)
    if not url.startswith(("postgresql://", "postgres://")):
        problem = Problem("DATABASE_URL", "invalid", "the cloud database is PostgreSQL, an address beginning with postgresql://")
        raise InvalidConfig("The database address", [problem])
    return PostgresEngine(url, limits)


def sqlite_path(url: str) -> Path:
    """The path in a `sqlite:///` address, in which ~ is the home folder. Raises InvalidConfig when there is none."""
    path = url.removeprefix("sqlite:///")
    if path == url or not path or path.startswith(":"):
        problem = Problem(
            "SQLITE_DATABASE_URL", "invalid", "a device's database is a SQLite file: sqlite:////absolute or sqlite:///relative"
        )
        raise InvalidConfig("The database address", [problem])
    return Path(os.path.expanduser(path))
