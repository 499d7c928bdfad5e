"""Backups of a school's database: a dump of one moment, verified, and devices told what is in it.

    snapshot ──▶ pg_dump of that snapshot ──▶ listed (and, if asked, restored elsewhere and counted) ──▶ named ──▶ durable_seq ──▶ rotated
        └── how far each device's log is in it

A device keeps what it has sent until it hears that a backup holds it (docs/protocol.md, section 5). It must not hear so of a file that is not
complete and on the disk: the numbers move last.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import peewee

from domain.clock import Clock
from domain.errors import OperatorError, SchemaError
from migrations.backup import MB, PARTIAL, demand_space, written_whole
from migrations.dump import ARCHIVE_SHARE, DUMP_MAX_S, Client, archive_name
from migrations.engines import Limits, PostgresEngine, first_line
from migrations.history import HISTORY_TABLE
from migrations.schema.sqltext import quoted
from migrations.scratch import server_scratch
from migrations.waiting import SILENCE, Activity

SUFFIX = ".backup.dump"
KEEP_DEFAULT = 7
# The time in a backup's name, in UTC and without milliseconds: such texts sort as the times do.
_TIME_FORMAT = "%Y%m%dT%H%M%S"
# Places in logs that one statement moves.
PLACES_STEP = 1_000

Execute = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that is complete. `rows` counts each table where the backup was restored to verify it; `removed` are older ones that went."""

    path: Path
    size_bytes: int
    schools: int
    logs: int
    rows: Mapping[str, int] | None
    removed: Sequence[Path]


@dataclass(frozen=True, slots=True)
class _Moment:
    """What a snapshot holds: its name, the newest migration, the tables with rows of their own, schools, and the places of logs in order."""

    snapshot: str
    at: str | None
    tables: Sequence[str]
    schools: int
    places: Sequence[tuple[str, int, int]]


def back_up(
    url: str,
    target: Path,
    clock: Clock,
    *,
    keep: int = KEEP_DEFAULT,
    keep_days: int | None = None,
    replace: bool = False,
    verify: bool = False,
    activity: Activity = SILENCE,
) -> Made:
    """Writes a backup into the folder `target`, of whose backups the newest `keep` stay, or as the file `target`.

    Of those no other than the one just made stays that is older than `keep_days`.

    `verify` restores it into a scratch database, whose rows are counted against the snapshot. Raises OperatorError when anything of it fails:
    then no file is left and devices keep what they have; PostgresUnavailable, SchemaError.
    """
    engine = PostgresEngine(url, Limits())
    engine.connect()
    try:
        if not engine.has_table(HISTORY_TABLE):
            raise SchemaError("There is no school's database under this address.")
        client = Client.of(engine)
        execute: Execute = engine.database.execute_sql
        database, size_bytes = execute("SELECT current_database(), pg_database_size(current_database())").fetchone()
        folder = target if target.is_dir() else target.parent
        demand_space(folder, int(ARCHIVE_SHARE * size_bytes), f"back {database} up")
        with _moment(execute) as moment:
            path = target / archive_name(database, moment.at, clock, SUFFIX) if target.is_dir() else target
            if path.exists() and not replace:
                raise OperatorError(f"{path} exists already.")
            with written_whole(path, path) as partial:
                with activity.during(f"backing {database} up, {size_bytes / MB:.0f} MB") as tell:
                    client.write_archive(partial, snapshot=moment.snapshot, tell=tell, otherwise="There is no backup")
                _demand_complete(client.contents(partial), moment.tables)
                counts = _demand_restorable(url, client, partial, execute, moment, activity) if verify else None
        _note_durable(execute, moment.places)
        removed = _rotate(target, database, path, keep, keep_days, clock) if target.is_dir() else []
        return Made(path, path.stat().st_size, moment.schools, len(moment.places), counts, removed)
    except peewee.PeeweeException as error:
        raise OperatorError(f"There is no backup: {first_line(error)}.") from error
    finally:
        engine.close()


