"""What a server lets go of in time: tombstones, codes, places in logs that nobody continues, devices that nobody has seen for years, and, if
a school wants that, students who left long ago and what was answered long ago.

Every step is a transaction of its own over a bounded number of rows, so that pushes and pulls go on meanwhile; a run that is killed, or that
stops at its limit, is gone on with by the next. Lock order as everywhere: device, school, rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from cloud_api import audit
from cloud_api.access import sessions, tries
from cloud_api.clock_doubts import doubts
from cloud_api.config import Retention
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.devices import enrolled
from cloud_api.erasure.answers import let_answers_go
from cloud_api.erasure.leavers import erase_leavers
from cloud_api.fleet import hours
from cloud_api.sync import feed, settled
from domain.clock import Clock
from domain.errors import OperatorError
from domain.ids import IdSource

DAY_MS = 24 * 3600 * 1000
# No session lasts for longer, however the server is set up (cloud.sign_in.absolute_h).
SESSION_LIFE_MAX_MS = DAY_MS
# Rows of one step, and steps of each kind that one run makes for one school.
STEP_ROWS_MAX = 5_000
STEPS_MAX = 200


@dataclass(frozen=True, slots=True)
class Tidied:
    """What one run let go of, as numbers; `more` says that it stopped at its limit."""

    tombstones: int = 0
    codes: int = 0
    incarnations: int = 0
    devices_revoked: int = 0
    settled_values: int = 0
    sessions: int = 0
    sync_hours: int = 0
    wrong_tries: int = 0
    audit_entries: int = 0
    students_erased: int = 0
    answers: int = 0
    more: bool = False


# Takes at most so many rows, and returns how many.
_Step = Callable[[Cursor, int], int]


def tidy(database: CloudDatabase, clock: Clock, ids: IdSource, settings: Retention, *, clock_is_right: bool = False) -> Tidied:
    """One run over all schools. Raises OperatorError when something speaks against the clock, by which all of this is old, and nobody says that it is right."""
    now_ms = clock.now_ms()
    run = _Run(database)
    with database.transaction(read_only=True) as cursor:
        if not clock_is_right:
            _demand_sound_clock(cursor, now_ms)
        cursor.execute("SELECT id FROM schools ORDER BY id")
        schools = [school_id for (school_id,) in cursor.fetchall()]
    for school_id in schools:
        database.retrying(partial(feed.note_day, school_id=school_id, now_ms=now_ms))
        for name, step in _steps(school_id, settings, ids, now_ms).items():
            run.repeat(name, step)
        if settings.answers_days:
            let_go = let_answers_go(database, clock, ids, school_id, settings.answers_days)
            run.add("answers", let_go.rows, let_go.more)
            _repeat(database, partial(_forget_days, school_id))
    run.repeat("wrong_tries", lambda cursor, rows_max: tries.forget_old(cursor, now_ms, rows_max))
    if settings.retired_students_days:
        before_ms = now_ms - settings.retired_students_days * DAY_MS
        run.add("students_erased", *erase_leavers(database, clock, ids, before_ms))
    return Tidied(**run.counts, more=run.more)


def _demand_sound_clock(cursor: Cursor, now_ms: int) -> None:
    if found := list(doubts(cursor, now_ms)):
        raise OperatorError(
            f"Nothing was let go of, because the clock of this server, which says {datetime.fromtimestamp(now_ms / 1000, UTC):%Y-%m-%d}, may be wrong:"
            f" {'; '.join(found)}. Set it. If it is right, `carrel-cloud tidy --clock-is-right` goes on; a pause is not asked about any more after a week."
        )


class _Run:
    """What has been let go of so far, by the name that it has in Tidied."""

    def __init__(self, database: CloudDatabase) -> None:
        self._database = database
        self.counts: Counter[str] = Counter()
        self.more = False

    def repeat(self, name: str, step: _Step) -> None:
        self.add(name, *_repeat(self._database, step))

    def add(self, name: str, done: int, more: bool) -> None:
        self.counts[name] += done
        self.more |= more


def _steps(school_id: str, settings: Retention, ids: IdSource, now_ms: int) -> dict[str, _Step]:
    return {
        "tombstones": partial(_forget_tombstones, school_id, now_ms - settings.tombstones_days * DAY_MS),
        "codes": partial(_forget_codes, school_id, now_ms - settings.codes_days * DAY_MS),
        "incarnations": partial(_forget_incarnations, school_id, settings.incarnations_kept),
        "devices_revoked": partial(_revoke_silent, school_id, now_ms - settings.devices_silent_days * DAY_MS, ids, now_ms),
        "settled_values": partial(_forget_settled, school_id, now_ms),
        "sessions": partial(_forget_sessions, school_id, now_ms),
        "sync_hours": partial(_forget_hours, school_id, now_ms),
        "audit_entries": partial(_forget_audit, school_id, now_ms - settings.audit_days * DAY_MS),
    }


def _repeat(database: CloudDatabase, step: _Step) -> tuple[int, bool]:
    """(rows taken, whether there are more than one run takes)."""
    done = 0
    for _ in range(STEPS_MAX):
        taken = database.retrying(lambda cursor: step(cursor, STEP_ROWS_MAX))
        done += taken
        if taken < STEP_ROWS_MAX:
            return done, False
    return done, True


def _forget_tombstones(school_id: str, before_ms: int, cursor: Cursor, rows_max: int) -> int:
    """Deletes tombstones and raises the school's floor above them: a device that has not come so far pulls everything anew."""
    cursor.execute(
        "SELECT scope, table_name, row_id, feed_no FROM tombstones WHERE school_id = %s AND deleted_at_ms < %s ORDER BY feed_no LIMIT %s",
        (school_id, before_ms, rows_max),
    )
    if not (old := cursor.fetchall()):
        return 0
    scopes, tables, row_ids, numbers = (list(column) for column in zip(*old, strict=True))
    cursor.execute(
        "UPDATE schools SET tombstone_floor = greatest(tombstone_floor, %s) WHERE id = %s",
        (max(numbers), school_id),
    )
    # By number as well: a row that was deleted once more meanwhile has a fresh tombstone.
    cursor.execute(
        "DELETE FROM tombstones t USING unnest(%s::text[], %s::text[], %s::uuid[], %s::bigint[]) AS o(scope, table_name, row_id, feed_no)"
        " WHERE t.school_id = %s AND t.scope = o.scope AND t.table_name = o.table_name AND t.row_id = o.row_id AND t.feed_no = o.feed_no",
        (scopes, tables, row_ids, numbers, school_id),
    )
    return len(old)


