"""What lies in the state folder: whose it is, whether there is room, and what was left behind."""

from __future__ import annotations

import glob
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from daemon.backups.kept import PARTIAL_KEPT_MS, WORK_SUFFIX
from daemon.backups.making import backup_folder
from daemon.config import PRIVATE_FOLDER_MODE, DeviceConfig
from daemon.process.state_folder import FILE_MODE, locked
from daemon.recovery import ballast
from daemon.recovery.report import damaged_files
from domain.clock import SystemClock
from domain.findings import Finding, Severity
from migrations.backup import MB, PARTIAL, RESERVE_BYTES, SPACE_FACTOR
from migrations.private_files import real_path

# More is not looked at: a folder with so many files is not the daemon's.
FILES_MAX = 10_000
# The machine itself wants room: below this a person should look.
FREE_MIN_BYTES = 500 * MB


def permissions(config: DeviceConfig) -> Iterator[Finding]:
    """Everything in the state folder is its owner's alone."""
    if not config.state_dir.is_dir():
        yield Finding("permissions", Severity.WARNING, f"There is no folder {config.state_dir} yet.", "start the daemon, which makes it")
        return
    owner = config.state_dir.stat().st_uid
    if owner not in (os.geteuid(), 0) and os.geteuid() != 0:
        yield Finding("permissions", Severity.ERROR, f"{config.state_dir} belongs to another account.", "run this as the daemon's account")
        return
    found = _looked_at([config.state_dir, *_inside(config.state_dir)])
    open_to_others = [path for path, seen in found.items() if stat.S_IMODE(seen.st_mode) & 0o077 and not stat.S_ISLNK(seen.st_mode)]
    foreign = [path for path, seen in found.items() if seen.st_uid != owner]
    if open_to_others:
        yield Finding(
            "permissions",
            Severity.ERROR,
            f"Other accounts may reach {_named(open_to_others)}, which may hold names, answers or secrets.",
            "chmod them to 0600, folders to 0700; --fix does",
            _all(_close, open_to_others),
        )
    if foreign:
        remedy = f"chown them to the owner of {config.state_dir}" + ("; --fix does" if os.geteuid() == 0 else ", as root")
        fix = _all(lambda path: os.chown(path, owner, config.state_dir.stat().st_gid, follow_symlinks=False), foreign)
        what = f"{_named(foreign)} belong to another account than the folder: the daemon cannot use them."
        yield Finding("permissions", Severity.ERROR, what, remedy, fix if os.geteuid() == 0 else None)
    if not open_to_others and not foreign:
        yield Finding("permissions", Severity.OK, f"{config.state_dir} is closed to other accounts.")


def disk(config: DeviceConfig) -> Iterator[Finding]:
    """Room for answers, and for the copy that every upgrade makes first."""
    folder = config.database_path.parent
    if not folder.is_dir():
        return
    free = shutil.disk_usage(folder).free
    size = config.database_path.stat().st_size if config.database_path.exists() else 0
    told = f"{free / MB:,.0f} MB are free where the database ({size / MB:,.1f} MB) lies"
    if free < ballast.BALLAST_BYTES + ballast.FREE_MIN_BYTES:
        yield Finding("disk", Severity.ERROR, f"{told}: nothing new can be recorded.", "free some space; everything then goes on by itself")
    elif free < max(FREE_MIN_BYTES, SPACE_FACTOR * size + RESERVE_BYTES):
        yield Finding("disk", Severity.WARNING, f"{told}: an upgrade may find no room for its backup.", "free some space")
    else:
        yield Finding("disk", Severity.OK, f"{told}.")


def leftovers(config: DeviceConfig) -> Iterator[Finding]:
    """What recoveries have set aside, and what processes that were killed have left."""
    for path in damaged_files(config.database_path):
        remedy = "delete it, with its -wal, when nobody needs it: it holds answers"
        yield Finding("leftovers", Severity.NOTE, f"{path} was set aside, {path.stat().st_size / MB:.1f} MB.", remedy)
    database = real_path(config.database_path)
    work = database.with_name(database.name + WORK_SUFFIX)
    if work.exists():
        yield Finding(
            "leftovers",
            Severity.WARNING,
            f"A restore was broken off and has left {work}.",
            "delete it; --fix does",
            lambda: _remove(config, work),
        )
    ours = f"{glob.escape(database.name)}.*"
    places = ((config.state_dir, "*"), (database.parent, ours), (backup_folder(config), ours))
    old = sorted({path for folder, names in places for path in _old_partials(folder, names)})
    if old:
        what = f"{_named(old)} were never finished."
        yield Finding("leftovers", Severity.WARNING, what, "delete them; --fix does", _all(Path.unlink, old))


def _looked_at(paths: Sequence[Path]) -> dict[Path, os.stat_result]:
    """Without what has gone meanwhile: a daemon that works makes files and removes them."""
    found = {}
    for path in paths:
        with suppress(FileNotFoundError):
            found[path] = path.lstat()
    return found


def _inside(folder: Path) -> list[Path]:
    return [path for path, _ in zip(folder.rglob("*"), range(FILES_MAX), strict=False)]


def _old_partials(folder: Path, names: str) -> list[Path]:
    """Outside the state folder, on a disk with others' files for instance, those of this database alone."""
    if not folder.is_dir():
        return []
    before_s = (SystemClock().now_ms() - PARTIAL_KEPT_MS) / 1000
    return [path for path in folder.glob(f"{names}{PARTIAL}") if path.is_file() and path.stat().st_mtime < before_s]


def _remove(config: DeviceConfig, work: Path) -> None:
    with locked(config.state_dir):  # nobody restores at this moment
        shutil.rmtree(work)


def _close(path: Path) -> None:
    os.chmod(path, PRIVATE_FOLDER_MODE if path.is_dir() else FILE_MODE)


def _all(do: Callable[[Path], object], paths: Sequence[Path]) -> Callable[[], None]:
    def run() -> None:
        for path in paths:
            do(path)

    return run


def _named(paths: Sequence[Path]) -> str:
    """The first few by name, and how many there are."""
    first = ", ".join(str(path) for path in paths[:3])
    return first if len(paths) <= 3 else f"{first} and {len(paths) - 3} more"
