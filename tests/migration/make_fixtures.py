"""Writes tests/migration/fixtures: `python -m tests.migration.make_fixtures`.

For each migration file shipped, a database that stands at it, with rows in every table, as a text dump. Files that are there stay as they
are: a released schema does not change, and its dump is what proves that. `--again` writes the newest anew, until it is released.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import psycopg2

from migrations.dump import find_tools
from migrations.files import Kind, shipped_files
from migrations.runner import open_migrations
from tests.migration.populate import populate_cloud, populate_device
from tests.support.postgres import running_server, temporary_database

FOLDER = Path(__file__).parent / "fixtures"
# psql's own commands, and settings that a server of another version may not know.
_NOT_SQL = re.compile(r"^(\\.*|SET .*;|SELECT pg_catalog\.set_config.*;|--.*|)\n", re.MULTILINE)


def fixture_path(kind: Kind, name: str) -> Path:
    """`device_0001.sql`: by the number, which a name is known by."""
    return FOLDER / f"{kind}_{name[:4]}.sql"


def device_dump(name: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "carrel.db"
        with open_migrations("device", f"sqlite:///{path}") as migrations:
            migrations.upgrade(name)
        with closing(sqlite3.connect(path)) as connection:
            with connection:
                populate_device(connection)
            return "\n".join(connection.iterdump()) + "\n"


def cloud_dump(name: str) -> str:
    with running_server() as server, temporary_database(server) as url:
        with open_migrations("cloud", url) as migrations:
            migrations.upgrade(name)
        with closing(psycopg2.connect(url, options="-c carrel.every_school=on")) as connection:
            populate_cloud(connection)
            major = connection.info.server_version // 10_000
        command: list[str | Path] = [
            find_tools(major) / "pg_dump",
            "--inserts",
            "--enable-row-security",
            "--no-owner",
            "--no-privileges",
            f"--dbname={url}",
        ]
        environ = os.environ | {"PGOPTIONS": "-c carrel.every_school=on"}
        text = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, timeout=60).stdout
    return _NOT_SQL.sub("", text)


def main() -> None:
    again = "--again" in sys.argv
    for kind, dump in (("device", device_dump), ("cloud", cloud_dump)):
        files = shipped_files(kind)  # type: ignore[arg-type]
        for file in files:
            path = fixture_path(kind, file.name)  # type: ignore[arg-type]
            if not path.exists() or (again and file is files[-1]):
                path.write_text(dump(file.name))
                print(path.name)


if __name__ == "__main__":
    main()
