"""The decision engine of a running daemon: what it works with, and what it holds in memory."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from daemon.database import DeviceDatabase
from daemon.learning.course import CourseSource
from daemon.learning.histories import Histories
from daemon.records import LocalRecords
from domain.clock import Clock


@dataclass(frozen=True, slots=True)
class Engine:
    """Shared by all requests and jobs. `planning` is held while a plan is made from the one before or an item is marked: no mark gets lost between the two."""

    database: DeviceDatabase
    records: LocalRecords
    clock: Clock
    histories: Histories
    courses: CourseSource
    planning: threading.RLock = field(default_factory=threading.RLock)

    @classmethod
    def of(cls, database: DeviceDatabase, records: LocalRecords, clock: Clock) -> Engine:
        """An engine that holds nothing yet."""
        return cls(database, records, clock, Histories(database), CourseSource())
