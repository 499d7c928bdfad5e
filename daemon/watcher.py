"""File events: which folder changed, handed on and nothing else. The only module that knows watchdog.

Folders are watched, not files, since most programs replace a file rather than write into it; what an event says is not trusted beyond the
name, and whoever is told looks for itself. Events may be lost (a folder that is replaced, a full kernel queue, a network disk), so everything
watched here is looked at from time to time as well (daemon/service.py, the rescan jobs).

The folder of the SQLite database is never watched.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from watchdog.events import (
    FileClosedEvent,
    FileCreatedEvent,
    FileDeletedEvent,
    FileModifiedEvent,
    FileMovedEvent,
    FileSystemEvent,
    FileSystemEventHandler,
)
from watchdog.observers import Observer
from watchdog.observers.api import BaseObserver, EventEmitter, ObservedWatch

from loglines.parts import fields

log = logging.getLogger(__name__)

# Reading a file must not look like a change of it: `opened` and `closed_no_write` are left out.
_EVENTS: list[type[FileSystemEvent]] = [FileCreatedEvent, FileModifiedEvent, FileMovedEvent, FileDeletedEvent, FileClosedEvent]


@dataclass(frozen=True)
class Watched:
    """A folder, which of its files matter (by name), and whom to tell. `tell` only enqueues."""

    folder: Path
    concerns: Callable[[str], bool]
    tell: Callable[[], None]


@dataclass(frozen=True)
class _Watch:
    """A watch as it was set: on which folder (device and inode), by which emitter."""

    identity: tuple[int, int]
    watch: ObservedWatch
    emitter: EventEmitter | None


class Watcher:
    """Tells of changes in folders between `start` and `stop`. `check` brings back watches that have died."""

    def __init__(self, watched: Sequence[Watched]) -> None:
        self._watched = tuple(watched)
        self._watches: dict[Path, _Watch] = {}
        self._observer: BaseObserver | None = None
        self._silent: set[Path] = set()
        self._lock = Lock()

    def start(self) -> None:
        """Sets the watches. A folder that is missing or cannot be watched is tried again by `check`."""
        with self._lock:
            self._start_observer()
            for watched in self._watched:
                self._set(watched)

    def stop(self, timeout_s: float) -> None:
        with self._lock:
            observer, self._observer = self._observer, None
        if observer is not None:
            observer.stop()
            observer.join(timeout_s)

    def check(self) -> None:
        """Sets a watch again whose folder was deleted, moved away or replaced, or whose thread has ended, and tells, since events were lost."""
        with self._lock:
            if self._observer is None:
                return
            if not self._observer.is_alive():
                log.warning("the file watcher had died and is started again")
                self._observer.stop()
                self._start_observer()
            renewed = [watched for watched in self._watched if not self._is_well(watched) and self._set(watched)]
        for watched in renewed:
            watched.tell()

    def _start_observer(self) -> None:
        self._watches.clear()
        self._observer = Observer()
        self._observer.start()

    def _is_well(self, watched: Watched) -> bool:
        held = self._watches.get(watched.folder)
        if held is None or held.emitter is None or not held.emitter.is_alive():
            return False
        return held.identity == _identity(watched.folder)

    def _set(self, watched: Watched) -> bool:
        """Sets the watch, in place of a dead one. Returns whether that was possible; says so once when it was not."""
        observer = self._observer
        if observer is None:
            return False
        self._drop(watched.folder)
        # Taken before the watch is set: a folder replaced in between is then found to be another one by the next check.
        identity = _identity(watched.folder)
        try:
            if identity is None:
                raise FileNotFoundError(2, "there is no such folder")
            watch = observer.schedule(_Handler(watched), str(watched.folder.resolve()), recursive=False, event_filter=_EVENTS)
        except OSError as error:
            if watched.folder not in self._silent:
                log.warning("a folder cannot be watched", extra=fields(folder=str(watched.folder), error=error.strerror or ""))
            self._silent.add(watched.folder)
            return False
        self._silent.discard(watched.folder)
        emitter = next((e for e in observer.emitters if e.watch == watch), None)
        self._watches[watched.folder] = _Watch(identity, watch, emitter)
        return True

    def _drop(self, folder: Path) -> None:
        held = self._watches.pop(folder, None)
        if held is not None and self._observer is not None:
            try:
                self._observer.unschedule(held.watch)
            except (KeyError, OSError):
                log.debug("a watch was already gone", extra=fields(folder=str(folder)))


class _Handler(FileSystemEventHandler):
    """Passes on the events that concern somebody. An exception here would end the observer's thread without a word."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched

    def on_any_event(self, event: FileSystemEvent) -> None:
        try:
            names = {os.path.basename(os.fsdecode(path)) for path in (event.src_path, event.dest_path) if path}
            if any(map(self._watched.concerns, names)):
                self._watched.tell()
        except Exception:
            log.exception("a file event could not be handed on")


def _identity(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
