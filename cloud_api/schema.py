"""Whether the database has the schema that this version works with."""

from __future__ import annotations

from functools import cache

import psycopg2.errors

from cloud_api.database import CloudDatabase
from domain.errors import SchemaError
from migrations.files import shipped_files
from migrations.history import HISTORY_TABLE


def applied_migration(database: CloudDatabase) -> str | None:
    """The name of the newest migration applied, None in a database without any. Raises Unavailable."""
    try:
        with database.transaction(read_only=True) as cursor:
            cursor.execute(f"SELECT name FROM {HISTORY_TABLE} ORDER BY id DESC LIMIT 1")
            row = cursor.fetchone()
    except psycopg2.errors.UndefinedTable:
        return None
    return str(row[0]) if row else None


def demand_schema(database: CloudDatabase) -> str:
    """The newest migration's name. Raises SchemaError unless it is the one that this version ships last, Unavailable."""
    applied = applied_migration(database)
    if applied == _latest():
        return applied
    if applied is None or applied < _latest():
        raise SchemaError("The database's schema is older than this version: run `carrel-migrate --db cloud upgrade`.")
    raise SchemaError("The database's schema is newer than this version: install the version that made it.")


@cache
def _latest() -> str:
    return shipped_files("cloud")[-1].name
