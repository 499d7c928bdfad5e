"""The migrations of one database: what is applied, what is to come, and going from the one to the other."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.resources.abc import Traversable
from pathlib import Path

import peewee as pw

from domain.clock import Clock, SystemClock
from domain.errors import SchemaError
from migrations.backup import TellBackup
from migrations.engines import Engine, Limits, SqliteEngine, first_line, open_engine
from migrations.execution import Applied, Execution, Progress, ProgressCallback
from migrations.files import Kind, MigrationFile, files_in, shipped_files
from migrations.history import (
    HEAD,
    HISTORY_TABLE,
    STEPS_NEWER_MAX,
    HistoryEntry,
    HistoryRow,
    StampPlan,
    demand_prefix,
    entries,
    names_to_apply,
    names_to_revert,
    plan_stamp,
)
from migrations.protection import Protection
from migrations.router import SafeRouter
from migrations.schema.description import Schema
from migrations.schema.models import ModelSet
from migrations.waiting import SILENCE, Activity

__all__ = ["Applied", "Migrations", "Progress", "ProgressCallback", "open_migrations", "upgrade_cloud", "upgrade_device"]


class Migrations:
    """The migrations of one database. Made by `open_migrations`; the methods are called by one thread."""

    def __init__(
        self,
        engine: Engine,
        files: Sequence[MigrationFile],
        limits: Limits,
        clock: Clock,
        *,
        protection: Protection | None = None,
        activity: Activity = SILENCE,
        router: type[SafeRouter] = SafeRouter,
    ) -> None:
        self._engine = engine
        self._files = tuple(files)
        self._activity = activity
        self._router = partial(router, engine, self._files, clock)
        self._execution = Execution(engine, self._router, limits, clock, protection, activity)

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

    def steps_newer(self) -> int:
        """By how many files that this version does not have the database is ahead of it; 0 for any other. Raises SchemaError when the rest of its
        history is not this version's.
        """
        rows = self._rows()
        demand_prefix(rows[: len(self._files)], self._files)
        return max(0, len(rows) - len(self._files))

    def upgrade(self, target: str = HEAD, progress: ProgressCallback | None = None) -> list[Applied]:
        """Apply the pending files up to `target`: `head`, `+N` or a file's name. Returns what was applied, in order.

        Each file is one transaction, history row included; files before a failed one stay applied. Raises SchemaError, AlreadyRunning
        when another process migrates for too long, Unavailable when table locks could not be had, OperatorError when the
        database cannot be opened.
        """
        with self._alone():
            rows = self._rows()
            demand_prefix(rows, self._files)
            return self._execution.run(rows, names_to_apply(rows, self._files, target), "up", progress)

    def downgrade(self, target: str, progress: ProgressCallback | None = None) -> list[Applied]:
        """Take back migrations, newest first: `-N`, or a file's name to end at. Returns what was taken back, in order.

        Raises as `upgrade` does; a file that cannot be taken back is refused before any other is.
        """
        if not self._engine.exists():
            raise SchemaError("There is no database to take a migration back from.")
        with self._alone():
            rows = self._rows()
            demand_prefix(rows, self._files)
            names = names_to_revert(rows, target)
            self._demand_reversible(names)
            return self._execution.run(rows, names, "down", progress)

    def downgrade_plan(self, target: str) -> list[str]:
        """What `downgrade` would take back, in order, so that a person can be asked. Raises SchemaError as it does."""
        rows = self._rows()
        demand_prefix(rows, self._files)
        return names_to_revert(rows, target)

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
        with self._alone():
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
        with self._alone():
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

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """This process alone migrates the database, which is connected. Raises AlreadyRunning, OperatorError."""
        with ExitStack() as stack:
            with self._activity.during("waiting for its turn"):
                stack.enter_context(self._engine.locked())
            yield


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
    activity: Activity = SILENCE,
) -> Iterator[Migrations]:
    """The migrations of the database at `url`: those shipped, or those in `folder`.

    A device's file that holds data is backed up before an upgrade or downgrade, a cloud database is dumped if `dump_folder` says where;
    `tell_backup` hears of either (migrations.protection), `activity` of all that takes its time. Nothing is opened, created or locked
    before a method needs it. Raises InvalidConfig for an address that does not fit `kind`, and SchemaError when there are no migration files. What
    changes a device's database raises AlreadyRunning while a daemon works on it.
    """
    limits, clock = limits or Limits(), clock or SystemClock()
    engine = open_engine(kind, url, limits)
    files = shipped_files(kind) if folder is None else files_in(folder)
    protection = Protection(engine, dump_folder=dump_folder, tell=tell_backup, clock=clock, activity=activity)
    try:
        yield Migrations(engine, files, limits, clock, protection=protection, activity=activity)
    finally:
        engine.close()


def upgrade_device(path: Path, activity: Activity = SILENCE) -> list[Applied]:
    """Bring the device's SQLite file at `path` to head, making it if need be, for the daemon that owns it: its own lock does not
    hinder. Raises as `Migrations.upgrade`.
    """
    limits, clock = Limits(), SystemClock()
    engine = SqliteEngine(path, limits, for_owner=True)
    protection = Protection(engine, clock=clock, activity=activity)
    try:
        return Migrations(engine, shipped_files("device"), limits, clock, protection=protection, activity=activity).upgrade()
    finally:
        engine.close()


def upgrade_cloud(url: str, activity: Activity = SILENCE) -> list[Applied]:
    """Bring the school's PostgreSQL database to head, before it is served. One that is so little newer that this version serves it is left
    as it is: the machine may have been started anew in the middle of a rolling upgrade. Raises as `Migrations.upgrade`.
    """
    with open_migrations("cloud", url, activity=activity) as migrations:
        return [] if 0 < migrations.steps_newer() <= STEPS_NEWER_MAX else migrations.upgrade()
