"""Whether a device's database is up to date, asked with sqlite3 alone.

peewee-migrate brings unittest.mock and asyncio with it: 3 MB beside everything a daemon imports anyway, and kept for its whole life.
Asked here, nearly every start does without; the rare upgrade can be left to a process that ends.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from domain.errors import CarrelError
from migrations.files import MigrationFile, shipped_files
from migrations.history import HISTORY_TABLE

BUSY_TIMEOUT_S = 5.0


def device_is_current(path: Path, files: tuple[MigrationFile, ...] | None = None) -> bool:
    """Whether the database at `path` has exactly the migrations shipped (or `files`), unaltered and in order.

    False for everything else, also for a file that is missing, newer or unreadable: the upgrade then says in a sentence what is
    wrong. Never creates or changes the file.
    """
    if not path.is_file():
        return False
    try:
        expected = [(file.name, file.checksum) for file in (shipped_files("device") if files is None else files)]
        # mode=rw, because a read-only connection cannot open a WAL database whose -shm file is gone; it does not create the database.
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S)) as connection:
            connection.execute("PRAGMA query_only = ON")
            applied = connection.execute(f"SELECT name, checksum FROM {HISTORY_TABLE} ORDER BY id").fetchall()
    except (sqlite3.Error, CarrelError):
        return False
    return applied == expected
