"""PostgreSQL itself: what it promises, how many it lets in, its standbys, its clock, its room."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg2

from cloud_api.clock_doubts import doubts
from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase
from cloud_api.erasure.rewriting import COPIES
from cloud_api.erasure.rights import lacking
from domain.clock import Clock
from domain.counted import counted
from domain.findings import Finding, Severity
from migrations.backup import MB
from migrations.schema.sqltext import quoted

# Connections that administrators, backups and monitoring want besides.
CONNECTIONS_SPARE = 10
CLOCK_OFFSET_MAX_MS = 2_000
REPLAY_LAG_MAX_S = 60.0
# A table grows while it is rewritten or indexed: a tenth of the database, and never less than this.
FREE_MIN_BYTES = 1_000 * MB
# What a commit promises hangs on these.
_DURABLE = {"fsync": "on", "full_page_writes": "on"}


def settings(database: CloudDatabase) -> Iterator[Finding]:
    """Whether what it has confirmed is on the disk."""
    with database.transaction(read_only=True) as cursor:
        cursor.execute(
            "SELECT name, setting FROM pg_settings"
            " WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit', 'data_checksums', 'server_version', 'ssl')"
        )
        found = dict(cursor.fetchall())
    wrong = [name for name, value in _DURABLE.items() if found.get(name) != value]
    if found.get("synchronous_commit") == "off":
        wrong.append("synchronous_commit")
    for name in wrong:
        what = f"PostgreSQL's {name} is off: after a power cut answers are missing that devices take for safe."
        yield Finding("database", Severity.ERROR, what, f"set {name} = on in postgresql.conf, and restart PostgreSQL")
    if not wrong:
        yield Finding("database", Severity.OK, f"PostgreSQL {found.get('server_version')} keeps what it confirms.")
    if found.get("data_checksums") != "on":
        what = "PostgreSQL has no checksums of its pages: a disk that errs is noticed late."
        yield Finding("database", Severity.NOTE, what, "pg_checksums --enable, while PostgreSQL is stopped")


def connections(database: CloudDatabase, config: CloudConfig) -> Iterator[Finding]:
    """Whether PostgreSQL lets in as many as the server may open."""
    wanted = config.server.workers * config.database.connections_max
    with database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT current_setting('max_connections')::int, (SELECT count(*) FROM pg_stat_activity)")
        [(allowed, open_now)] = cursor.fetchall()
    told = f"Open now: {counted(open_now, 'connection')}; allowed: {allowed}; this server opens {wanted} at most."
    if wanted + CONNECTIONS_SPARE > allowed:
        remedy = "raise max_connections, lower cloud.database.connections_max, or put pgbouncer between (docs/install.md)"
        yield Finding("connections", Severity.WARNING, told, remedy)
    else:
        yield Finding("connections", Severity.OK, told)


def erasing(database: CloudDatabase) -> Iterator[Finding]:
    """Whether the server's user may end the write-ahead log, in which otherwise the bytes of the erased stay."""
    with database.transaction(read_only=True) as cursor:
        missing = lacking(cursor)
        cursor.execute("SELECT current_database()")
        [(name,)] = cursor.fetchall()
    if missing:
        what = "What is erased stays in PostgreSQL's write-ahead log: this user may not end it."
        yield Finding("erasing", Severity.WARNING, what, f"as a superuser of PostgreSQL, in {name}: {' '.join(missing)}")
    else:
        yield Finding("erasing", Severity.OK, "What is erased goes from PostgreSQL's write-ahead log as well.")


def leftovers(database: CloudDatabase) -> Iterator[Finding]:
    """Whole copies of the database beside it, which nobody takes away by himself."""
    with database.transaction(read_only=True) as cursor:
        cursor.execute(COPIES)
        found = [name for (name,) in cursor.fetchall()]
    for name in found:
        what = f"The database {name} is a copy, of a restore or of a backup that was verified: it holds names and answers, and room."
        yield Finding("leftovers", Severity.NOTE, what, f"when nothing is missed and neither runs: DROP DATABASE {quoted(name)}")


def standbys(database: CloudDatabase) -> Iterator[Finding]:
    """Whether a synchronous standby that is asked for is there, and whether those that are there follow."""
    with database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT current_setting('synchronous_standby_names')")
        [(names,)] = cursor.fetchall()
        cursor.execute("SELECT application_name, sync_state, coalesce(extract(epoch FROM replay_lag), 0)::float8 FROM pg_stat_replication")
        found = cursor.fetchall()
    if names and not any(state in ("sync", "quorum") for _, state, _ in found):
        what = f"No synchronous standby is connected ({names}): every commit waits for one, and devices are told to come back."
        yield Finding("standby", Severity.ERROR, what, "bring the standby back, or take it out of synchronous_standby_names")
    for name, state, lag_s in found:
        told = f"The standby {name or 'without a name'} ({state or 'not to be seen by this user'}) is {lag_s:.0f} s behind."
        late = lag_s > REPLAY_LAG_MAX_S
        yield Finding("standby", Severity.WARNING if late else Severity.OK, told, "look at its disk and its network" if late else "")


def clock(database: CloudDatabase, clock: Clock) -> Iterator[Finding]:
    """Whether this machine and PostgreSQL have the same time, and nothing speaks against it."""
    with database.transaction(read_only=True) as cursor:
        before_ms = clock.now_ms()
        cursor.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
        [(there_ms,)] = cursor.fetchall()
        after_ms = clock.now_ms()
        against = list(doubts(cursor, after_ms))
    offset_ms = max(before_ms - there_ms, there_ms - after_ms, 0)
    if offset_ms > CLOCK_OFFSET_MAX_MS:
        what = f"This machine's clock and PostgreSQL's differ by {offset_ms / 1000:.0f} s."
        yield Finding("clock", Severity.ERROR, what, "set both by NTP: devices correct the times of answers by this machine's")
    elif against:
        what = f"This machine's clock may be wrong: {'; '.join(against)}."
        yield Finding("clock", Severity.ERROR, what, "look at it, and set it by NTP: the times of answers are corrected by it")
    else:
        yield Finding("clock", Severity.OK, "This machine and PostgreSQL have the same time.")


def disk(database: CloudDatabase) -> Iterator[Finding]:
    """How large the database is, and how much room it has where that can be seen from here."""
    with database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT pg_database_size(current_database())")
        [(size_bytes,)] = cursor.fetchall()
    told = f"The database has {size_bytes / MB:,.0f} MB"
    folder = _data_folder(database)
    if folder is None:
        yield Finding("disk", Severity.OK, f"{told}; its disk cannot be seen from here.")
        return
    free = shutil.disk_usage(folder).free
    if free < max(FREE_MIN_BYTES, size_bytes // 10):
        yield Finding("disk", Severity.ERROR, f"{told}, and {free / MB:,.0f} MB are free.", "make room: a full disk stops PostgreSQL")
    else:
        yield Finding("disk", Severity.OK, f"{told}, and {free / MB:,.0f} MB are free.")


def _data_folder(database: CloudDatabase) -> Path | None:
    """PostgreSQL's data folder, when it is on this machine and the user may know."""
    try:
        with database.transaction(read_only=True) as cursor:
            cursor.execute(
                "SELECT current_setting('data_directory', true), inet_server_addr() IS NULL OR inet_server_addr() <<= '127.0.0.0/8'"
            )
            [(text, local)] = cursor.fetchall()
    except psycopg2.Error:
        return None
    folder = Path(text) if text and local else None
    return folder if folder and os.access(folder.parent, os.X_OK) and folder.exists() else None
