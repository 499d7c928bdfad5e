"""Applies migration files and takes them back: peewee-migrate, with its traps closed.

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

import importlib.metadata
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources.abc import Traversable
from pathlib import Path
from types import CodeType
from typing import Any, Literal, NamedTuple

import peewee as pw
from peewee_migrate.migrator import Migrator
from peewee_migrate.router import BaseRouter

from domain.clock import Clock, SystemClock
from domain.errors import CarrelError, SchemaError, Unavailable
from migrations.backup import TellBackup, protected
from migrations.engines import Engine, Limits, SqliteEngine, first_line, open_engine
from migrations.files import Kind, MigrationFile, files_in, shipped_files
from migrations.history import (
    HEAD,
    HISTORY_TABLE,
    HistoryEntry,
    HistoryRow,
    StampPlan,
    demand_prefix,
    entries,
    names_to_apply,
    names_to_revert,
    plan_stamp,
)
from migrations.schema.description import Schema
from migrations.schema.models import ModelSet

Direction = Literal["up", "down"]


@dataclass(frozen=True)
class Applied:
    """One migration that was applied (`up`) or taken back (`down`)."""

    name: str
    direction: Direction
    duration_ms: int


class Progress(NamedTuple):
    """Told before each file, with `done` None, and after it. `position` counts from 1 to `total`."""

    name: str
    position: int
    total: int
    done: Applied | None


ProgressCallback = Callable[[Progress], None]
# Surrounds what one upgrade or downgrade runs; told the newest migration applied before.
Protection = Callable[[str | None], AbstractContextManager[None]]


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


class Migrations:
    """The migrations of one database. Made by `open_migrations`; the methods are called by one thread."""

    def __init__(
        self, engine: Engine, files: Sequence[MigrationFile], limits: Limits, clock: Clock, protection: Protection | None = None
    ) -> None:
        self._engine = engine
        self._files = tuple(files)
        self._limits = limits
        self._clock = clock
        self._protection = protection or (lambda _: nullcontext())

    def current(self) -> str | None:
        """The name of the newest migration applied, or None."""
        rows = self._rows()
        return rows[-1].name if rows else None

    def history(self) -> list[HistoryEntry]:
        """Every migration that is applied or shipped, with its state; refuses nothing, since it is what shows what is wrong."""
        return entries(self._rows(), self._files)

    def pending(self) -> list[str]:
        """The names of the files to apply, in order. Raises SchemaError when the history is not a prefix of the files."""
        rows = self._rows()
        demand_prefix(rows, self._files)
        return names_to_apply(rows, self._files, HEAD)

    def upgrade(self, target: str = HEAD, progress: ProgressCallback | None = None) -> list[Applied]:
        """Apply the pending files up to `target`: `head`, `+N` or a file's name. Returns what was applied, in order.

        Each file is one transaction, history row included; files before a failed one stay applied. Raises SchemaError, AlreadyRunning
        when another process migrates for too long, Unavailable when table locks could not be had, OperatorError when the
        database cannot be opened.
        """
        with self._engine.locked():
            rows = self._rows()
            demand_prefix(rows, self._files)
            return self._run_all(rows, names_to_apply(rows, self._files, target), "up", progress)

    def downgrade(self, target: str, progress: ProgressCallback | None = None) -> list[Applied]:
        """Take back migrations, newest first: `-N`, or a file's name to end at. Returns what was taken back, in order.

        Raises as `upgrade` does; a file that cannot be taken back is refused before any other is.
        """
        if not self._engine.exists():
            raise SchemaError("There is no database to take a migration back from.")
        with self._engine.locked():
            rows = self._rows()
            demand_prefix(rows, self._files)
            names = names_to_revert(rows, target)
            self._demand_reversible(names)
            return self._run_all(rows, names, "down", progress)

    def stamp_plan(self, target: str) -> StampPlan:
        """What `stamp` would change in the history, so that a person can be asked. Raises SchemaError for an unknown name."""
        return plan_stamp(self._rows(), self._files, target)

    def stamp(self, target: str = HEAD, may_drop: Collection[str] = ()) -> StampPlan:
        """Write into the history that exactly the files up to `target` (`head` or a name) are applied, and run nothing.

        `may_drop`: the rows of history that the caller agreed to lose (from `stamp_plan`). Returns what was changed. Raises
        SchemaError for an unknown name, for a database that does not exist, and when other rows than `may_drop` would be lost.
        """
        if not self._engine.exists():
            raise SchemaError("There is no database to stamp.")
        with self._engine.locked():
            plan = self.stamp_plan(target)
            if lost := [name for name in plan.drop if name not in may_drop]:
                raise SchemaError(f"Stamping {target} would take {', '.join(lost)} out of the history, which nobody agreed to.")
            router = self._router()
            with self._engine.atomic():
                for name in plan.drop:
                    router.forget(name)
                for name in plan.record:
                    router.record(name)
        return plan

    def init(self, models: ModelSet) -> None:
        """Fill an empty database straight from the models and stamp it at head, in one transaction.

        Raises SchemaError when there is anything in the database, OperatorError when the models do not make a schema.
        """
        with self._engine.locked():
            if self._rows() or self._engine.schema() != Schema():
                raise SchemaError("The database is not empty: only an empty one is filled from the models.")
            router = self._router()
            with self._engine.atomic():
                models.create(self._engine.database)
                for file in self._files:
                    router.record(file.name)

    def schema(self) -> Schema:
        """The schema that the database has now. Raises SchemaError when there is no database, OperatorError when it cannot be read."""
        if not self._engine.exists():
            raise SchemaError("There is no database to look at.")
        self._engine.connect()
        return self._engine.schema()

    def applied(self) -> list[HistoryRow]:
        """The history, oldest first."""
        return self._rows()

    def _rows(self) -> list[HistoryRow]:
        if not self._engine.exists():
            return []
        self._engine.connect()
        try:
            if not self._engine.has_table(HISTORY_TABLE):
                return []
            columns = ", ".join(HistoryRow._fields)
            rows = self._engine.database.execute_sql(f"SELECT {columns} FROM {HISTORY_TABLE} ORDER BY id").fetchall()
        except pw.PeeweeException as error:
            raise SchemaError(f"The history of migrations cannot be read: {first_line(error)}.") from error
        return [HistoryRow(*row) for row in rows]

    def _demand_reversible(self, names: Sequence[str]) -> None:
        router = self._router()
        for name in names:
            if reason := router.reason_against_rollback(name):
                raise SchemaError(f"{name} cannot be taken back: {reason}.")

    def _run_all(
        self, rows: Sequence[HistoryRow], names: Sequence[str], direction: Direction, progress: ProgressCallback | None
    ) -> list[Applied]:
        tell = progress or (lambda _: None)
        done: list[Applied] = []
        if not names:
            return done
        with self._protection(rows[-1].name if rows else None):
            for position, name in enumerate(names, 1):
                tell(Progress(name, position, len(names), None))
                done.append(self._run(name, direction))
                tell(Progress(name, position, len(names), done[-1]))
        return done

    def _run(self, name: str, direction: Direction) -> Applied:
        """Run one file, again and again while other transactions block it."""
        started_ms = self._clock.monotonic_ms()
        blocked: Exception | None = None
        for attempt in range(1, self._limits.attempts + 1):
            if attempt > 1:
                time.sleep(self._limits.retry_pause_s)
            router = self._router()
            try:
                router.run_one(name, router.migrator, fake=False, downgrade=direction == "down")
            except Exception as error:
                if not self._engine.is_blocked(error):
                    raise _explained(name, error, in_parts=router.in_parts) from error
                blocked = error
            else:
                return Applied(name, direction, self._clock.monotonic_ms() - started_ms)
        message = f"{name} could not lock its tables in {self._limits.attempts} attempts: try again when there is less traffic."
        raise Unavailable(message) from blocked

    def _router(self) -> SafeRouter:
        return SafeRouter(self._engine, self._files, self._clock)


@contextmanager
def open_migrations(
    kind: Kind,
    url: str,
    *,
    folder: Traversable | None = None,
    limits: Limits | None = None,
    clock: Clock | None = None,
    dump_folder: Path | None = None,
    tell_backup: TellBackup | None = None,
) -> Iterator[Migrations]:
    """The migrations of the database at `url`: those shipped, or those in `folder`.

    A device's file that holds data is backed up before an upgrade or downgrade, a cloud database is dumped if `dump_folder` says where;
    `tell_backup` hears of either (migrations.backup). Nothing is opened, created or locked before a method needs it. Raises InvalidConfig for an address that does not fit `kind`, and
    SchemaError when there are no migration files. What changes a device's database raises AlreadyRunning while a daemon works on it.
    """
    limits = limits or Limits()
    with _opened(open_engine(kind, url, limits), kind, folder, limits, clock, dump_folder, tell_backup) as migrations:
        yield migrations


@contextmanager
def _opened(
    engine: Engine,
    kind: Kind,
    folder: Traversable | None = None,
    limits: Limits | None = None,
    clock: Clock | None = None,
    dump_folder: Path | None = None,
    tell_backup: TellBackup | None = None,
) -> Iterator[Migrations]:
    files = shipped_files(kind) if folder is None else files_in(folder)
    clock = clock or SystemClock()

    def protection(at: str | None) -> AbstractContextManager[None]:
        return protected(engine, at, dump_folder=dump_folder, tell=tell_backup, clock=clock)

    try:
        yield Migrations(engine, files, limits or Limits(), clock, protection)
    finally:
        engine.close()


def upgrade_device(path: Path, progress: ProgressCallback | None = None) -> list[Applied]:
    """Bring the device's SQLite file at `path` to head, making it if need be, for the daemon that owns it: its own lock does not
    hinder. Raises as `Migrations.upgrade`.
    """
    with _opened(SqliteEngine(path, Limits(), for_owner=True), "device") as migrations:
        return migrations.upgrade(progress=progress)


def upgrade_cloud(url: str, progress: ProgressCallback | None = None) -> list[Applied]:
    """Bring the school's PostgreSQL database to head. Raises as `Migrations.upgrade`."""
    with open_migrations("cloud", url) as migrations:
        return migrations.upgrade(progress=progress)


@cache
def app_version() -> str:
    """The version of this installation, which the history keeps so that an older program can say what to install."""
    try:
        return importlib.metadata.version("carrel")
    except importlib.metadata.PackageNotFoundError:
        return "unversioned"


@cache
def _compiled(file: MigrationFile) -> CodeType:
    return compile(file.source, f"{file.name}.py", "exec", dont_inherit=True)


def _run_one_by_one(migrator: Migrator) -> None:
    for operation in migrator.__ops__:
        operation.run() if hasattr(operation, "run") else operation()


def _explained(name: str, error: Exception, *, in_parts: bool) -> SchemaError:
    reason = error.message if isinstance(error, CarrelError) else first_line(error) or type(error).__name__
    if isinstance(error, IndexError):  # psycopg2 takes a single percent sign for a parameter that is missing
        reason += " (in SQL for PostgreSQL a percent sign is written %%)"
    outcome = "what it did before that stays, and upgrade will run it again" if in_parts else "nothing of it was kept"
    return SchemaError(f"{name} failed, {outcome}: {reason.rstrip('.')}.")
