"""A backup put in the place of a device's database: at once, keeping the replaced file, and without losing anything that is unsent.

    the backup copied into a folder beside ──▶ migrated ──▶ operations of the present file and its journal brought along, a new incarnation
    ──▶ one rename ──▶ looked at as at every start

Until the rename the device has the database that it had, and from then on the new one; whatever ends the process, the next start finds one of
the two, and `restore` may be called again. Afterwards everything is fetched from school anew, as after any other recovery.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from daemon import inbox
from daemon.backups.kept import WORK_SUFFIX
from daemon.backups.making import demand_whole
from daemon.config import PRIVATE_FOLDER_MODE, DeviceConfig, prepare_folders
from daemon.durable_file import read_json
from daemon.identity.instance import IDENTITY_COPY, identity_row
from daemon.process.state_folder import locked
from daemon.queue import outbox
from daemon.readiness import make_ready
from daemon.recovery import integrity, salvage
from daemon.recovery.journal_file import Extent, journal_path, scan
from daemon.recovery.replacement import bring_along, configure, insert_identity, whole_identity
from daemon.recovery.report import KEPT_DAMAGED, REPLACED_MARK, Report, ReportFile, damaged_files, remove_damaged
from daemon.recovery.salvage import Damaged
from daemon.upgrade import upgrade_if_needed
from domain.clock import Clock
from domain.errors import OperatorError
from domain.ids import IdSource
from migrations.backup import demand_space, written_whole
from migrations.begun import forget
from migrations.files import shipped_files
from migrations.history import HISTORY_TABLE, HistoryRow, demand_prefix
from migrations.lock import owning
from migrations.private_files import real_path, to_disk
from migrations.sqlite_copy import copy_database, reading_file
from migrations.waiting import SILENCE, Activity

# The copy, the backup of its migration, and what brings operations along.
SPACE_FACTOR = 3
_TABLES = ("identity", "sync_progress", "sync_operations", "question_attempts", HISTORY_TABLE)


@dataclass(frozen=True)
class Restored:
    """What the device has now: operations that are to be sent, and the name under which the replaced file is kept, None without one."""

    database: Path
    unsent: int
    replaced: Path | None


def restore(config: DeviceConfig, backup: Path, clock: Clock, ids: IdSource, activity: Activity = SILENCE) -> Restored:
    """Puts the backup in the place of the database, of a device whose daemon does not run.

    Raises AlreadyRunning while it does, OperatorError when the file is no backup of this device's school or anything fails: then the database
    is what it was; SchemaError for a backup of a newer version.
    """
    demand_restorable(backup)
    prepare_folders(config)
    with locked(config.state_dir), owning(config.database_path):
        return _Restoring(config, backup, clock, ids, activity).run()


def demand_restorable(backup: Path) -> None:
    """Raises OperatorError unless the file is a sound database of a device, SchemaError unless this version can bring it up to date."""
    if not backup.is_file():
        raise OperatorError(f"There is no file {backup}.")
    try:
        with reading_file(backup) as conn:
            names = {name for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if not names.issuperset(_TABLES):
                raise OperatorError(f"{backup} is not a backup of a device's database.")
            rows = conn.execute(f"SELECT {', '.join(HistoryRow._fields)} FROM {HISTORY_TABLE} ORDER BY id").fetchall()
            demand_prefix([HistoryRow(*row) for row in rows], shipped_files("device"))
            demand_whole(conn, f"{backup} is damaged, so nothing was changed")
    except sqlite3.Error as error:
        raise OperatorError(f"{backup} is not a backup of a device's database: {error}.") from error


class _Restoring:
    """One restore, whose caller owns the state folder and the database."""

    def __init__(self, config: DeviceConfig, backup: Path, clock: Clock, ids: IdSource, activity: Activity) -> None:
        self._config, self._backup, self._clock, self._ids, self._activity = config, backup, clock, ids, activity
        self._database = real_path(config.database_path)
        self._work = self._database.with_name(self._database.name + WORK_SUFFIX)
        self._report = ReportFile(self._database)

    def run(self) -> Restored:
        try:
            with self._activity.during(f"restoring {self._backup.name}"):
                new = self._made()
                replaced = self._swap(new)
        except (OSError, sqlite3.Error) as error:
            raise OperatorError(f"Nothing was restored: {error}.") from error
        finally:
            shutil.rmtree(self._work, ignore_errors=True)
        # From here on a failure is one that the next start makes up for.
        forget(self._database)
        self._report.write(Report(f"the backup {self._backup.name} was put in its place", self._clock.now_ms(), None))
        make_ready(self._config)
        for older in damaged_files(self._database)[:-KEPT_DAMAGED]:
            remove_damaged(older)
        with closing(sqlite3.connect(self._database, isolation_level=None)) as conn:
            return Restored(self._database, outbox.counts(conn).pending, replaced)

    def _made(self) -> Path:
        """The new database, complete and on the disk, under another name."""
        shutil.rmtree(self._work, ignore_errors=True)
        size_bytes = self._backup.stat().st_size
        demand_space(self._database.parent, SPACE_FACTOR * size_bytes, f"restore {self._backup.name}")
        self._work.mkdir(mode=PRIVATE_FOLDER_MODE)
        new = self._work / self._database.name
        with (
            written_whole(new, self._database) as partial,
            reading_file(self._backup) as source,
            closing(sqlite3.connect(partial, isolation_level=None)) as copy,
        ):
            copy_database(source, copy, clock=self._clock)
        upgrade_if_needed(new)
        with ExitStack() as sources:
            files = [sources.enter_context(salvage.opened(path)) for path in self._present_files()]
            with closing(sqlite3.connect(new, isolation_level=None)) as conn:
                configure(conn)
                self._bring_up(conn, files)
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                demand_whole(conn, "Nothing was restored")
        to_disk(new)
        return new

    def _present_files(self) -> list[Path]:
        """The database that is to be replaced, and one of which a recovery has not yet taken everything."""
        report = self._report.read()
        damaged = report.damaged if report and report.stage == "restoring" else None
        found = [self._database, *([self._database.with_name(damaged)] if damaged else [])]
        return [path for path in found if path.is_file() and path.stat().st_size]

    def _bring_up(self, conn: sqlite3.Connection, files: Sequence[Damaged]) -> None:
        """Makes the copy a database that this device goes on with, in one transaction."""
        held = identity_row(conn)
        known = whole_identity(*(file.identity() for file in files), read_json(self._config.state_dir / IDENTITY_COPY))
        if held and known and held["school_id"] != known["school_id"]:
            raise OperatorError("Nothing was restored, because the backup is of another school's device.")
        identity = known or held
        conn.execute("BEGIN IMMEDIATE")
        conn.execute("DELETE FROM student_sessions")
        if identity:
            self._go_on_as(conn, identity, files, same_server=held is None or held["server_epoch"] == identity["server_epoch"])
        conn.execute("COMMIT")
        # No note of an upgrade that was begun can be of this file (migrations/begun.py).
        conn.execute("PRAGMA user_version = 0")

    def _go_on_as(self, conn: sqlite3.Connection, identity: Mapping[str, Any], files: Sequence[Damaged], *, same_server: bool) -> None:
        conn.execute("DELETE FROM identity")
        insert_identity(conn, identity)
        bring_along(conn, self._journals(str(identity["school_id"])), files, str(identity["device_id"]), self._clock.now_ms())
        _queue_again(conn)
        # Under another epoch the server was itself restored since, and may lack what the backup takes for sent.
        outbox.start_incarnation(conn, self._ids.new(), resend_all=not same_server)
        inbox.start_over(conn, server_lost_something=not same_server)

    def _journals(self, school_id: str) -> list[tuple[Path, Extent]]:
        """The journal of the present file, unless it is of another school; such a one is laid by at the next start."""
        path = journal_path(self._database)
        extent = scan(path)
        return [(path, extent)] if extent.school_id in (None, school_id) else []

    def _swap(self, new: Path) -> Path | None:
        """The commit: the new file takes the name, and the old one keeps another."""
        replaced = None
        if self._database.exists():
            moment = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC)
            name = f"{self._database.name}{REPLACED_MARK}{moment:%Y%m%dT%H%M%SZ}-{self._ids.new()[-6:]}"
            replaced = self._database.with_name(name)
            self._close_wal(replaced)
            os.link(self._database, replaced)
        # What was noted of the old file does not hold for the new one, which is looked through at its first start.
        self._database.with_name(self._database.name + integrity.SUFFIX).unlink(missing_ok=True)
        to_disk(self._database.parent)
        os.replace(new, self._database)
        to_disk(self._database.parent)
        return replaced

    def _close_wal(self, replaced: Path) -> None:
        """Brings what is in the -wal into the file: SQLite would take it for a part of the new one. One that is too damaged for that goes
        with it under its new name; what it held that is unsent is in the journal and in the new file.
        """
        wal, shm = (self._database.with_name(self._database.name + suffix) for suffix in ("-wal", "-shm"))
        try:
            with closing(sqlite3.connect(self._database, isolation_level=None)) as conn:
                configure(conn)
                conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except (sqlite3.Error, UnicodeDecodeError):
            pass  # a damaged file, which is what people restore backups for
        if wal.exists():
            wal.rename(replaced.with_name(replaced.name + "-wal"))
        shm.unlink(missing_ok=True)


def _queue_again(conn: sqlite3.Connection) -> None:
    """What the backup takes for settled and a later source for unsent, because it was to be sent once more, is unsent."""
    conn.execute(
        "UPDATE sync_operations SET state = 'pending', code = NULL, message = NULL, settled_at_ms = NULL"
        " WHERE state <> 'pending' AND op_id IN (SELECT op_id FROM temp.found WHERE state = 'pending')"
        " AND op_id NOT IN (SELECT op_id FROM sync_operations WHERE state = 'pending')"
    )
