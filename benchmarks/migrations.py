"""Migrations: how long each shipped file takes with `effort.rows` attempts there, and how long a write has to wait meanwhile; the same for the
device's backup, and for making partitions of question_attempts.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks.report import Bound, Check, Result
from benchmarks.stage import FILLED, Stage
from benchmarks.timing import seconds
from daemon.config import DATABASE_NAME
from domain.clock import SystemClock
from migrations.backup import back_up_file
from migrations.engines import Limits, PostgresEngine
from migrations.files import Kind, shipped_files
from migrations.partitioning import Partitioning
from migrations.runner import open_migrations

# A write that waits longer is felt as an interruption; what a waiting ALTER may stop others for is Limits.table_lock_s.
WAIT_MAX_MS = 1_000.0
# Between two writes that are timed, so that they leave the migration some of the machine.
PAUSE_S = 0.002
_WRITE = (
    "UPDATE question_attempts SET confidence = confidence WHERE (school_id, id) = (SELECT school_id, id FROM question_attempts LIMIT 1)"
)


class Waits:
    """The longest time that one of many small writes took, in ms."""

    longest_ms = 0.0

    def note(self, work: Callable[[], None]) -> None:
        self.longest_ms = max(self.longest_ms, 1000 * seconds(work))


def measure(stage: Stage) -> Result:
    """A file of the cloud is applied to a copy of the filled database, taken back to the file before, with a writer at work; a file of the
    device to a copy of its file, alone, as at a daemon's start. The first file of each makes its schema in an empty database.
    """
    figures: dict[str, float] = {}
    waits = Waits()
    for file in shipped_files("device"):
        figures[f"device {file.name}, ms"] = _device_ms(stage, file.name)
    figures["device backup, ms"] = _backup_ms(stage)
    for file in shipped_files("cloud"):
        figures[f"cloud {file.name}, ms"] = _cloud_ms(stage, file.name, waits)
    with stage.database(FILLED) as url, _writing(url, waits):
        figures["partitions, ms"] = 1000 * seconds(lambda: _partition(url))
    rows = stage.effort.rows
    figures["attempts"] = rows
    return Result(
        "migrations",
        [
            Check(
                f"longest wait of a write while {rows:,} attempts are migrated and partitioned",
                waits.longest_ms,
                "ms",
                Bound.AT_MOST,
                WAIT_MAX_MS,
            )
        ],
        figures,
    )


def _device_ms(stage: Stage, name: str) -> float:
    first = name == shipped_files("device")[0].name
    folder = stage.copy(stage.writer if first else stage.pushed)
    path = folder / DATABASE_NAME
    if first:
        path.unlink()
    try:
        return _step_ms("device", f"sqlite:///{path}", name)
    finally:
        stage.forget(folder)


def _backup_ms(stage: Stage) -> float:
    folder = stage.copy(stage.pushed)
    path: Path = folder / DATABASE_NAME
    with closing(sqlite3.connect(path)) as connection:
        taken_ms = 1000 * seconds(lambda: back_up_file(path, connection, None, SystemClock()))
    stage.forget(folder)
    return taken_ms


def _cloud_ms(stage: Stage, name: str, waits: Waits) -> float:
    if name == shipped_files("cloud")[0].name:
        url = stage.postgres.create_database("empty")
        try:
            return _step_ms("cloud", url, name)
        finally:
            stage.postgres.drop_database("empty")
    with stage.database(FILLED) as url:
        return _step_ms("cloud", url, name, lambda: _writing(url, waits))


def _step_ms(kind: Kind, url: str, name: str, meanwhile: Callable[[], Any] | None = None) -> float:
    """Goes back behind the file, if need be, and applies it."""
    names = [file.name for file in shipped_files(kind)]
    place = names.index(name)
    with open_migrations(kind, url) as migrations:
        if place:
            migrations.downgrade(names[place - 1])
        if meanwhile is None:
            return 1000 * seconds(lambda: migrations.upgrade(name))
        with meanwhile():
            return 1000 * seconds(lambda: migrations.upgrade(name))


def _partition(url: str) -> None:
    limits = Limits()
    engine = PostgresEngine(url, limits)
    try:
        Partitioning(engine, limits).run()
    finally:
        engine.close()


@contextmanager
def _writing(url: str, waits: Waits) -> Iterator[None]:
    """Small writes in another thread, one after the other, as long as the block."""
    stop = threading.Event()
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        cursor = connection.cursor()

        def write() -> None:
            while not stop.is_set():
                waits.note(lambda: cursor.execute(_WRITE))
                time.sleep(PAUSE_S)

        thread = threading.Thread(target=write, name="migrations-writer")
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
