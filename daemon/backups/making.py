"""A backup of a device's database, made while whoever owns the file goes on writing.

    copied with SQLite's backup API, of one moment ──▶ integrity_check, rows of every table counted ──▶ on the disk, named ──▶ rotated

It holds names and answers, and is readable by the daemon's account alone; the device's token is not in it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from daemon.backups.kept import FOLDER_NAME, backups_in, newest_of, rotate
from daemon.config import DeviceConfig
from domain.clock import Clock
from domain.errors import OperatorError, Unavailable
from migrations.backup import SUFFIX, demand_space, file_name, written_whole
from migrations.history import HISTORY_TABLE
from migrations.private_files import make_private_folder, real_path
from migrations.sqlite_copy import copy_database, reading_live, value_of
from migrations.waiting import SILENCE, Activity

BUSY_TIMEOUT_S = 10.0
# So many instructions of SQLite's lie between two looks whether to go on: some milliseconds.
LOOK_EVERY_STEPS = 100_000
HOUR_MS = 3600 * 1000


@dataclass(frozen=True)
class Made:
    """A backup that is complete: rows of each table, and older ones that went."""

    path: Path
    size_bytes: int
    rows: dict[str, int]
    removed: list[Path]


def back_up(
    config: DeviceConfig,
    clock: Clock,
    target: Path | None = None,
    *,
    keep: int | None = None,
    activity: Activity = SILENCE,
    go_on: Callable[[], bool] = lambda: True,
) -> Made:
    """Writes a backup into that folder of the configuration, of whose backups the newest `keep` stay; or into `target`, where older ones go only if
    `keep` says how many stay.

    Raises OperatorError when anything of it fails, or `go_on` says no: then there is no file. Nothing of it changes the database.
    """
    database = real_path(config.database_path)
    if not database.is_file():
        raise OperatorError(f"There is no database at {config.database_path} yet: nothing was ever recorded here.")
    folder = target or _own_folder(config)
    if not folder.is_dir():
        raise OperatorError(f"There is no folder {folder}.")
    try:
        with reading_live(database, BUSY_TIMEOUT_S) as source:
            source.execute("PRAGMA wal_autocheckpoint = 0")  # the owner's alone (docs/decisions/0003)
            demand_space(folder, value_of(source, "page_count") * value_of(source, "page_size"), f"back {database.name} up")
            path = folder / (file_name(database.name, newest_migration(source), clock) + SUFFIX)
            with written_whole(path, path) as partial, activity.during(f"backing {database.name} up") as tell:
                rows = _copy(source, partial, clock, tell, go_on)
                size_bytes = partial.stat().st_size
    except sqlite3.Error as error:
        raise OperatorError(f"There is no backup: {error}.") from error
    removed = []
    if target is None or keep:  # in a folder that somebody names may lie the backups of other devices
        removed = rotate(folder, database.name, path, keep or config.backup.keep, clock.now_ms(), config.backup.keep_days)
    return Made(path, size_bytes, rows, removed)


def back_up_if_due(
    config: DeviceConfig, clock: Clock, *, activity: Activity = SILENCE, go_on: Callable[[], bool] = lambda: True
) -> Made | None:
    """A backup when the newest is as old as the configuration wants it to be, None when it is younger, or none is wanted.

    One that a later clock has made does not hinder. Raises as `back_up`.
    """
    if not config.backup.every_h or not config.database_path.is_file():
        return None
    newest = newest_of(backups_in(backup_folder(config), real_path(config.database_path).name), clock.now_ms())
    if newest is not None and clock.now_ms() - newest.made_at_ms < config.backup.every_h * HOUR_MS:
        return None
    return back_up(config, clock, activity=activity, go_on=go_on)


def backup_folder(config: DeviceConfig) -> Path:
    """Where the configuration wants backups to lie."""
    return Path(config.backup.dir).expanduser().absolute() if config.backup.dir else config.state_dir / FOLDER_NAME


def newest_migration(connection: sqlite3.Connection) -> str | None:
    """The newest migration that a database has; None without any."""
    if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = ?", (HISTORY_TABLE,)).fetchone():
        return None
    row = connection.execute(f"SELECT name FROM {HISTORY_TABLE} ORDER BY id DESC LIMIT 1").fetchone()
    return str(row[0]) if row else None


def rows_of(connection: sqlite3.Connection) -> dict[str, int]:
    """Table -> its number of rows, the internal ones of SQLite aside."""
    names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite#_%' ESCAPE '#'").fetchall()
    return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names}


def demand_whole(copy: sqlite3.Connection, sentence: str) -> None:
    """Raises OperatorError, beginning with `sentence`, unless every page is in order and every index says what its table says."""
    found = str(copy.execute("PRAGMA integrity_check(1)").fetchone()[0])
    if found != "ok":
        raise OperatorError(f"{sentence}: {found.splitlines()[-1]}.")


def _copy(
    source: sqlite3.Connection, partial: Path, clock: Clock, tell: Callable[[str], None], go_on: Callable[[], bool]
) -> dict[str, int]:
    """Fills the file, and looks it through. Returns what was counted in both."""
    rows: dict[str, int] = {}

    def tell_and_look(share: str) -> None:
        if not go_on():
            raise Unavailable("The daemon is stopping.")
        tell(share)

    with closing(sqlite3.connect(partial, isolation_level=None)) as copy:
        copy.execute("PRAGMA synchronous = OFF")  # written_whole brings it to the disk
        copy_database(source, copy, tell=tell_and_look, clock=clock, at_that_moment=lambda conn: rows.update(rows_of(conn)))
        copy.execute("PRAGMA journal_mode = delete")  # one file, which can be read where nothing can be written
        copy.set_progress_handler(lambda: not go_on(), LOOK_EVERY_STEPS)
        tell("looking the copy through")
        demand_whole(copy, "There is no backup, because the database is damaged")
        if wrong := [name for name, count in rows_of(copy).items() if rows.get(name) != count]:
            raise OperatorError(f"There is no backup: the copy has other rows in {', '.join(wrong)}.")
    return rows


def _own_folder(config: DeviceConfig) -> Path:
    folder = backup_folder(config)
    try:
        make_private_folder(folder)
    except OSError as error:
        raise OperatorError(f"The folder {folder} cannot be made: {error.strerror}.") from error
    return folder
