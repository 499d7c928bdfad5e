"""What is applied, against what is shipped: pure functions over history rows and migration files.

One invariant carries everything: the history of a database is a prefix of the files shipped, with the same checksums. What breaks
it is refused before anything runs.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, NamedTuple

from domain.errors import SchemaError
from migrations.files import MigrationFile

HISTORY_TABLE = "migration_history"
HEAD = "head"
# So many files that it does not have may a cloud database have applied, and a program serves it: the machines of a school are upgraded one
# after the other (docs/migrations.md). Of two nobody has promised it.
STEPS_NEWER_MAX = 1

State = Literal["applied", "pending", "altered", "missing"]
Direction = Literal["up", "down"]


@cache
def app_version() -> str:
    """The version of this installation, which the history keeps so that an older program can say what to install."""
    try:
        return importlib.metadata.version("carrel")
    except importlib.metadata.PackageNotFoundError:
        return "unversioned"


class HistoryRow(NamedTuple):
    """One row of `migration_history`, the field names being the columns. Rows are handled oldest first."""

    name: str
    checksum: str
    applied_at_ms: int
    duration_ms: int
    app_version: str


@dataclass(frozen=True)
class HistoryEntry:
    """One migration as `history` shows it. `altered`: the file changed after it was applied; `missing`: applied, but not shipped."""

    name: str
    state: State
    row: HistoryRow | None = None


def entries(rows: Sequence[HistoryRow], files: Sequence[MigrationFile]) -> list[HistoryEntry]:
    """Every migration that is applied or shipped: the applied ones in the order of their application, then the pending ones."""
    checksums = {file.name: file.checksum for file in files}
    applied = [HistoryEntry(row.name, _state(row, checksums.get(row.name)), row) for row in rows]
    done = {row.name for row in rows}
    return applied + [HistoryEntry(file.name, "pending") for file in files if file.name not in done]


def _state(row: HistoryRow, checksum: str | None) -> State:
    if checksum is None:
        return "missing"
    return "applied" if checksum == row.checksum else "altered"


def demand_prefix(rows: Sequence[HistoryRow], files: Sequence[MigrationFile]) -> None:
    """Raises SchemaError, in one sentence that says what to do, unless `rows` are the first of `files`, unaltered."""
    names = [file.name for file in files]
    for row, file in zip(rows, files, strict=False):
        if row.name not in names:
            raise SchemaError(
                f"This database had {row.name} applied by Carrel {row.app_version}, and this version does not have that file."
            )
        if row.name != file.name:
            raise SchemaError(f"{file.name} comes before {row.name}, which is already applied: give it the next free number.")
        if row.checksum != file.checksum:
            raise SchemaError(
                f"{row.name} was edited after it was applied: restore the shipped file and put the change into a migration of its own."
            )
    if len(rows) > len(files):
        newest = rows[-1]
        raise SchemaError(
            f"This database is newer than the program: it is at {newest.name}, and the files here end at {names[-1]};"
            f" install Carrel {newest.app_version} or newer."
        )


def names_to_apply(rows: Sequence[HistoryRow], files: Sequence[MigrationFile], target: str) -> list[str]:
    """The names of the files to apply, in order, so that `target` is reached: `head`, `+N`, or the name of a file.

    `rows` must be a prefix of `files` (demand_prefix). The name at which the database already stands gives an empty list. Raises
    SchemaError for an unknown name, one that lies behind, and more steps than there are.
    """
    names = [file.name for file in files]
    pending = names[len(rows) :]
    if target == HEAD:
        return pending
    if match := re.fullmatch(r"\+([0-9]{1,4})", target):
        steps = int(match[1])
        if not 1 <= steps <= len(pending):
            raise SchemaError(f"Cannot go up {steps} migrations: {len(pending)} are pending.")
        return pending[:steps]
    _demand_known(target, names)
    position = names.index(target)
    if position + 1 < len(rows):
        raise SchemaError(f"{target} is already applied, and the database is at {rows[-1].name}: to go back, use downgrade.")
    return names[len(rows) : position + 1]


def names_to_revert(rows: Sequence[HistoryRow], target: str) -> list[str]:
    """The names of the migrations to take back, newest first, so that `target` is reached: `-N`, or the name to end at.

    The name at which the database already stands gives an empty list. Raises SchemaError for a name that is not applied, and more
    steps than there are.
    """
    names = [row.name for row in rows]
    if match := re.fullmatch(r"-([0-9]{1,4})", target):
        steps = int(match[1])
        if not 1 <= steps <= len(names):
            raise SchemaError(f"Cannot go down {steps} migrations: {len(names)} are applied.")
        return names[: -steps - 1 : -1]
    _demand_known(target, names)
    return names[: names.index(target) : -1]


@dataclass(frozen=True)
class StampPlan:
    """What stamping changes: names of rows to drop, newest first, and of files to record, in order."""

    drop: tuple[str, ...]
    record: tuple[str, ...]


def plan_stamp(rows: Sequence[HistoryRow], files: Sequence[MigrationFile], target: str) -> StampPlan:
    """The changes after which the history is exactly the files up to `target`, `head` or a file's name.

    Rows stay as far as they are a prefix of those files, unaltered. A row of an altered file is dropped and recorded anew, which is how
    a history that no longer fits is repaired. Raises SchemaError for an unknown name.
    """
    names = [file.name for file in files]
    if target != HEAD:
        _demand_known(target, names)
    wanted = files if target == HEAD else files[: names.index(target) + 1]
    pairs = zip(rows, wanted, strict=False)
    kept = sum(1 for _ in itertools.takewhile(lambda pair: pair[0][:2] == (pair[1].name, pair[1].checksum), pairs))
    return StampPlan(tuple(row.name for row in rows[kept:][::-1]), tuple(file.name for file in wanted[kept:]))


def _demand_known(target: str, names: Sequence[str]) -> None:
    if target not in names:
        raise SchemaError(f"There is no migration {target!r} to go to; the newest is {names[-1] if names else 'none'}.")
