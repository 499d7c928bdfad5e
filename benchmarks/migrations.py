"""Migrations: how long each shipped file takes with `effort.rows` attempts there, and how long a write was held up meanwhile; the same for
what is done to a large table otherwise, and for the kinds of change that the next files will bring (benchmarks/rehearsal).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.probing import Probe, Write, postgres_writes, sqlite_writes
from benchmarks.rehearsal import shipped_and_rehearsed
from benchmarks.report import Bound, Check, Result
from benchmarks.stage import FILLED, Stage, execute
from benchmarks.timing import seconds
from daemon.config import DATABASE_NAME
from domain.clock import SystemClock
from domain.errors import SchemaError
from migrations.backup import back_up_file
from migrations.engines import Limits, PostgresEngine
from migrations.execution import Progress
from migrations.files import Kind, shipped_files
from migrations.indexes import ATTEMPT_INDEXES, ensure_indexes
from migrations.partitioning import Month, Partitioning
from migrations.runner import Migrations, open_migrations

# A write that waits longer is felt as an interruption; what a waiting ALTER may stop others for is Limits.table_lock_s.
WAIT_MAX_MS = 1_000.0
# So many writes show what they take when nothing else is done.
IDLE_WRITES = 100
# In the middle of a month, whichever it is.
_MIDDLE_DAY = 15

Writes = Callable[[], AbstractContextManager[Write]]


class Account:
    """What was done, how long it took and how long a write was held up by it, ms."""

    def __init__(self) -> None:
        self.figures: dict[str, float] = {}
        self.longest_ms = 0.0

    def note(self, what: str, took_ms: float, held_up_ms: float) -> None:
        self.figures |= {f"{what}, ms": took_ms, f"{what}, a write held up, ms": held_up_ms}
        self.longest_ms = max(self.longest_ms, held_up_ms)

    def measure(self, what: str, writes: Writes, work: Callable[[], object]) -> None:
        """Does `work` with a writer beside it."""
        with writes() as write:
            probe = Probe(write)
            with probe.writing():
                took_ms = 1000 * seconds(work)
        self.note(what, took_ms, probe.longest_ms)


def measure(stage: Stage) -> Result:
    """The first file of each engine makes its schema in an empty database. The others are taken back on a copy of the filled one, as far as
    they can be, and applied again; then the rehearsed ones; then, on another copy, indexes and partitions.

    The limit is for a school's database. A device's file is migrated before its daemon serves, when nobody is there to be held up: its
    figures say how long a start takes.
    """
    device, cloud = Account(), Account()
    _first_files(stage, device, cloud)
    _device_files(stage, device)
    _cloud_files(stage, cloud)
    _large_table(stage, cloud)
    rows = stage.effort.rows
    what = f"longest that a write was held up while a school with {rows:,} attempts is migrated and partitioned"
    return Result(
        "migrations",
        [Check(what, cloud.longest_ms, "ms", Bound.AT_MOST, WAIT_MAX_MS)],
        {"attempts": rows, "device backup, ms": _backup_ms(stage), **device.figures, **cloud.figures},
    )


def _first_files(stage: Stage, device: Account, cloud: Account) -> None:
    with TemporaryDirectory(prefix="carrel-bench-") as folder:
        path = Path(folder) / DATABASE_NAME
        _first_file("device", f"sqlite:///{path}", lambda: sqlite_writes(str(path)), device)
    url = stage.postgres.create_database("empty")
    try:
        _first_file("cloud", url, lambda: postgres_writes(url), cloud)
    finally:
        stage.postgres.drop_database("empty")


def _first_file(kind: Kind, url: str, writes: Writes, account: Account) -> None:
    name = shipped_files(kind)[0].name
    with open_migrations(kind, url) as migrations:
        account.measure(f"{kind} {name}, empty", writes, lambda: migrations.upgrade("+1"))


def _device_files(stage: Stage, account: Account) -> None:
    folder = stage.copy(stage.pushed)
    path = folder / DATABASE_NAME
    try:
        _later_files("device", f"sqlite:///{path}", lambda: sqlite_writes(str(path)), account)
    finally:
        stage.forget(folder)


def _cloud_files(stage: Stage, account: Account) -> None:
    with stage.database(FILLED) as url:
        _later_files("cloud", url, lambda: postgres_writes(url), account)


def _later_files(kind: Kind, url: str, writes: Writes, account: Account) -> None:
    """All files but those that cannot be taken back or come before such a one, shipped and rehearsed, each with a writer beside it."""
    with shipped_and_rehearsed(kind) as folder, open_migrations(kind, url, folder=folder) as migrations:
        _take_back_all_but_first(migrations)
        for name in migrations.pending():
            _one_file(migrations, f"{kind} {name}", writes, account)


def _one_file(migrations: Migrations, what: str, writes: Writes, account: Account) -> None:
    """The writer writes while the file runs, and not while a device's database is backed up before."""
    with writes() as write, ExitStack() as block:
        probe = Probe(write)

        def follow(progress: Progress) -> None:
            if progress.done is None:
                block.enter_context(probe.writing())
            else:
                block.close()
                account.note(what, progress.done.duration_ms, probe.longest_ms)

        migrations.upgrade("+1", follow)


def _take_back_all_but_first(migrations: Migrations) -> None:
    """As far as files have a way back."""
    while len(migrations.applied()) > 1:
        try:
            migrations.downgrade("-1")
        except SchemaError:  # it has no way back
            return


def _large_table(stage: Stage, account: Account) -> None:
    """Each step with a writer beside it whose attempts are of now; the last also with one whose clock is ahead, in the very month that is added."""
    with stage.database(FILLED) as url:
        account.figures["a write while nothing else is done, at most, ms"] = _idle_ms(url)
        execute(url, f"DROP INDEX {ATTEMPT_INDEXES[0].name}")
        account.measure("index made anew", lambda: postgres_writes(url), lambda: _with_engine(url, ensure_indexes))
        account.measure("table made a partition", lambda: postgres_writes(url), lambda: _add_months(url, 0))
        account.measure("month added", lambda: postgres_writes(url), lambda: _add_months(url, 1))
        with postgres_writes(url, _month_after_next_ms) as write:
            ahead = Probe(write)
            with ahead.writing():
                account.measure("month added that has rows", lambda: postgres_writes(url), lambda: _add_months(url, 2))
        account.figures["month added that has rows, a write of that month held up, ms"] = ahead.longest_ms


def _idle_ms(url: str) -> float:
    with postgres_writes(url) as write:
        return max(1000 * seconds(write) for _ in range(IDLE_WRITES))


def _add_months(url: str, months: int) -> None:
    _with_engine(url, lambda engine: Partitioning(engine).run(months))


def _month_after_next_ms() -> int:
    now = datetime.fromtimestamp(SystemClock().now_ms() / 1000, UTC)
    month = Month(now.year, now.month).after(2)
    return int(datetime(month.year, month.month, _MIDDLE_DAY, tzinfo=UTC).timestamp() * 1000)


def _with_engine(url: str, work: Callable[[PostgresEngine], object]) -> None:
    with closing(PostgresEngine(url, Limits())) as engine:
        work(engine)


def _backup_ms(stage: Stage) -> float:
    folder = stage.copy(stage.pushed)
    path = folder / DATABASE_NAME
    try:
        # As the runner opens it, without transactions that begin by themselves.
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return 1000 * seconds(lambda: back_up_file(path, connection, None, SystemClock()))
    finally:
        stage.forget(folder)
