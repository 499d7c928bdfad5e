"""What devices say of themselves (domain/wire.py, DeviceReport), as last heard. A device's word: shown, and nothing decided by it."""

from __future__ import annotations

from cloud_api.database import Cursor
from cloud_api.devices.auth import device_for
from domain.wire import APP_VERSION_LENGTH_MAX, DeviceReport

# The same report again is written down at most this often.
NOTE_AGAIN_AFTER_MS = 60_000
# PostgreSQL's integers end there; an age of more than that many milliseconds is one of decades.
_INTEGER_MAX = 2**31 - 1
_AGE_MAX_MS = 100 * 366 * 24 * 3_600_000

_NOTE = """
UPDATE devices SET pending_ops = %(pending)s, oldest_pending_at_ms = %(oldest)s, schema_version = coalesce(%(schema)s, schema_version),
       app_version = coalesce(nullif(%(version)s, ''), app_version), reported_at_ms = %(now)s
 WHERE school_id = %(school)s AND id = %(device)s
   AND (reported_at_ms IS NULL OR reported_at_ms NOT BETWEEN %(now)s - %(again)s AND %(now)s
        OR (pending_ops, schema_version, app_version) IS DISTINCT FROM (%(pending)s, %(schema)s, %(version)s))
"""


def note(cursor: Cursor, school_id: str, device_id: str, report: DeviceReport, now_ms: int) -> None:
    """Writes down what a device said. What cannot be is cut down to what can: a wrong word about itself keeps no device from syncing."""
    pending = _within(report.pending, _INTEGER_MAX)
    age_ms = report.oldest_pending_age_ms
    cursor.execute(
        _NOTE,
        {
            "pending": pending,
            "oldest": None if age_ms is None or not pending else now_ms - _within(age_ms, _AGE_MAX_MS),
            "schema": _within(report.schema, _INTEGER_MAX) or None,
            "version": "".join(filter(str.isprintable, report.app_version))[:APP_VERSION_LENGTH_MAX],
            "now": now_ms,
            "again": NOTE_AGAIN_AFTER_MS,
            "school": school_id,
            "device": device_id,
        },
    )


def note_by_token(cursor: Cursor, token: str, report: DeviceReport, now_ms: int) -> None:
    """The same for the device of a token. Raises NotSignedIn, Forbidden."""
    device = device_for(cursor, token, lock=False)
    note(cursor, device.school_id, device.id, report, now_ms)


def _within(number: int, most: int) -> int:
    return max(0, min(number, most))
