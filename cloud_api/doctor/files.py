"""Whether what holds names, answers or secrets outside the database is closed to other accounts."""

from __future__ import annotations

import itertools
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cloud_api.backups.making import SUFFIX
from cloud_api.config import CloudConfig, erasures_path, withdrawals_path
from domain.findings import Finding, Severity
from migrations.backup import PARTIAL

FOLDER_MODE, FILE_MODE = 0o700, 0o600
# More backups are not looked at.
BACKUPS_MAX = 10_000
# Of many files so many are named.
NAMED_MAX = 3


def permissions(config: CloudConfig, backups: Path) -> Iterator[Finding]:
    """Backups, the register of erasures and the server's key are their owner's alone. Files that are not there are no fault of this check."""
    ours = [path for path in (*_backups(backups), erasures_path(config), withdrawals_path(config)) if _is_open(path, 0o077)]
    if ours:
        what = f"Other accounts may reach {_named(ours)}, which hold what students answered, or who was erased."
        remedy = f"chmod them to {FILE_MODE:04o}, the folder to {FOLDER_MODE:04o}; --fix does"
        yield Finding("permissions", Severity.ERROR, what, remedy, lambda: _close(ours))
    key = Path(config.tls.key or config.tls.certificate) if config.tls.certificate else None
    # A group may read it: keys are commonly shared so by the services of a machine.
    if key and _is_open(key, 0o007):
        yield Finding("permissions", Severity.ERROR, f"Every account may read the server's key {key}.", f"chmod it to {FILE_MODE:04o}")
    elif not ours:
        yield Finding("permissions", Severity.OK, "Backups, the register of erasures and the key are closed to other accounts.")


def _backups(folder: Path) -> Iterator[Path]:
    """The folder, and the backups in it, finished or not."""
    if folder.is_dir():
        yield folder
        inside = (path for path in folder.iterdir() if path.name.endswith((SUFFIX, SUFFIX + PARTIAL)))
        yield from itertools.islice(inside, BACKUPS_MAX)


def _is_open(path: Path, forbidden: int) -> bool:
    """Whether the file is there and has a mode of those that are forbidden. Raises OSError where it cannot be told."""
    try:
        return bool(stat.S_IMODE(path.lstat().st_mode) & forbidden) and not path.is_symlink()
    except FileNotFoundError:
        return False


def _close(paths: Iterable[Path]) -> None:
    for path in paths:
        path.chmod(FOLDER_MODE if path.is_dir() else FILE_MODE)


def _named(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - NAMED_MAX} more" if len(paths) > NAMED_MAX else ""
    return ", ".join(str(path) for path in paths[:NAMED_MAX]) + more
