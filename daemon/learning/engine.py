"""The decision engine of a running daemon: what it works with, and what it holds in memory."""

from __future__ import annotations

from dataclasses import dataclass

from daemon.database import DeviceDatabase
from daemon.learning.course import CourseSource
from daemon.learning.histories import Histories
from daemon.records import LocalRecords
from domain.clock import Clock


@dataclass(frozen=True, slots=True)
class Engine:
    """Shared by all requests and jobs."""

    database: DeviceDatabase
    records: LocalRecords
    clock: Clock
    histories: Histories
    courses: CourseSource

    @classmethod
    def of(cls, database: DeviceDatabase, records: LocalRecords, clock: Clock) -> Engine:
        """An engine that holds nothing yet."""
        return cls(database, records, clock, Histories(database), CourseSource())
