"""The files beside a device's database that may hold rows about students, or parts of them; the database itself and its journal aside.

Also what a process that was killed has left half-written. Whoever erases a student, wipes a device or makes it ready for imaging removes them all.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from daemon import durable_file
from daemon.backups.kept import FOLDER_NAME, WORK_SUFFIX
from daemon.bundles.spool import FILE_NAMES as SPOOLED
from daemon.recovery.report import damaged_files
from daemon.sync.verify_report import FILE_NAME as VERIFY_REPORT
from migrations.backup import backups_of, unfinished_backups_of
from migrations.private_files import real_path


def files_with_students(database: Path, state_dir: Path, backups_dir: Path | None = None) -> Iterator[Path]:
    """Files, and one folder: backups whole and half-made, databases that were set aside, what restoring has left, bundles, comparisons.

    `backups_dir` is where the configuration wants backups to lie; those in the state folder, where it may have wanted them before, are named as
    well. Raises OSError when a folder cannot be read.
    """
    real = real_path(database)
    for folder in dict.fromkeys((real.parent, state_dir / FOLDER_NAME, *([backups_dir] if backups_dir else []))):
        if folder.is_dir():
            yield from backups_of(folder / real.name)
            yield from unfinished_backups_of(folder / real.name)
    for damaged in damaged_files(real):
        yield from (damaged.with_name(damaged.name + suffix) for suffix in ("-wal", "-shm", ""))
    yield real.with_name(real.name + WORK_SUFFIX)
    for path in (real.with_name(VERIFY_REPORT), *(state_dir / name for name in SPOOLED)):
        yield from (path, path.with_name(path.name + durable_file.PARTIAL))


def remove(path: Path) -> None:
    """Deletes a file, or a folder with what is in it; one that is not there is no error. Raises OSError."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
