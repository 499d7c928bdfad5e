"""A device that is started as a daemon starts it: looked at, mended, migrated, with its journal and its ballast; without its threads.

`crashed_copy` gives the folder as a power cut at this moment would leave it, but for what no disk had kept.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from daemon.database import DeviceDatabase
from daemon.identity import instance
from daemon.identity.device import Identity
from daemon.models import MODELS
from daemon.records import LocalRecords
from daemon.recovery.ballast import Ballast
from daemon.recovery.journal import Journal
from daemon.recovery.journal_file import journal_path
from daemon.recovery.replacement import Recovery
from daemon.recovery.report import Notices
from domain.clock import Clock, HybridClock, SystemClock
from domain.ids import IdSource
from migrations.current import device_is_current
from migrations.runner import upgrade_device

DATABASE = "device.sqlite3"
COPY_MAX_S = 30


@dataclass(frozen=True)
class Desk:
    """A started device. `was_own` says whether its database was the one that its folder had."""

    folder: Path
    database: DeviceDatabase
    identity: Identity
    records: LocalRecords
    recovered: Notices
    was_own: bool

    def notices(self) -> list[str]:
        """What people are told of a recovery."""
        with self.database.read() as conn:
            return list(self.recovered.sentences(conn))

    def queued(self) -> dict[str, tuple[str, str, str]]:
        """Operation id -> (table, row id, payload) of what is pending, in order."""
        with self.database.read() as conn:
            rows = conn.execute("SELECT op_id, table_name, row_id, payload FROM sync_operations WHERE state = 'pending' ORDER BY op_no")
            return {op_id: values for op_id, *values in map(tuple, rows)}  # type: ignore[misc]


@contextmanager
def started(folder: Path, clock: Clock | None = None, ballast: Ballast | None = None) -> Iterator[Desk]:
    """What `carrel run` does with the file, and what it undoes in the end."""
    clock = clock or SystemClock()
    ids = IdSource(clock.now_ms)
    path = folder / DATABASE
    recovery = Recovery(path, folder, clock, ids)
    recovery.set_aside_if_damaged()
    if not device_is_current(path):
        upgrade_device(path)
    recovery.restore()
    database = DeviceDatabase(path, journal=Journal(journal_path(path)), ballast=ballast)
    with recovery.checkup.in_use(lambda: database.failure is None), closing(database):
        database.open(MODELS)
        identity = Identity(database, folder, clock, ids)
        was_own = instance.confirm(database, folder, lambda conn: identity.start_incarnation(conn, resend_all=False))
        records = LocalRecords(database, clock, ids, HybridClock(clock), identity.device_id)
        yield Desk(folder, database, identity, records, Notices(path), was_own)


def crashed_copy(folder: Path, target: Path) -> Path:
    """Copies the folder of an open device. Another process reads it: closing the files here would drop SQLite's locks."""
    subprocess.run(["cp", "-a", str(folder), str(target)], check=True, timeout=COPY_MAX_S)
    return target
