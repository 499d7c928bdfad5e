"""Running a script of `sql_of` as an operator would, and a picture of a database to compare."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cloud_api.embedded.binaries import find_binaries
from tests.migration.conftest import Target

# How long a migration took and when it ran is not part of what it leaves.
HISTORY = "SELECT name, checksum, app_version FROM migration_history ORDER BY id"
SQLITE_SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2"
POSTGRES_SCHEMA = (
    "SELECT 'column', table_name::text, column_name::text, concat_ws(' ', data_type, is_nullable, column_default)"
    " FROM information_schema.columns WHERE table_schema = 'public'"
    " UNION ALL SELECT 'index', tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    " UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid) || convalidated"
    "  FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND contype <> 'n'"
    " UNION ALL SELECT 'trigger', tgrelid::regclass::text, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal"
    " ORDER BY 1, 2, 3, 4"
)


def run_script(target: Target, lines: list[str]) -> None:
    """With psql, or with SQLite as its shell would: the shell's own commands begin with a dot."""
    if target.kind == "device":
        with closing(sqlite3.connect(target.url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
            connection.executescript("\n".join(line for line in lines if not line.startswith(".")))
        return
    script = "\n".join(lines) + "\n"
    command = [str(find_binaries() / "psql"), "--no-psqlrc", "--quiet", "--dbname", target.url]
    done = subprocess.run(command, input=script, text=True, capture_output=True, timeout=60, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr


def picture(target: Target) -> dict[str, Any]:
    """Schema, history and the rows of every table, comparable between two databases of a kind."""
    rows = {table: sorted(map(repr, target.sql(f"SELECT * FROM {table}"))) for table in sorted(target.tables())}
    schema = target.sql(SQLITE_SCHEMA if target.kind == "device" else POSTGRES_SCHEMA)
    history = target.sql(HISTORY) if any("migration_history" in str(row) for row in schema) else []
    return {"schema": schema, "history": history, "rows": rows}


def database_name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def sqlite_copy(target: Target, path: Path) -> Target:
    """A copy of a device's database."""
    with closing(sqlite3.connect(target.url.removeprefix("sqlite:///"))) as source, closing(sqlite3.connect(path)) as copy:
        source.backup(copy)
    return Target("device", f"sqlite:///{path}", target.folder)