@contextmanager
def _moment(execute: Execute) -> Iterator[_Moment]:
    """A snapshot that other connections can take up while the block lasts."""
    execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    try:
        row = execute(f"SELECT name FROM {HISTORY_TABLE} ORDER BY id DESC LIMIT 1").fetchone()
        tables = execute(
            "SELECT c.relname FROM pg_class c WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace ORDER BY c.relname"
        ).fetchall()
        places = execute("SELECT school_id, no, last_seq FROM device_incarnations ORDER BY school_id, no").fetchall()
        yield _Moment(
            execute("SELECT pg_export_snapshot()").fetchone()[0],
            row[0] if row else None,
            [name for (name,) in tables],
            execute("SELECT count(*) FROM schools").fetchone()[0],
            [(str(school), no, seq) for school, no, seq in places],
        )
    finally:
        execute("ROLLBACK")


def _demand_complete(contents: str, tables: Sequence[str]) -> None:
    """Every table's rows are in the archive. Raises OperatorError."""
    dumped = set(re.findall(r"^\d+; \d+ \d+ TABLE DATA \S+ (\S+) ", contents, re.MULTILINE))
    if missing := sorted(set(tables) - dumped):
        raise OperatorError(f"There is no backup: pg_dump left out {', '.join(missing)}.")


def _demand_restorable(url: str, client: Client, archive: Path, execute: Execute, moment: _Moment, activity: Activity) -> dict[str, int]:
    """Restores an archive into a database of its own and counts. Returns the rows of each table; raises OperatorError."""
    with activity.during("restoring the backup elsewhere to verify it"), server_scratch(url)() as scratch_url:
        scratch = PostgresEngine(scratch_url, Limits())
        scratch.connect()
        try:
            name = scratch.database.execute_sql("SELECT current_database()").fetchone()[0]
            client.read_archive(archive, name, otherwise="There is no backup, because it cannot be restored")
            restored = _counts(scratch.database.execute_sql, moment.tables)
        finally:
            scratch.close()
    expected = _counts(execute, moment.tables)
    if wrong := [table for table in moment.tables if restored[table] != expected[table]]:
        raise OperatorError(f"There is no backup: restored, {', '.join(wrong)} had other rows.")
    return expected


def _counts(execute: Execute, tables: Sequence[str]) -> dict[str, int]:
    return {table: execute(f"SELECT count(*) FROM {quoted(table)}").fetchone()[0] for table in tables}


def _note_durable(execute: Execute, places: Sequence[tuple[str, int, int]]) -> None:
    """From now on devices hear that these operations are in a backup. A log that is shorter by now belongs to another life of the database."""
    for start in range(0, len(places), PLACES_STEP):
        schools, numbers, seqs = (list(column) for column in zip(*places[start : start + PLACES_STEP], strict=True))
        execute(
            "UPDATE device_incarnations i SET durable_seq = p.seq FROM unnest(%s::uuid[], %s::int[], %s::bigint[]) AS p(school_id, no, seq)"
            " WHERE i.school_id = p.school_id AND i.no = p.no AND i.last_seq >= p.seq AND i.durable_seq < p.seq",
            (schools, numbers, seqs),
        )


def _rotate(folder: Path, database: str, newest: Path, keep: int, keep_days: int | None, clock: Clock) -> list[Path]:
    """Removes this database's backups beyond the newest `keep`, those older than `keep_days`, and what killed runs left. The one just made stays whatever the clock says."""
    prefix = re.escape(re.sub(r"[^\w.-]", "_", database))
    pattern = re.compile(rf"{prefix}\.[^.]+\.(\d{{8}}T\d{{9}}Z){re.escape(SUFFIX)}({re.escape(PARTIAL)})?")
    found = [(match[1], match[2], file) for file in folder.iterdir() if (match := pattern.fullmatch(file.name))]
    older = sorted((made, file) for made, partial, file in found if not partial and file != newest)
    removed = [file for _, file in older[: max(0, len(older) - (keep - 1))]]
    if keep_days is not None:
        oldest = f"{datetime.fromtimestamp(clock.now_ms() / 1000, UTC) - timedelta(days=keep_days):{_TIME_FORMAT}}"
        removed += [file for made, file in older if made < oldest and file not in removed]
    left_ms = clock.now_ms() - DUMP_MAX_S * 1000
    for _, partial, file in found:
        with suppress(FileNotFoundError):  # it has been finished by now
            if partial and file.stat().st_mtime * 1000 < left_ms:
                removed.append(file)
    for file in removed:
        with suppress(OSError):  # one that cannot be removed costs room; what was made is complete
            file.unlink(missing_ok=True)
    return removed