def _forget_codes(school_id: str, before_ms: int, cursor: Cursor, rows_max: int) -> int:
    cursor.execute(
        "DELETE FROM enrolment_codes WHERE (school_id, id) IN"
        " (SELECT school_id, id FROM enrolment_codes WHERE school_id = %s AND expires_at_ms < %s LIMIT %s)",
        (school_id, before_ms, rows_max),
    )
    return cursor.rowcount


def _forget_incarnations(school_id: str, kept: int, cursor: Cursor, rows_max: int) -> int:
    """Keeps each device's newest. A copy that still continues an older one is told `ahead`, and sends again what it has."""
    cursor.execute(
        "DELETE FROM device_incarnations WHERE (school_id, no) IN (SELECT school_id, no FROM"
        " (SELECT school_id, no, row_number() OVER (PARTITION BY device_id ORDER BY no DESC) AS age"
        " FROM device_incarnations WHERE school_id = %s) AS aged WHERE age > %s LIMIT %s)",
        (school_id, kept, rows_max),
    )
    return cursor.rowcount


def _forget_audit(school_id: str, before_ms: int, cursor: Cursor, rows_max: int) -> int:
    return audit.forget(cursor, school_id, before_ms, rows_max)


def _forget_days(school_id: str, cursor: Cursor, rows_max: int) -> int:
    """Where the feed stood on days of which the answers are gone."""
    return feed.forget_days(cursor, school_id, rows_max)


def _forget_settled(school_id: str, now_ms: int, cursor: Cursor, rows_max: int) -> int:
    """What merges remember (cloud_api/sync/settled.py says for how long)."""
    return settled.forget(cursor, school_id, now_ms, rows_max)


def _forget_sessions(school_id: str, now_ms: int, cursor: Cursor, rows_max: int) -> int:
    """Those that have ended by any setting that there can be."""
    return sessions.forget_old(cursor, school_id, now_ms - SESSION_LIFE_MAX_MS, rows_max)


def _forget_hours(school_id: str, now_ms: int, cursor: Cursor, rows_max: int) -> int:
    """What the chart of the fleet page does not show any more."""
    return hours.forget(cursor, school_id, now_ms, rows_max)


def _revoke_silent(school_id: str, before_ms: int, ids: IdSource, now_ms: int, cursor: Cursor, rows_max: int) -> int:
    """Ends the access of devices that were not seen since; what they have not sent stays on them. One that is busy this moment is not silent."""
    cursor.execute(
        "SELECT id FROM devices WHERE school_id = %s AND revoked_at_ms IS NULL AND coalesce(last_seen_ms, enrolled_at_ms) < %s"
        " ORDER BY id LIMIT %s FOR UPDATE SKIP LOCKED",
        (school_id, before_ms, rows_max),
    )
    silent = [device_id for (device_id,) in cursor.fetchall()]
    for device_id in silent:
        enrolled.revoke(cursor, ids, school_id, device_id, now_ms, reason="silent")
    return len(silent)
