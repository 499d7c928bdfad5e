"""Migration folders made for one test, and a database of each kind to apply them to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peewee as pw
import pytest

from migrations.engines import Limits
from migrations.files import Kind
from migrations.runner import Migrations, open_migrations
from migrations.schema.description import Schema
from migrations.scratch import device_scratch, server_scratch

TABLES = "SELECT name FROM sqlite_master WHERE type = 'table'", "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"


@dataclass
class Folder:
    """A folder of migration files."""

    path: Path

    def add(self, name: str, up: Sequence[str], down: Sequence[str] | None = (), extra: str = "") -> None:
        """A file that runs the statements `up`, and `down` to take it back; no rollback() when `down` is None."""
        text = f"{extra}\n\n{_function('migrate', up)}"
        self.write(name, text if down is None else text + _function("rollback", down))

    def write(self, name: str, text: str) -> None:
        (self.path / f"{name}.py").write_text(text)

    def add_tables(self, *numbers: int) -> None:
        """For each number n the file `000n_table_n`, which makes the table `table_n`."""
        for number in numbers:
            table = f"table_{number}"
            self.add(f"{number:04}_{table}", [f"CREATE TABLE {table} (id INTEGER PRIMARY KEY)"], [f"DROP TABLE {table}"])


def _function(name: str, statements: Sequence[str]) -> str:
    lines = [f"    migrator.sql({statement!r})\n" for statement in statements] or ["    pass\n"]
    return f"def {name}(migrator, database, *, fake=False):\n{''.join(lines)}\n\n"


@dataclass
class Target:
    """A database to migrate, and a second connection to look at it with."""

    kind: Kind
    url: str
    folder: Folder
    limits: Limits = field(default_factory=Limits)

    def open(self, **options: Any) -> AbstractContextManager[Migrations]:
        return open_migrations(self.kind, self.url, folder=self.folder.path, limits=self.limits, **options)

    def upgrade(self, target: str = "head") -> list[str]:
        with self.open() as migrations:
            return [step.name for step in migrations.upgrade(target)]

    def downgrade(self, target: str) -> list[str]:
        with self.open() as migrations:
            return [step.name for step in migrations.downgrade(target)]

    def current(self) -> str | None:
        with self.open() as migrations:
            return migrations.current()

    @contextmanager
    def connected(self) -> Iterator[Callable[[str], list[tuple[Any, ...]]]]:
        """Runs statements over one connection and gives their rows, if there are any."""
        database: Any = (
            pw.SqliteDatabase(self.url.removeprefix("sqlite:///"), pragmas={"foreign_keys": 1})
            if self.kind == "device"
            else pw.PostgresqlDatabase(self.url, options="-c carrel.every_school=on")
        )

        def sql(statement: str) -> list[tuple[Any, ...]]:
            cursor = database.execute_sql(statement)
            return list(cursor.fetchall()) if cursor.description else []

        try:
            yield sql
        finally:
            database.close()

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement over a connection of its own; its rows, if it gives any."""
        with self.connected() as sql:
            return sql(statement)

    def scratch(self) -> AbstractContextManager[str]:
        """The address of an empty database of the same engine, for the length of a block."""
        return device_scratch() if self.kind == "device" else server_scratch(self.url)()

    def schema(self) -> Schema:
        with self.open() as migrations:
            return migrations.schema()

    def tables(self) -> set[str]:
        """The tables there are, beside the history."""
        return {name for (name,) in self.sql(TABLES[self.kind == "cloud"])} - {"migration_history", "sqlite_sequence"}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    path = tmp_path / "files"
    path.mkdir()
    return Folder(path)


@pytest.fixture
def device(tmp_path: Path, folder: Folder) -> Target:
    return Target("device", f"sqlite:///{tmp_path / 'carrel.db'}", folder)


@pytest.fixture
def cloud(fresh_database: str, folder: Folder) -> Target:
    return Target("cloud", fresh_database, folder)


@pytest.fixture(params=["device", "cloud"])
def target(request: pytest.FixtureRequest) -> Target:
    """Each kind of database in turn."""
    chosen: Target = request.getfixturevalue(request.param)
    return chosen
