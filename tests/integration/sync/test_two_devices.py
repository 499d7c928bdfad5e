"""What one device writes reaches the server, and the student's other device."""

from __future__ import annotations

import json

from daemon.queue import outbox
from daemon.records import NewAttempt, NewPlanItem
from domain.ids import Id
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite

NASTY = 'tab\there, \\ back\\nslash, "quotes", new\nline, \r, é, 漢, 🙂, \\N'


def test_two_devices_of_one_student_see_each_others_attempts_after_one_round_each(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(30))
    tablet.records.record_attempts(ada, fleet.attempts(20, answer=NASTY, confidence=3, active_ms=1_500))
    laptop.sync()
    tablet.sync()
    laptop.sync()
    assert len(laptop.synced_rows("question_attempts")) == 50
    assert laptop.synced_rows("question_attempts") == tablet.synced_rows("question_attempts")
    assert laptop.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))


def test_every_row_of_an_append_only_table_knows_the_servers_number_everywhere(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(10))
    laptop.sync()
    tablet.sync()
    numbers = laptop.rows("SELECT id, feed_no FROM question_attempts ORDER BY id")
    assert all(number > 0 for _, number in numbers)
    assert numbers == tablet.rows("SELECT id, feed_no FROM question_attempts ORDER BY id")
    assert numbers == fleet.server("SELECT id, feed_no FROM question_attempts ORDER BY id")


def test_a_device_does_not_pull_its_own_attempts_back(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(10))
    assert laptop.sync().pulled == 0
    assert laptop.sync().pulled == 0


def test_a_round_with_nothing_to_do_is_one_request_and_writes_nothing(laptop: SyncedDevice) -> None:
    laptop.sync()
    laptop.gateway.requests.clear()
    changes = laptop.value("PRAGMA data_version")
    assert laptop.sync().outcome == "done"
    assert laptop.gateway.requests == []  # the head alone
    assert laptop.value("PRAGMA data_version") == changes


def test_profiles_of_two_devices_merge_field_by_field(fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice) -> None:
    laptop.records.update_profile(ada, {"grade": "7", "available_minutes": [30] * 7})
    tablet.records.update_profile(ada, {"exam_on": "2027-05-04"})
    for device in (laptop, tablet, laptop):
        device.sync()
    (row,) = laptop.rows("SELECT grade, exam_on, available_minutes FROM student_profiles")
    assert row == ("7", "2027-05-04", json.dumps([30] * 7, separators=(",", ":")))
    assert tablet.rows("SELECT grade, exam_on, available_minutes FROM student_profiles") == [row]


def test_the_later_of_two_concurrent_changes_wins_everywhere_and_the_other_can_be_read(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    laptop.records.update_profile(ada, {"grade": "earlier"})
    tablet.records.update_profile(ada, {"grade": "later"})
    tablet.sync()
    laptop.sync()
    tablet.sync()
    assert laptop.value("SELECT grade FROM student_profiles") == "later"
    assert tablet.value("SELECT grade FROM student_profiles") == "later"
    assert fleet.server("SELECT field, lost_value #>> '{}', kept_value #>> '{}', rule FROM sync_conflicts") == [
        ("grade", "earlier", "later", "later_clock")
    ]


def test_a_change_made_in_sight_of_a_value_wins_over_it_even_when_this_devices_clock_is_behind(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    tablet.records._hlc.observe((fleet.school.clock.now_ms() + 200_000) << 16)  # its clock is three minutes ahead
    tablet.records.update_profile(ada, {"grade": "7"})
    tablet.sync()
    laptop.sync()
    laptop.records.update_profile(ada, {"grade": "8"})
    laptop.sync()
    tablet.sync()
    assert tablet.value("SELECT grade FROM student_profiles") == "8"
    assert fleet.server("SELECT count(*) FROM sync_conflicts") == [(0,)]


def test_a_daemon_that_starts_goes_on_from_the_greatest_clock_it_has_written(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records._hlc.observe((fleet.school.clock.now_ms() + 200_000) << 16)
    laptop.records.update_profile(ada, {"grade": "7"})
    with laptop.database.read() as conn:
        assert outbox.last_hlc(conn) == laptop.value("SELECT max(hlc) FROM sync_operations") > 0


def test_a_queued_change_stays_visible_while_the_servers_version_comes_in_under_it(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    tablet.records.update_profile(ada, {"grade": "7", "exam_on": "2027-05-04"})
    tablet.sync()
    laptop.records.update_profile(ada, {"grade": "8"})
    _pull_only(laptop)
    assert laptop.rows("SELECT grade, exam_on FROM student_profiles") == [("8", "2027-05-04")]
    assert laptop.value("SELECT count(*) FROM shadows") == 1
    laptop.sync()
    tablet.sync()
    assert laptop.rows("SELECT grade, exam_on FROM student_profiles") == [("8", "2027-05-04")]
    assert tablet.rows("SELECT grade, exam_on FROM student_profiles") == [("8", "2027-05-04")]
    assert laptop.value("SELECT count(*) FROM shadows") == 0


def _pull_only(device: SyncedDevice) -> None:
    identity = device.identity.current()
    assert identity is not None
    list(device.rounds._puller.pull_all(device.gateway, identity))


def test_a_plan_travels_with_its_items_and_so_does_what_was_done_of_it(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    items = [NewPlanItem(c, "2026-12-01", "new", 8, "opens 3 others") for c in fleet.concepts]
    laptop.records.add_plan(ada, {"starts_on": "2026-12-01", "days": 7, "planner_version": "test", "forecast": {"coverage": 0.6}}, items)
    laptop.sync()
    tablet.sync()
    first = tablet.value("SELECT id FROM study_plan_items ORDER BY position LIMIT 1")
    tablet.records.update_plan_item(ada, first, {"status": "moved", "moved_to": "2026-12-02"})
    tablet.sync()
    laptop.sync()
    for table in ("study_plans", "study_plan_items"):
        assert laptop.synced_rows(table) == tablet.synced_rows(table)
    assert laptop.rows("SELECT status, moved_to FROM study_plan_items ORDER BY position") == [("moved", "2026-12-02"), ("planned", None)]


def test_more_than_one_batch_and_one_page_arrive_whole(fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice) -> None:
    for _ in range(9):
        laptop.records.record_attempts(ada, fleet.attempts(500))
    pushed = laptop.sync()
    assert pushed.pushed == 4_500
    assert sum(hasattr(r, "runs") for r in laptop.gateway.requests) > 1
    tablet.rounds._puller._page_rows = 1_000
    assert tablet.sync().pulled == 4_500
    assert tablet.synced_rows("question_attempts") == laptop.synced_rows("question_attempts")


def test_one_batch_of_one_operation_at_a_time_gives_the_same(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.rounds._pusher._limits = type(laptop.rounds._pusher._limits)(1, 1)
    laptop.records.record_attempts(ada, [NewAttempt(fleet.questions[0], True, "quiz"), NewAttempt(fleet.questions[1], False, "plan")])
    laptop.records.update_profile(ada, {"grade": "9"})
    assert laptop.sync().pushed == 3
    assert laptop.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))
