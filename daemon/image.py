"""A device made ready for imaging: what makes it this device, and everything about people, goes; the course stays.

Copies of the disk then start with the course and without a name, and each becomes a device of its own when it is enrolled. Nothing that is
not at school is thrown away: while there is any, nothing is changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from daemon.access.pins import KEY_FILE as PIN_KEY_FILE
from daemon.backups.making import backup_folder
from daemon.config import DeviceConfig, prepare_folders
from daemon.durable_file import PARTIAL
from daemon.erasure.files import files_with_students, remove
from daemon.identity import adoption
from daemon.identity.device import TOKEN_FILE
from daemon.identity.instance import IDENTITY_COPY
from daemon.identity.keys import KEYS_FILE
from daemon.models import MODELS
from daemon.process.state_folder import ADDRESS_NAME, APP_TOKEN_NAME, TOKEN_NAME, locked
from daemon.queue import outbox
from daemon.readiness import make_ready
from daemon.recovery import ballast, integrity
from daemon.recovery import report as recovery_report
from daemon.recovery.journal_file import journal_path, laid_by
from domain.counted import in_words
from domain.errors import OperatorError
from domain.registry import ScopeKind, tables_in
from migrations.lock import owning
from migrations.pragmas import SAFE, durable
from migrations.private_files import real_path

# What is the school's and about nobody: the tables that a content pack may hold too.
CONTENT = tuple(table.name for table in tables_in(ScopeKind.SCHOOL) if table.name != "users")


@dataclass(frozen=True)
class Image:
    """What is left: questions of the course, and bytes of the database; and how many people are not known here any more."""

    questions: int
    people_removed: int
    size_bytes: int


def unsent(database: Path) -> int:
    """Operations that are nowhere but on this device, those of another school in a journal that was laid by among them."""
    with closing(_connect(database)) as conn:
        return outbox.nowhere_else(conn) + laid_by(database)


def prepare(config: DeviceConfig) -> Image:
    """Makes the device of this configuration ready for imaging. Raises AlreadyRunning while its daemon runs, and as `strip` does."""
    prepare_folders(config)
    with locked(config.state_dir), owning(config.database_path):
        make_ready(config)
        return strip(config.database_path, config.state_dir, backup_folder(config))


def strip(database: Path, state_dir: Path, backups: Path | None = None, *, discarding_unsent: bool = False) -> Image:
    """Leaves the course and nothing else, in the migrated database and in the folder. It may be called again, also after it was broken off.

    `backups` is the folder of the backups, unless it is that in the state folder. Nothing else may work in the folder. Raises OperatorError,
    naming their number, while operations are unsent, unless they are to be lost.
    """
    if (count := unsent(database)) and not discarding_unsent:
        what = f"{in_words(count, 'change')} {'is' if count == 1 else 'are'}"
        raise OperatorError(
            f"Nothing was changed, because {what} not at school yet: let `carrel run` and `carrel sync` bring them there first."
        )
    try:
        # The files first: a database without an identity, beside a copy of it, would be taken for one that has lost it.
        kept = list(_removed(_personal_files(real_path(database), state_dir, backups)))
        with closing(_connect(database)) as conn:
            image = _strip_tables(conn, real_path(database))
        if kept:
            raise kept[0]
        return image
    except (OSError, sqlite3.Error) as error:
        raise OperatorError(f"{database} cannot be prepared: {error}.") from error


def _removed(paths: Iterator[Path]) -> Iterator[OSError]:
    """Removes what can be removed; gives what was said of the rest."""
    for path in list(paths):
        try:
            remove(path)
        except OSError as error:
            yield error


def _strip_tables(conn: sqlite3.Connection, path: Path) -> Image:
    conn.execute("BEGIN IMMEDIATE")
    (people,) = conn.execute("SELECT count(*) FROM users").fetchone()
    for model in MODELS:
        table = model._meta.table_name
        # The next school numbers its rows anew; what it does not name goes at the end of its first pull.
        conn.execute(f"UPDATE {table} SET feed_no = 0" if table in CONTENT else f"DELETE FROM {table}")
    conn.execute("DELETE FROM sqlite_sequence WHERE name = 'sync_operations'")
    (questions,) = conn.execute("SELECT count(*) FROM questions").fetchone()
    conn.execute("COMMIT")
    conn.execute("VACUUM")  # deleted rows would stay readable in free pages
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Image(int(questions), int(people), path.stat().st_size)


def _personal_files(database: Path, state_dir: Path, backups: Path | None) -> Iterator[Path]:
    """What lies beside the database and in the state folder and belongs to this device, or may hold rows about people."""
    for name in (TOKEN_FILE, KEYS_FILE, adoption.FILE_NAME, IDENTITY_COPY, ADDRESS_NAME, TOKEN_NAME, APP_TOKEN_NAME, PIN_KEY_FILE):
        yield from (state_dir / name, state_dir / (name + PARTIAL))
    yield from database.parent.glob(f"{journal_path(database).name}*")
    yield from files_with_students(database, state_dir, backups)
    yield from (database.with_name(database.name + module.SUFFIX) for module in (ballast, integrity, recovery_report))


def _connect(database: Path) -> sqlite3.Connection:
    conn = sqlite3.connect(database, isolation_level=None)
    for name, value in {**SAFE, **durable(), "secure_delete": 1}.items():
        conn.execute(f"PRAGMA {name} = {value}")
    return conn
