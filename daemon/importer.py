"""The inbox: course content that comes as a file, on a stick or over the classroom's share, for devices without a network.

A dropped `*.carrel-content` file (domain/content_pack.py) is loaded whole or not at all, and then moved out of the way:

    inbox/             files waiting; folders, links, hidden files and those that a program is still copying are left alone
    inbox/done/        files that were loaded
    inbox/refused/     files that were not, each with NAME.problem.txt beside it, a sentence for the person who dropped it

Loading a file again, or an old one, changes nothing: only what is newer than what is here is taken, by the server's feed numbers.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from daemon.bundles.carried_feed import beyond
from daemon.database import DeviceDatabase
from daemon.inbox import apply_content, read_cursors
from domain import content_pack
from domain.blocks import BlockError, TableBlock, decode_block
from domain.clock import Clock
from domain.content_pack import CONTENT_TABLES, FILE_BYTES_MAX, SUFFIX, ContentPack
from domain.errors import InvalidInput, OperatorError, Problem
from domain.validation import bad_places
from loglines.parts import fields

log = logging.getLogger(__name__)

DONE_NAME = "done"
REFUSED_NAME = "refused"
PROBLEM_SUFFIX = ".problem.txt"
FOLDER_MODE = 0o700
# Files considered in one look; the rest wait for the next.
FILES_MAX = 100
# Files kept in done/ and in refused/ each; the oldest make room.
KEPT_MAX = 50
# How programs name a file that they are still copying or loading down.
UNFINISHED_SUFFIXES = (".part", ".partial", ".tmp", ".crdownload", ".download", ".filepart", "~")


class Appearance(NamedTuple):
    """By what a file that is still being written is told: size in bytes, modification time in ns, inode."""

    size: int
    modified_ns: int
    inode: int


@dataclass(frozen=True)
class InboxStatus:
    """What `status` says: files loaded and refused since the start, when the last was (UTC ms), why the last file was refused, if it was,
    and why the folder cannot be used, if it cannot."""

    loaded: int = 0
    refused: int = 0
    last_loaded_ms: int | None = None
    last_problem: str | None = None
    folder_problem: str | None = None


class ContentInbox:
    """Looks into the folder and loads what lies there. `school_id()` is the device's school in internal form, None before enrolment.

    `look` is for one thread at a time.
    """

    def __init__(
        self, folder: Path, database: DeviceDatabase, school_id: Callable[[], str | None], clock: Clock, steady_ms: Callable[[], int]
    ) -> None:
        self._folder = folder
        self._database = database
        self._school_id = school_id
        self._clock = clock
        self._steady_ms = steady_ms
        self._seen: dict[Path, tuple[Appearance, int]] = {}  # when each file was first seen as it is, monotonic ms
        self._stuck: dict[Path, Appearance] = {}  # files that are dealt with but could not be moved away
        self.status = InboxStatus()

    def look(self) -> bool:
        """Loads the files that have kept still for a while. Returns whether others have not yet, so that another look is due soon.

        Before enrolment nothing is touched: whose content it should be is not known yet. Raises OperatorError when the folder cannot
        be used, and what the database raises when it cannot take a file now; that file stays for the next look.
        """
        school_id = self._school_id()
        if school_id is None:
            return False
        try:
            self._prepare_folders()
            steady, waiting = self._sort_out()
        except OperatorError as error:
            self.status = replace(self.status, folder_problem=error.message)
            raise
        self.status = replace(self.status, folder_problem=None)
        for path, appearance in steady.items():
            if self._stuck.get(path) != appearance:
                self._take(path, appearance, school_id)
        self._stuck = {path: appearance for path, appearance in self._stuck.items() if path in steady}
        return waiting

    def _prepare_folders(self) -> None:
        for folder in (self._folder, self._folder / DONE_NAME, self._folder / REFUSED_NAME):
            try:
                folder.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
            except OSError as error:
                raise OperatorError(f"The inbox folder {folder} cannot be made: {error.strerror}.") from error

    def _sort_out(self) -> tuple[dict[Path, Appearance], bool]:
        """The files that look as they did `steady_ms` ago, and whether there are others."""
        now_ms = self._clock.monotonic_ms()
        seen: dict[Path, tuple[Appearance, int]] = {}
        for path, appearance in _files_in(self._folder):
            before = self._seen.get(path)
            seen[path] = (appearance, before[1] if before and before[0] == appearance else now_ms)
        self._seen = seen
        steady = {path: appearance for path, (appearance, since_ms) in seen.items() if now_ms - since_ms >= self._steady_ms()}
        return steady, len(steady) < len(seen)

    def _take(self, path: Path, appearance: Appearance, school_id: str) -> None:
        try:
            tables = read_pack(path, school_id)
            rows = self._database.write(lambda conn: apply_content(conn, beyond(tables, read_cursors(conn))))
        except FileNotFoundError:
            return  # taken away again
        except InvalidInput as error:
            self.status = replace(self.status, refused=self.status.refused + 1, last_problem=error.message)
            log.warning("content file refused", extra=fields(code=error.code, error=error.message))
            self._put_away(path, appearance, REFUSED_NAME, error.message)
        else:
            self.status = replace(self.status, loaded=self.status.loaded + 1, last_loaded_ms=self._clock.now_ms(), last_problem=None)
            log.info("content file loaded", extra=fields(rows=rows))
            self._put_away(path, appearance, DONE_NAME)

    def _put_away(self, path: Path, appearance: Appearance, where: str, problem: str | None = None) -> None:
        """Moves a file to done/ or refused/. One that cannot be moved is remembered, not loaded again and again, and holds up no other."""
        try:
            moved = _move(path, self._folder / where, self._clock.now_ms())
            if problem is not None:
                moved.with_name(moved.name + PROBLEM_SUFFIX).write_text(f"{problem}\n", encoding="utf-8")
            _let_oldest_go(self._folder / where)
        except OSError as error:
            self._stuck[path] = appearance
            log.warning("a file cannot be moved out of the inbox", extra=fields(error=error.strerror or ""))


def read_pack(path: Path, school_id: str) -> Mapping[str, TableBlock]:
    """The tables of a content file, every value checked against the registry.

    Raises InvalidInput with a sentence for whoever dropped the file, and FileNotFoundError.
    """
    data = _read(path)
    try:
        pack = content_pack.decode(data)
    except InvalidInput as error:
        raise _explained(error) from error
    if pack.school_id != school_id:
        raise _refused("This content belongs to another school than this device.")
    _check_rows(pack)
    return pack.tables


def _explained(error: InvalidInput) -> InvalidInput:
    """What is wrong with the whole file, in words for the person who dropped it."""
    if error.code == "malformed_json":
        return _refused("This is not a content file, or it is damaged or incomplete: copy it again.")
    if error.code == "body_too_large":
        return _refused(
            f"This file is larger than a content file may be ({FILE_BYTES_MAX} bytes, or {content_pack.PLAIN_BYTES_MAX} unpacked)."
        )
    return error


def _check_rows(pack: ContentPack) -> None:
    for table in CONTENT_TABLES:
        block = pack.tables.get(table.name)
        if block is None:
            continue
        try:
            known, _ = decode_block(table, block)
        except BlockError as error:
            raise _refused(f"The table {table.name} of this content file is damaged: {error}.") from error
        for column in table.columns:
            if places := bad_places(column, known[column.name]):
                raise _refused(f"Row {places[0] + 1} of {table.name} in this content file has a {column.name} that is not allowed.")
        if any(not isinstance(n, int) or n < 1 for n in known["feed_no"]):
            raise _refused(f"The table {table.name} of this content file does not say how new its rows are.")


def _refused(message: str) -> InvalidInput:
    return InvalidInput([Problem("file", "refused", message)])


def _files_in(folder: Path) -> Iterator[tuple[Path, Appearance]]:
    """The regular files that are for the inbox to judge, in the order of their names."""
    try:
        entries = sorted((e for e in os.scandir(folder) if is_dropped_name(e.name)), key=lambda e: e.name)
    except OSError as error:
        raise OperatorError(f"The inbox folder {folder} cannot be read: {error.strerror}.") from error
    for entry in entries[:FILES_MAX]:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue  # taken away meanwhile
        if stat.S_ISREG(status.st_mode):
            yield Path(entry.path), Appearance(status.st_size, status.st_mtime_ns, status.st_ino)


def is_dropped_name(name: str) -> bool:
    """Whether a file of that name was put here by a person, and is whole as far as its name tells."""
    return not name.startswith(".") and not name.lower().endswith(UNFINISHED_SUFFIXES)


def _read(path: Path) -> bytes:
    """The file's bytes, one more than allowed at most. A name that has become a link is not followed."""
    if path.suffix.lower() != SUFFIX:
        raise _refused(f"Only content files (*{SUFFIX}) are loaded from this folder.")
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            return file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _refused(f"This file cannot be read by the daemon: {error.strerror}.") from error


def _move(path: Path, folder: Path, now_ms: int) -> Path:
    """Moves a file under a name that is free in the folder. Returns where it is now; raises OSError."""
    target = folder / path.name
    if target.exists():
        target = folder / f"{path.stem}.{now_ms}{path.suffix}"
    os.replace(path, target)
    return target


def _let_oldest_go(folder: Path) -> None:
    # Moving a file changes its ctime: the order is that of the moves.
    kept = sorted((p for p in folder.iterdir() if not p.name.endswith(PROBLEM_SUFFIX)), key=lambda p: p.stat().st_ctime_ns, reverse=True)
    for old in kept[KEPT_MAX:]:
        old.unlink(missing_ok=True)
        old.with_name(old.name + PROBLEM_SUFFIX).unlink(missing_ok=True)
