"""Answers that a restored server lacks, that their writer cannot send again, and of which another device has a copy."""

from __future__ import annotations

from cloud_api.devices.enrolment import Grant
from cloud_api.retention import DAY_MS
from daemon.sync import offering
from domain.ids import Id
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite

HOUR_MS = 3_600_000


def lose_answers(fleet: Fleet, of: SyncedDevice) -> None:
    """The server is restored to a backup from before a device wrote anything, and nobody tells."""
    fleet.server("DELETE FROM question_attempts WHERE device_id = %s", of.id)
    fleet.server("DELETE FROM device_incarnations WHERE device_id = %s", of.id)
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")


def agrees(fleet: Fleet, device: SyncedDevice) -> bool:
    names = "id, student_id, answer, correct, answered_at_ms, device_id, corrected_at_ms, time_doubtful, feed_no"
    there = as_sqlite(fleet.server(f"SELECT {names} FROM question_attempts ORDER BY id"))
    return device.rows(f"SELECT {names} FROM question_attempts ORDER BY id") == there


def sync_until_quiet(device: SyncedDevice) -> None:
    for _ in range(3):
        assert device.sync().outcome == "done"
    assert device.rounds.status().state == "synced"


def with_answers_of_both(fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice) -> list[Id]:
    """The ids of the laptop's answers, which the tablet has pulled; it has some of its own at school."""
    ids = [recorded.id for recorded in laptop.records.record_attempts(ada, fleet.attempts(6))]
    laptop.sync()
    tablet.records.record_attempts(ada, fleet.attempts(2))
    tablet.sync()
    return ids


def test_NO_LOST_OP_answers_of_a_device_that_is_gone_come_back_to_a_restored_server_from_another_of_the_student(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    ids = with_answers_of_both(fleet, ada, laptop, tablet)
    before = fleet.server_rows("question_attempts")
    laptop.database.close()  # for good
    lose_answers(fleet, laptop)
    sync_until_quiet(tablet)
    assert fleet.server_rows("question_attempts") == before
    assert {row[0] for row in before} >= set(ids)
    assert agrees(fleet, tablet)


def test_EXACTLY_ONCE_what_its_writer_sends_again_as_well(fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice) -> None:
    with_answers_of_both(fleet, ada, laptop, tablet)
    before = fleet.server_rows("question_attempts")
    lose_answers(fleet, laptop)
    for device in (tablet, laptop, tablet, laptop):
        assert device.sync().outcome == "done"
    for device in (tablet, laptop):
        sync_until_quiet(device)
        assert agrees(fleet, device)
    assert fleet.server_rows("question_attempts") == before
    assert fleet.server("SELECT count(*) FROM dead_letters") == [(0,)]


def test_a_corrected_time_is_found_again(fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice) -> None:
    laptop.clock.ahead_ms = -5 * HOUR_MS
    with_answers_of_both(fleet, ada, laptop, tablet)
    corrected = "SELECT id, corrected_at_ms FROM question_attempts WHERE corrected_at_ms IS NOT NULL ORDER BY id"
    before = fleet.server(corrected)
    laptop.database.close()
    lose_answers(fleet, laptop)
    sync_until_quiet(tablet)
    after = fleet.server(corrected)
    assert [id_ for id_, _ in after] == [id_ for id_, _ in before]
    assert len(after) == 6
    assert all(abs(one[1] - other[1]) < 60_000 for one, other in zip(before, after, strict=True))
    assert agrees(fleet, tablet)


def test_fields_of_a_later_version_come_back_with_their_answer(fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice) -> None:
    with_answers_of_both(fleet, ada, laptop, tablet)
    tablet.change('UPDATE question_attempts SET _extra = \'{"mood":"curious"}\' WHERE device_id = ?', laptop.id)
    laptop.database.close()
    lose_answers(fleet, laptop)
    sync_until_quiet(tablet)
    assert fleet.server("SELECT DISTINCT _extra->>'mood' FROM question_attempts WHERE device_id = %s", laptop.id) == [("curious",)]


def test_NO_RESURRECTION_a_device_that_slept_for_long_offers_nothing(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    with_answers_of_both(fleet, ada, laptop, tablet)
    laptop.database.close()
    lose_answers(fleet, laptop)
    tablet.change("UPDATE sync_operations SET settled_at_ms = settled_at_ms - ?", 61 * DAY_MS)
    sync_until_quiet(tablet)
    assert len(fleet.server_rows("question_attempts")) == 2
    assert not tablet.database.write(offering.is_planned)


def test_NO_RESURRECTION_an_answer_whose_deletion_the_server_remembers_stays_away(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    ids = with_answers_of_both(fleet, ada, laptop, tablet)
    laptop.database.close()
    lose_answers(fleet, laptop)
    head = fleet.school.head
    fleet.server(
        "INSERT INTO tombstones (school_id, scope, table_name, row_id, feed_no, deleted_at_ms) VALUES (%s, %s, 'question_attempts', %s, %s, 1)",
        fleet.school.id, f"student:{ada}", ids[0], head,
    )  # fmt: skip
    sync_until_quiet(tablet)
    assert {row[0] for row in fleet.server_rows("question_attempts")} >= set(ids[1:])
    assert ids[0] not in {row[0] for row in fleet.server_rows("question_attempts")}
    assert agrees(fleet, tablet)


def test_NO_LEAK_answers_of_a_student_whom_the_device_does_not_follow_any_more_are_not_offered(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    ben = fleet.school.add_user("ben").id
    shared = fleet.device(Grant("student", ada), Grant("student", ben))
    shared.sync()
    with_answers_of_both(fleet, ada, laptop, shared)
    shared.records.record_attempts(ben, fleet.attempts(1))
    shared.sync()
    lose_answers(fleet, laptop)
    fleet.server("UPDATE device_grants SET ended_at_ms = 1 WHERE device_id = %s AND subject_id = %s", shared.id, ada)
    for _ in range(3):
        shared.sync()
    assert fleet.server("SELECT count(*) FROM question_attempts WHERE device_id = %s", laptop.id) == [(0,)]
    assert shared.value("SELECT count(*) FROM question_attempts WHERE student_id = ?", ada) == 0
