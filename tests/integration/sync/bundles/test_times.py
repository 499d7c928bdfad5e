"""When answers were given that come by stick: the way takes days, and says nothing about a clock."""

from __future__ import annotations

from domain.ids import Id
from tests.support.fleet import Fleet, SyncedDevice
from tests.support.stick import at_school, taken_at_school, taken_by, written_by

HOUR_MS = 3_600_000


def times_off(fleet: Fleet) -> list[int]:
    """What was added to each stored time."""
    return [ms for (ms,) in fleet.server("SELECT corrected_at_ms - answered_at_ms FROM question_attempts ORDER BY id")]


def test_the_arrival_of_a_bundle_says_nothing_about_the_devices_clock(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    taken_by(tablet, at_school(fleet).give(tablet.id).data)
    for device in (laptop, tablet):  # one has heard of the server's time, the other never
        device.clock.ahead_ms = -HOUR_MS
        device.records.record_attempts(ada, fleet.attempts(1))
        device.clock.ahead_ms = 0
    from_laptop, from_tablet = written_by(laptop), written_by(tablet)
    taken_at_school(fleet, from_tablet)
    assert times_off(fleet) == [None], "nobody can tell"
    taken_at_school(fleet, from_laptop)
    assert fleet.server("SELECT count(*) FROM question_attempts WHERE corrected_at_ms - answered_at_ms BETWEEN 3590000 AND 3610000") == [
        (1,)
    ]
    assert fleet.server("SELECT count(*) FROM question_attempts WHERE time_doubtful") == [(0,)]


def test_a_bundle_that_lay_for_days_is_not_taken_for_one_of_a_slow_clock(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.clock.ahead_ms = -5 * 24 * HOUR_MS  # both clocks of the day on which it was written
    laptop.rounds._server_time.heard(laptop.clock.now_ms())
    laptop.records.record_attempts(ada, fleet.attempts(2))
    taken_at_school(fleet, written_by(laptop))
    assert times_off(fleet) == [None, None]


def test_a_time_in_the_future_becomes_that_of_the_arrival_and_is_flagged(fleet: Fleet, ada: Id, tablet: SyncedDevice) -> None:
    taken_by(tablet, at_school(fleet).give(tablet.id).data)
    tablet.clock.ahead_ms = 30 * 24 * HOUR_MS
    tablet.records.record_attempts(ada, fleet.attempts(2))
    imported = taken_at_school(fleet, written_by(tablet))
    now_ms = fleet.school.clock.now_ms()
    stored = fleet.server("SELECT corrected_at_ms, time_doubtful FROM question_attempts")
    assert all(0 <= now_ms - at_ms < 60_000 and doubtful for at_ms, doubtful in stored)
    taken_by(tablet, imported.answer.data)
    folded = "SELECT id, corrected_at_ms FROM question_attempts ORDER BY id"
    assert tablet.rows(folded) == fleet.server(folded)
