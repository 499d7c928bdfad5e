"""What waits for a person in the database: refused operations, silent devices, what nobody lets go of."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase
from cloud_api.devices.replacement import is_replaced
from domain.clock import Clock
from domain.counted import counted
from domain.findings import Finding, Severity

DAY_MS = 24 * 3600 * 1000
# Longer than any holidays but the summer's.
SILENT_DAYS = 30
# `carrel-cloud tidy` may be late by this much.
TIDY_LATE_DAYS = 7


def refused(database: CloudDatabase) -> Iterator[Finding]:
    """Operations that were not taken."""
    with database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT count(*), count(DISTINCT school_id) FROM dead_letters")
        [(letters, schools)] = cursor.fetchall()
    if letters:
        what = f"Operations that were refused, and are kept as dead letters: {letters}, of {schools} school{'s' if schools > 1 else ''}."
        yield Finding("queue", Severity.WARNING, what, "`carrel-cloud dead-letters list` says why, and what helps")
    else:
        yield Finding("queue", Severity.OK, "Nothing was refused.")


def devices(database: CloudDatabase, clock: Clock) -> Iterator[Finding]:
    """Devices that have not been heard of."""
    with database.transaction(read_only=True) as cursor:
        cursor.execute(
            "SELECT count(*), count(*) FILTER (WHERE coalesce(last_seen_ms, enrolled_at_ms) < %s) FROM devices"
            f" WHERE revoked_at_ms IS NULL AND NOT {is_replaced('devices')}",
            (clock.now_ms() - SILENT_DAYS * DAY_MS,),
        )
        [(enrolled, silent)] = cursor.fetchall()
    if silent:
        what = f"Silent for more than {SILENT_DAYS} days: {silent} of {counted(enrolled, 'device')}; what is only there is not here."
        yield Finding("devices", Severity.NOTE, what, "`carrel-cloud device list` names them; have them switched on, or revoke them")
    else:
        yield Finding("devices", Severity.OK, f"Devices that are enrolled: {enrolled}; none is silent.")


def tidied(database: CloudDatabase, config: CloudConfig, clock: Clock, tidy: Callable[[], object]) -> Iterator[Finding]:
    """Whether what is kept for a time only goes when its time is over; `tidy` lets it go."""
    days = config.retention.codes_days + TIDY_LATE_DAYS
    with database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT count(*) FROM enrolment_codes WHERE expires_at_ms < %s", (clock.now_ms() - days * DAY_MS,))
        [(late,)] = cursor.fetchall()
    if late:
        what = f"Kept for too long: {counted(late, 'enrolment code')}."
        yield Finding(
            "tidy", Severity.WARNING, what, "see why carrel-cloud-tidy.timer does not run `carrel-cloud tidy`; --fix runs it", tidy
        )
    else:
        yield Finding("tidy", Severity.OK, "What is kept for a time only was let go of.")
