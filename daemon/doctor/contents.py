"""What is in the database: its schema, whether it is sound, what waits, and whether there is a copy of it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from daemon.backups.kept import backups_in, newest_of
from daemon.backups.making import HOUR_MS, back_up, backup_folder
from daemon.config import DeviceConfig
from daemon.identity import revocation
from daemon.identity.device import TOKEN_FILE
from daemon.identity.instance import identity_row
from daemon.queue import outbox
from daemon.sentences import span
from domain.clock import Clock
from domain.counted import counted
from domain.errors import OperatorError, SchemaError
from domain.findings import Finding, Severity
from migrations.begun import recall
from migrations.files import shipped_files
from migrations.history import HISTORY_TABLE, HistoryRow, demand_prefix
from migrations.private_files import real_path
from migrations.sqlite_copy import reading_live

BUSY_TIMEOUT_S = 10.0
PROBLEMS_MAX = 5
DAY_MS = 24 * HOUR_MS
# What is unsent for so long waits for a person rather than for a network.
UNSENT_MAX_MS = 7 * DAY_MS
# A clock may be behind what a server has said by this much, and no more.
CLOCK_BEHIND_MAX_MS = 120_000


def schema(config: DeviceConfig) -> Iterator[Finding]:
    """Whether this version can work with the database."""
    files = shipped_files("device")
    with reading(config) as conn:
        if conn is None:
            yield Finding(
                "schema", Severity.WARNING, f"There is no database at {config.database_path} yet.", "start the daemon, which makes it"
            )
            return
        rows = [HistoryRow(*row) for row in conn.execute(f"SELECT {', '.join(HistoryRow._fields)} FROM {HISTORY_TABLE} ORDER BY id")]
    if recall(real_path(config.database_path)) is not None:
        yield Finding("schema", Severity.WARNING, "An upgrade was broken off.", "start the daemon, which finishes it")
    try:
        demand_prefix(rows, files)
    except SchemaError as error:
        yield Finding("schema", Severity.ERROR, error.message)
        return
    if len(rows) < len(files):
        yield Finding(
            "schema",
            Severity.WARNING,
            f"Waiting to be run: {counted(len(files) - len(rows), 'migration')}.",
            "start the daemon, which runs them",
        )
    else:
        yield Finding("schema", Severity.OK, f"The database is at {rows[-1].name}, as this version wants it.")


def integrity(config: DeviceConfig) -> Iterator[Finding]:
    """Every page and every index, which takes some 4 ms a megabyte."""
    with reading(config) as conn:
        if conn is None:
            return
        try:
            found = [str(row[0]) for row in conn.execute(f"PRAGMA integrity_check({PROBLEMS_MAX})")]
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
            found = [str(error)]
    if found == ["ok"]:
        yield Finding("integrity", Severity.OK, "The database was looked through, and is sound.")
        return
    for problem in found:
        yield Finding(
            "integrity",
            Severity.ERROR,
            f"The database is damaged: {problem.splitlines()[-1]}.",
            "restart the daemon: it mends it by itself",
        )


def clock(config: DeviceConfig, clock: Clock) -> Iterator[Finding]:
    """Whether this machine's clock is behind what the school's server has already said."""
    with reading(config) as conn:
        if conn is None:
            return
        (latest,) = conn.execute("SELECT max(settled_at_ms) FROM sync_operations").fetchone()
    behind_ms = (latest or 0) - clock.now_ms()
    if behind_ms > CLOCK_BEHIND_MAX_MS:
        told = f"The clock is behind by {span(behind_ms / 1000)} at least: the server's last word is from the future."
        yield Finding(
            "clock", Severity.ERROR, told, "set the clock (timedatectl set-ntp true); times of answers are corrected when they are sent"
        )


def enrolment(config: DeviceConfig) -> Iterator[Finding]:
    """Whether this is a device of a school, and can prove it."""
    order = revocation.noted(config.state_dir)
    if order and (told := order.sentence()):
        yield Finding("enrolment", Severity.ERROR, told, "make the file removable for the daemon's account, and restart the daemon")
        return
    with reading(config) as conn:
        identity = identity_row(conn) if conn else None
    if identity is None:
        yield Finding(
            "enrolment", Severity.WARNING, "This is no device of a school yet.", "`carrel enrol URL CODE`, or a provisioning file"
        )
    elif not (config.state_dir / TOKEN_FILE).exists():
        what = f"The device's token is missing ({config.state_dir / TOKEN_FILE})."
        yield Finding("enrolment", Severity.ERROR, what, "enrol it again with a new code; what is unsent stays and is sent then")
    else:
        yield Finding("enrolment", Severity.OK, f"This is a device of {identity['school_name']}.")


def queue(config: DeviceConfig, clock: Clock) -> Iterator[Finding]:
    """What is not at school, and for how long."""
    with reading(config) as conn:
        if conn is None:
            return
        counts = outbox.counts(conn)
        (oldest_ms,) = conn.execute("SELECT min(wall_ms) FROM sync_operations WHERE state = 'pending'").fetchone()
    if counts.rejected:
        what = f"The school has refused {counted(counts.rejected, 'change')}; nothing of it is lost."
        yield Finding("queue", Severity.WARNING, what, "`carrel queue list` says why, and what helps")
    waited_ms = clock.now_ms() - oldest_ms if oldest_ms is not None else 0
    if waited_ms > UNSENT_MAX_MS:
        what = f"Waiting to be sent: {counted(counts.pending, 'change')}, the oldest for {span(waited_ms / 1000)}."
        yield Finding("queue", Severity.WARNING, what, "`carrel status` says why; without a network, `carrel bundle export`")
    elif counts.pending:
        yield Finding("queue", Severity.NOTE, f"Waiting to be sent: {counted(counts.pending, 'change')}.")
    elif not counts.rejected:
        yield Finding("queue", Severity.OK, "Nothing waits to be sent.")


def backups(config: DeviceConfig, clock: Clock) -> Iterator[Finding]:
    """Whether there is a backup that is not too old."""
    if not config.database_path.exists():
        return
    if not config.backup.every_h:
        yield Finding("backups", Severity.NOTE, "No backups are made by themselves (device.backup.every_h is 0).")
        return
    newest = newest_of(backups_in(backup_folder(config), real_path(config.database_path).name), clock.now_ms())
    old_ms = clock.now_ms() - newest.made_at_ms if newest else None
    if old_ms is not None and old_ms < 2 * config.backup.every_h * HOUR_MS:
        yield Finding("backups", Severity.OK, f"The newest backup was made {span(old_ms / 1000)} ago.")
        return
    told = f"The newest backup is {span(old_ms / 1000)} old." if old_ms is not None else "There is no backup yet."
    yield Finding("backups", Severity.WARNING, told, "`carrel backup`; --fix makes one", lambda: back_up(config, clock))


@contextmanager
def reading(config: DeviceConfig) -> Iterator[sqlite3.Connection | None]:
    """A query-only connection; None where there is no database. Raises OperatorError when it cannot be read."""
    if not config.database_path.is_file():
        yield None
        return
    try:
        with reading_live(real_path(config.database_path), BUSY_TIMEOUT_S) as conn:
            conn.execute("PRAGMA wal_autocheckpoint = 0")  # the owner's alone (docs/decisions/0003)
            yield conn
    except sqlite3.Error as error:
        raise OperatorError(f"{config.database_path} cannot be read: {error}. A start of the daemon mends what can be mended.") from error
