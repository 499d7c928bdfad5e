"""Giving a place to fields that newer peers sent before this schema had a column for them (docs/protocol.md, "Versions and clocks").

A migration that adds a synced column calls one of these after it: what waited in `_extra` moves into the column. Rows keep their feed numbers,
because nothing changes for whoever has them.
"""

from __future__ import annotations

from typing import Any


def adopt_extra_on_device(migrator: Any, table: str, column: str) -> None:
    """Moves `_extra.column` into the new column of a SQLite table. JSON values stay JSON text; `_extra` goes when nothing is left in it."""
    path = f"'$.{column}'"
    migrator.sql(
        f"UPDATE {table} SET {column} = json_extract(_extra, {path}), _extra = nullif(json_remove(_extra, {path}), '{{}}')"
        f" WHERE json_type(_extra, {path}) IS NOT NULL"
    )


def adopt_extra_on_cloud(migrator: Any, table: str, column: str, sql_type: str) -> None:
    """The same for a PostgreSQL table; `sql_type` is the column's type."""
    value = f"_extra -> '{column}'" if sql_type == "jsonb" else f"(_extra ->> '{column}')::{sql_type}"
    # jsonb_exists is the function behind the operator `?`, which database drivers take for a placeholder.
    migrator.sql(
        f"UPDATE {table} SET {column} = {value}, _extra = nullif(_extra - '{column}', '{{}}'::jsonb) WHERE jsonb_exists(_extra, '{column}')"
    )
