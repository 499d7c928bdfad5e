"""Whether a device's database is up to date, asked with sqlite3 alone.

peewee-migrate brings unittest.mock and asyncio with it: 3 MB beside everything a daemon imports anyway, and kept for its whole life.
Asked here, nearly every start does without; the rare upgrade can be left to a process that ends.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from domain.errors import CarrelError
from migrations.begun import note_path
from migrations.files import MigrationFile, shipped_files
from migrations.history import HISTORY_TABLE
from migrations.private_files import real_path
from migrations.sqlite_copy import reading_live

BUSY_TIMEOUT_S = 5.0


def device_is_current(path: Path, files: tuple[MigrationFile, ...] | None = None) -> bool:
    """Whether the database at `path` has exactly the migrations shipped (or `files`), unaltered and in order, and no upgrade is under way.

    False for everything else, also for a file that is missing, newer or unreadable: the upgrade then says in a sentence what is
    wrong. Never creates or changes the file. An upgrade that was broken off counts as under way until another has settled it: who served
    before that might see new rows go when it is put back.
    """
    path = real_path(path)
    try:
        if not path.is_file() or note_path(path).exists():
            return False
        expected = [(file.name, file.checksum) for file in (shipped_files("device") if files is None else files)]
        with reading_live(path, BUSY_TIMEOUT_S) as connection:
            applied = connection.execute(f"SELECT name, checksum FROM {HISTORY_TABLE} ORDER BY id").fetchall()
    except (sqlite3.Error, OSError, CarrelError):
        return False
    return applied == expected
