"""Wrong clocks: times are corrected, every holder folds by the same ones, and nothing is refused, dropped or stopped by them."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_api.devices.enrolment import Grant
from cloud_api.learning import mastery as cloud_mastery
from daemon.learning import mastery as device_mastery
from domain.ids import Id
from domain.registry import TIME_MAX_MS
from tests.support.fleet import Fleet, SyncedDevice

HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS
FOLDED = "SELECT id, coalesce(corrected_at_ms, answered_at_ms), time_doubtful FROM question_attempts ORDER BY id"


def at_school(fleet: Fleet) -> list[tuple[Any, ...]]:
    return [(id_, at_ms, doubtful and 1) for id_, at_ms, doubtful in fleet.server(FOLDED)]


def far_off(fleet: Fleet) -> list[int]:
    """How far the folded times at school are from now, where that is more than a minute."""
    now_ms = fleet.school.clock.now_ms()
    return [at_ms - now_ms for _, at_ms, _ in at_school(fleet) if abs(at_ms - now_ms) > 60_000]


def reboot(device: SyncedDevice) -> None:
    """What is written from now on is of another boot."""
    other = "b" * 32
    device.records._outbox._boot_id = device.rounds._pusher._boot_id = other


@pytest.mark.parametrize("ahead_ms", [HOUR_MS, -HOUR_MS, 10 * YEAR_MS, -10 * YEAR_MS, -60 * YEAR_MS, 90 * YEAR_MS])
def test_DERIVED_EQUAL_times_of_a_wrong_clock_are_corrected_alike_for_every_holder(
    fleet: Fleet, ada: str, laptop: SyncedDevice, tablet: SyncedDevice, ahead_ms: int
) -> None:
    laptop.clock.ahead_ms = ahead_ms
    laptop.records.record_attempts(Id(ada), fleet.attempts(6))
    tablet.records.record_attempts(Id(ada), fleet.attempts(6))
    assert (laptop.sync().rejected, tablet.sync().outcome, laptop.sync().outcome) == (0, "done", "done")
    assert far_off(fleet) == []
    assert laptop.rows(FOLDED) == tablet.rows(FOLDED) == at_school(fleet)
    assert _mastery(laptop, ada, fleet) == _mastery(tablet, ada, fleet) == _mastery_at_school(fleet, ada)


def test_a_clock_set_in_the_middle_of_a_session_is_corrected_answer_by_answer(fleet: Fleet, ada: str, laptop: SyncedDevice) -> None:
    for ahead_ms in (0, 9 * HOUR_MS, -3 * YEAR_MS, 0):
        laptop.clock.ahead_ms = ahead_ms
        laptop.records.record_attempts(Id(ada), fleet.attempts(2))
    assert laptop.sync().rejected == 0
    assert far_off(fleet) == []
    assert len(fleet.server("SELECT id FROM question_attempts WHERE corrected_at_ms IS NOT NULL")) == 4
    assert fleet.server("SELECT id FROM question_attempts WHERE time_doubtful") == []
    assert laptop.rows(FOLDED) == at_school(fleet)


def test_after_a_reboot_under_a_wrong_clock_the_times_are_corrected_and_flagged(fleet: Fleet, ada: str, laptop: SyncedDevice) -> None:
    laptop.clock.ahead_ms = HOUR_MS
    laptop.records.record_attempts(Id(ada), fleet.attempts(2))
    reboot(laptop)
    laptop.sync()
    assert far_off(fleet) == []
    assert [doubtful for _, _, doubtful in at_school(fleet)] == [1, 1]
    assert laptop.rows(FOLDED) == at_school(fleet)


def test_an_answer_sent_twice_keeps_the_correction_it_was_stored_with(fleet: Fleet, ada: str, laptop: SyncedDevice) -> None:
    laptop.clock.ahead_ms = HOUR_MS
    laptop.records.record_attempts(Id(ada), fleet.attempts(3))
    laptop.gateway.lose_answers = 1
    assert laptop.sync().outcome == "bad_answer"
    stored = at_school(fleet)
    laptop.clock.ahead_ms = -2 * HOUR_MS
    assert laptop.sync().outcome == "done"
    assert at_school(fleet) == stored == laptop.rows(FOLDED)


def test_a_resent_log_keeps_the_corrections_it_was_stored_with(fleet: Fleet, ada: str, laptop: SyncedDevice) -> None:
    laptop.clock.ahead_ms = HOUR_MS
    laptop.records.record_attempts(Id(ada), fleet.attempts(3))
    laptop.sync()
    stored = at_school(fleet)
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")
    laptop.clock.ahead_ms = 0
    laptop.change("UPDATE question_attempts SET corrected_at_ms = NULL")
    assert laptop.sync().outcome == "done"
    assert at_school(fleet) == stored == laptop.rows(FOLDED)


def test_a_right_clock_stores_no_corrections(fleet: Fleet, ada: str, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(Id(ada), fleet.attempts(5))
    laptop.sync()
    assert fleet.server("SELECT id FROM question_attempts WHERE corrected_at_ms IS NOT NULL OR time_doubtful IS NOT NULL") == []


def test_a_correction_makes_the_device_compute_mastery_anew(fleet: Fleet, ada: str, laptop: SyncedDevice) -> None:
    laptop.clock.ahead_ms = -YEAR_MS
    laptop.records.record_attempts(Id(ada), fleet.attempts(3))
    _mastery(laptop, ada, fleet)
    assert laptop.rows("SELECT student_id FROM mastery_stale") == []
    laptop.sync()
    assert laptop.rows("SELECT student_id FROM mastery_stale") == [(ada,)]


def test_a_clock_sixty_days_ahead_prunes_nothing_that_the_server_was_told_today(fleet: Fleet, ada: str, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(Id(ada), fleet.attempts(4))
    laptop.sync()
    laptop.clock.ahead_ms = 61 * 24 * HOUR_MS
    laptop.records.record_attempts(Id(ada), fleet.attempts(1))
    laptop.rounds._tidied_ms = 0
    laptop.sync()
    assert laptop.value("SELECT count(*) FROM sync_operations") == 5


def test_an_answer_from_before_a_grant_ended_counts_although_the_clock_was_set_since(fleet: Fleet, ada: str) -> None:
    device = fleet.device(Grant("student", Id(ada)))
    device.sync()
    device.clock.ahead_ms = 5 * YEAR_MS
    device.records.record_attempts(Id(ada), fleet.attempts(2))
    device.clock.ahead_ms = 0
    fleet.server("UPDATE device_grants SET ended_at_ms = %s WHERE device_id = %s", fleet.school.clock.now_ms() + 1, device.id)
    assert device.sync().rejected == 0
    assert len(fleet.server_rows("question_attempts")) == 2


def _mastery(device: SyncedDevice, student: str, fleet: Fleet) -> list[tuple[Any, ...]]:
    device_mastery.refresh(device.database, Id(student), fleet.school.clock)
    return device.rows(
        "SELECT concept_id, evidence, attempts, correct_attempts, last_attempt_at_ms FROM concept_mastery ORDER BY concept_id"
    )


def _mastery_at_school(fleet: Fleet, student: str) -> list[tuple[Any, ...]]:
    with fleet.school.database.transaction() as cursor:
        cloud_mastery.refresh(cursor, fleet.school.id, [student], fleet.school.clock.now_ms())
    return fleet.server(
        "SELECT concept_id, evidence, attempts, correct_attempts, last_attempt_at_ms FROM concept_mastery ORDER BY concept_id"
    )


@pytest.mark.parametrize(("ahead_ms", "answered_ms"), [(0, TIME_MAX_MS), (HOUR_MS, TIME_MAX_MS), (0, "an hour ahead")])
def test_DERIVED_EQUAL_an_answer_from_the_future_was_given_when_it_was_written_for_every_holder(
    fleet: Fleet, ada: str, laptop: SyncedDevice, tablet: SyncedDevice, ahead_ms: int, answered_ms: int | str
) -> None:
    laptop.clock.ahead_ms = ahead_ms
    told_ms = answered_ms if isinstance(answered_ms, int) else laptop.clock.now_ms() + HOUR_MS
    laptop.records.record_attempts(Id(ada), fleet.attempts(3))
    tamper(laptop, told_ms)
    laptop.records.record_attempts(Id(ada), fleet.attempts(2))
    assert (laptop.sync().rejected, tablet.sync().outcome, laptop.sync().outcome) == (0, "done", "done")
    assert far_off(fleet) == []
    assert max(at_ms for _, at_ms, _ in at_school(fleet)) <= fleet.school.clock.now_ms()
    assert sorted(doubtful or 0 for _, _, doubtful in at_school(fleet)) == [0, 0, 1, 1, 1]
    assert fleet.server("SELECT count(*) FROM question_attempts WHERE answered_at_ms = %s", told_ms) == [(3,)], (
        "what it said stays readable"
    )
    assert laptop.rows(FOLDED) == tablet.rows(FOLDED) == at_school(fleet)
    assert _mastery(laptop, ada, fleet) == _mastery(tablet, ada, fleet) == _mastery_at_school(fleet, ada)


def test_an_answer_from_the_future_keeps_its_correction_when_the_log_is_sent_again(fleet: Fleet, ada: str, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(Id(ada), fleet.attempts(3))
    tamper(laptop, TIME_MAX_MS)
    laptop.gateway.lose_answers = 1
    assert laptop.sync().outcome == "bad_answer"
    stored = at_school(fleet)
    laptop.sync()
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")
    laptop.sync()
    assert at_school(fleet) == stored == laptop.rows(FOLDED)


def tamper(device: SyncedDevice, answered_ms: int) -> None:
    """Every queued answer says that it was given at this time; the daemon itself records none in the future."""
    device.change("UPDATE question_attempts SET answered_at_ms = ?", answered_ms)
    device.change(
        "UPDATE sync_operations SET payload = json_set(payload, '$.answered_at_ms', ?) WHERE table_name = 'question_attempts'", answered_ms
    )
