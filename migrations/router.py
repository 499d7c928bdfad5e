"""peewee-migrate, with its traps closed: runs, replays and records one migration file.

What peewee-migrate 2.3 does on its own, and what stands against it here:

    switches foreign keys off inside the transaction, where SQLite ignores it       off before BEGIN, checked before COMMIT (engines)
    one history class per process, so two databases mix their histories             a class of its own for each router
    replays applied files with Database.execute_sql mocked in the whole process     no mock; the body's own database refuses queries
    an unknown or applied target migrates to head                                   targets are resolved first (history)
    a missing or edited file, a late low number, a newer database                   the history must be a prefix of the files (history)
    a missing rollback() deletes the history row and changes nothing                refused before anything runs
    after a failure the same router keeps the failed operations                     a new router for every file and every attempt
    processes that start together collide                                           one at a time, the others find it done (lock)
    always a transaction, so no CREATE INDEX CONCURRENTLY                           ATOMIC = False: operation by operation
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from types import CodeType
from typing import Any

import peewee as pw
from peewee_migrate.migrator import Migrator
from peewee_migrate.router import BaseRouter

from domain.clock import Clock
from domain.errors import SchemaError
from migrations.engines import Engine
from migrations.files import MigrationFile
from migrations.history import HISTORY_TABLE, app_version


class SafeRouter(BaseRouter):
    """peewee-migrate's router over the files given, for one file's run. Used only under the engine's lock."""

    def __init__(self, engine: Engine, files: Sequence[MigrationFile], clock: Clock) -> None:
        super().__init__(engine.database, migrate_table=HISTORY_TABLE)
        self.engine = engine
        self.files = {file.name: file for file in files}
        self.clock = clock
        self.in_parts = False  # whether operations have run outside a transaction, so that a failure leaves some behind

    @cached_property
    def model(self) -> Any:
        """The history table's model, of this router alone; the table is made on first use."""

        class History(pw.Model):
            name = pw.CharField(unique=True)
            checksum = pw.CharField()
            applied_at_ms = pw.BigIntegerField()
            duration_ms = pw.BigIntegerField()
            app_version = pw.CharField()

            class Meta:
                database = self.database
                table_name = self.migrate_table

        History.create_table(safe=True)
        return History

    @property
    def todo(self) -> list[str]:
        """The names of all files, in order."""
        return list(self.files)

    def scope(self, name: str) -> dict[str, Any]:
        """The names a file defines, from a fresh run of its top level. Raises SchemaError when it has no migrate()."""
        scope: dict[str, Any] = {"__name__": name}
        exec(_compiled(self.files[name]), scope)  # noqa: S102  # a shipped file; importing it would keep it for good
        if not callable(scope.get("migrate")):
            raise SchemaError(f"{name} has no migrate().")
        return scope

    def reason_against_rollback(self, name: str) -> str | None:
        """Why a file cannot be taken back, or None."""
        scope = self.scope(name)
        if scope.get("IRREVERSIBLE"):
            return str(scope["IRREVERSIBLE"])
        return None if callable(scope.get("rollback")) else "it has no rollback()"

    def run_one(self, name: str, migrator: Migrator, *, fake: bool = True, downgrade: bool = False, force: bool = False) -> str:
        """Replay a file (`fake`) or run it. `force` records a replayed file as applied."""
        scope = self.scope(name)
        if fake:
            self._declare(name, scope["migrate"], migrator, fake=True)
            migrator.__ops__ = []
            if force:
                self.record(name)
            return name
        body = scope["rollback" if downgrade else "migrate"]
        atomic = scope.get("ATOMIC", True)
        started_ms = self.clock.monotonic_ms()
        with self.engine.atomic() if atomic else self.engine.piecewise(self.files[name]):
            self._declare(name, body, migrator, fake=False)
            if atomic:
                migrator()
            else:
                self.in_parts = True
                _run_one_by_one(migrator)
            self.engine.check()
            if downgrade:
                self.forget(name)
            else:
                self.record(name, self.clock.monotonic_ms() - started_ms)
        return name

    def _declare(self, name: str, body: Callable[..., None], migrator: Migrator, *, fake: bool) -> None:
        migrator.__ops__ = []
        with self.engine.database.declaration(name):
            body(migrator, self.database, fake=fake)

    def record(self, name: str, duration_ms: int = 0) -> None:
        """Write into the history that the file is applied, in the transaction of the caller."""
        self.model.create(
            name=name,
            checksum=self.files[name].checksum,
            applied_at_ms=self.clock.now_ms(),
            duration_ms=duration_ms,
            app_version=app_version(),
        )

    def forget(self, name: str) -> None:
        """Take a migration out of the history, in the transaction of the caller."""
        self.model.delete().where(self.model.name == name).execute()


@cache
def _compiled(file: MigrationFile) -> CodeType:
    return compile(file.source, f"{file.name}.py", "exec", dont_inherit=True)


def _run_one_by_one(migrator: Migrator) -> None:
    for operation in migrator.__ops__:
        operation.run() if hasattr(operation, "run") else operation()
