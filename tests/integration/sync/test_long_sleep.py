"""A device that was away for longer than deletions are remembered: it fetches everything again, and what is gone at school goes here too."""

from __future__ import annotations

from typing import Any

import pytest

from cloud_api.config import Retention
from cloud_api.devices.enrolment import Grant
from cloud_api.publication import Publication
from cloud_api.retention import DAY_MS, tidy
from daemon import inbox
from domain.ids import Id
from domain.wire import PullRequest
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite


def tidy_later(fleet: Fleet, days: int, **settings: int) -> Any:
    """What `carrel-cloud tidy` does so many days from now."""

    class Later:
        def now_ms(self) -> int:
            return fleet.school.clock.now_ms() + days * DAY_MS

        def monotonic_ms(self) -> int:
            return fleet.school.clock.monotonic_ms()

    return tidy(fleet.school.database, Later(), fleet.school.ids, Retention(**settings), clock_is_right=True)


def delete(fleet: Fleet, table: str, row_id: str, scope: str = "school") -> None:
    publication = Publication(fleet.school.id)
    publication.delete(table, row_id, scope)
    with fleet.school.database.transaction() as cursor:
        publication.write(cursor, fleet.school.clock.now_ms())


@pytest.fixture
def asleep(fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice) -> SyncedDevice:
    """Ada's laptop, with answers from both devices; since then a topic without questions and one answer of each device were deleted, and forgotten."""
    fleet.add_class("makes the head move")
    laptop.records.record_attempts(ada, fleet.attempts(6))
    laptop.sync()
    tablet.records.record_attempts(ada, fleet.attempts(6))
    tablet.sync()
    laptop.sync()
    topic = fleet.school.ids.new()
    publication = Publication(fleet.school.id)
    about = {
        "parent_id": None,
        "title": "old",
        "level": "lesson",
        "position": 3,
        "weightage": None,
        "external_id": None,
        "retired_at_ms": None,
    }
    publication.put("topics", {"id": topic, **about})
    with fleet.school.database.transaction() as cursor:
        publication.write(cursor, fleet.school.clock.now_ms())
    laptop.sync()
    delete(fleet, "topics", topic)
    for device in (laptop, tablet):
        delete(
            fleet,
            "question_attempts",
            fleet.server("SELECT id FROM question_attempts WHERE device_id = %s", device.id)[0][0],
            f"student:{ada}",
        )
    assert tidy_later(fleet, 200).tombstones == 3
    return laptop


def agrees(fleet: Fleet, device: SyncedDevice) -> bool:
    tables = ("topics", "question_attempts")
    return all(device.synced_rows(table) == as_sqlite(fleet.server_rows(table)) for table in tables)


def test_NO_RESURRECTION_everything_that_was_deleted_meanwhile_goes(fleet: Fleet, asleep: SyncedDevice) -> None:
    assert not agrees(fleet, asleep)
    assert asleep.sync().outcome == "done"
    assert agrees(fleet, asleep)
    assert asleep.value("SELECT count(*) FROM question_attempts") == 10
    assert asleep.value("SELECT rebaselining FROM sync_progress") == "no"
    assert asleep.rounds.status().state == "synced"


def test_nothing_that_the_school_has_is_sent_again(fleet: Fleet, asleep: SyncedDevice) -> None:
    before = asleep.value("SELECT count(*) FROM sync_operations WHERE state = 'synced'")
    asleep.gateway.requests.clear()
    asleep.sync()
    assert all(isinstance(request, PullRequest) for request in asleep.gateway.requests)
    assert asleep.value("SELECT count(*) FROM sync_operations WHERE state = 'synced'") == before


def test_NO_LOST_OP_what_was_written_during_the_sleep_arrives_and_stays(fleet: Fleet, ada: Id, asleep: SyncedDevice) -> None:
    asleep.records.record_attempts(ada, fleet.attempts(3))
    asleep.records.update_profile(ada, {"grade": "9"})
    asleep.sync()
    assert agrees(fleet, asleep)
    assert asleep.value("SELECT count(*) FROM question_attempts") == 13
    assert asleep.value("SELECT grade FROM student_profiles") == "9"


def test_what_is_written_between_two_pages_stays(fleet: Fleet, ada: Id, asleep: SyncedDevice) -> None:
    pull = asleep.gateway.pull
    written: list[Any] = []

    def write_meanwhile(token: str, request: PullRequest) -> Any:
        page = pull(token, request)
        if request.rebaselining and not written:
            written.append(asleep.records.record_attempts(ada, fleet.attempts(2)))
            asleep.records.update_profile(ada, {"grade": "9"})
        return page

    asleep.rounds._puller._page_rows = 7
    asleep.gateway.pull = write_meanwhile  # type: ignore[method-assign]
    asleep.sync()
    assert asleep.value("SELECT count(*) FROM question_attempts") == 12
    asleep.sync()
    assert agrees(fleet, asleep)
    assert fleet.server("SELECT grade FROM student_profiles") == [("9",)]


def test_an_answer_that_the_school_refused_stays_visible(fleet: Fleet, ada: Id, asleep: SyncedDevice) -> None:
    fleet.server("ALTER TABLE question_attempts ADD CONSTRAINT dislikes CHECK (answer <> 'x')")
    asleep.records.record_attempts(ada, fleet.attempts(1, answer="x"))
    assert asleep.sync().rejected == 1
    assert asleep.value("SELECT count(*) FROM question_attempts WHERE answer = 'x'") == 1


def test_a_broken_off_fetch_goes_on_where_it_was_and_ends_alike(fleet: Fleet, asleep: SyncedDevice) -> None:
    asleep.rounds._puller._page_rows = 5
    asleep.rounds.stopping.set()
    for _ in range(30):
        asleep.sync()
        if asleep.value("SELECT rebaselining FROM sync_progress") == "no":
            break
    asleep.rounds.stopping.clear()
    asleep.sync()
    assert agrees(fleet, asleep)


def test_a_device_that_heard_of_all_deletions_is_not_made_to_fetch_again(
    fleet: Fleet, ada: Id, asleep: SyncedDevice, tablet: SyncedDevice
) -> None:
    fleet.add_class("makes the head move once more")
    phone = fleet.device(Grant("student", ada))
    phone.sync()
    phone.gateway.requests.clear()
    fleet.add_class("and again")
    phone.sync()
    assert [request.rebaselining for request in phone.gateway.requests if isinstance(request, PullRequest)] == [False]
    assert agrees(fleet, phone)


def test_students_rows_stay_when_the_server_lost_something_even_if_the_device_slept_as_well(
    fleet: Fleet, ada: str, asleep: SyncedDevice
) -> None:
    asleep.change("DELETE FROM sync_operations")  # nobody can send them again
    fleet.server("DELETE FROM question_attempts WHERE device_id = %s", asleep.id)
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")
    asleep.sync()
    asleep.sync()
    assert asleep.value("SELECT rebaselining FROM sync_progress") == "no"
    assert asleep.value("SELECT count(*) FROM question_attempts WHERE device_id = ?", asleep.id) == 6


@pytest.mark.parametrize("queued", [0, 2], ids=["nothing queued", "answers queued"])
@pytest.mark.parametrize("new_epoch", [True, False], ids=["restored", "restored without anybody telling"])
def test_NO_RESURRECTION_a_restored_server_does_not_get_deleted_answers_of_a_device_that_slept(
    fleet: Fleet, ada: Id, asleep: SyncedDevice, queued: int, new_epoch: bool
) -> None:
    slept_ms = 200 * DAY_MS
    asleep.change("UPDATE sync_operations SET settled_at_ms = settled_at_ms - ?", slept_ms)
    if queued:
        asleep.records.record_attempts(ada, fleet.attempts(queued))
    kept = fleet.server_rows("question_attempts")
    if new_epoch:
        fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")
    else:  # the incarnation is unknown, and there is less than the device has seen
        fleet.server("DELETE FROM device_incarnations WHERE device_id = %s", asleep.id)
        fleet.server("UPDATE schools SET head = 30")
    asleep.database.close()
    asleep = fleet.open(asleep.folder)  # which knows nothing of the server's time
    asleep.sync()
    assert asleep.sync().outcome == "done"
    assert len(fleet.server_rows("question_attempts")) == len(kept) + queued
    assert asleep.value("SELECT count(*) FROM sync_operations") == queued


def test_once_the_server_has_lost_something_a_second_start_does_not_let_go_of_students_rows(asleep: SyncedDevice) -> None:
    asleep.database.write(lambda conn: asleep.identity.start_incarnation(conn, resend_all=True))
    asleep.database.write(asleep.identity.fetch_everything_again)
    assert asleep.value("SELECT rebaselining FROM sync_progress") == "server_rows"


def test_rows_of_a_scope_lost_while_they_were_queued_go_when_they_are_settled(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))
    laptop.sync()
    laptop.records.record_attempts(ada, fleet.attempts(3))
    pusher = laptop.rounds._push_all
    laptop.rounds._push_all = lambda: iter(())  # type: ignore[method-assign]
    fleet.server("UPDATE device_grants SET ended_at_ms = %s WHERE device_id = %s", fleet.school.clock.now_ms(), laptop.id)
    laptop.sync()
    assert laptop.value("SELECT count(*) FROM question_attempts") == 3
    laptop.rounds._push_all = pusher  # type: ignore[method-assign]
    laptop.sync()
    assert laptop.value("SELECT count(*) FROM question_attempts") == 0
    assert laptop.rows("SELECT scope FROM cursors") == [("school",)]
    assert len(fleet.server_rows("question_attempts")) == 5


def test_rows_of_a_scope_that_came_back_before_they_were_settled_stay(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    pusher = laptop.rounds._push_all
    laptop.rounds._push_all = lambda: iter(())  # type: ignore[method-assign]
    fleet.server("UPDATE device_grants SET ended_at_ms = 1 WHERE device_id = %s", laptop.id)
    fleet.add_class("makes the head move")
    laptop.sync()
    fleet.server("UPDATE device_grants SET ended_at_ms = NULL WHERE device_id = %s", laptop.id)
    fleet.add_class("makes the head move again")
    laptop.sync()
    laptop.rounds._push_all = pusher  # type: ignore[method-assign]
    laptop.sync()
    assert laptop.value("SELECT count(*) FROM question_attempts") == 3
    assert sorted(scope for (scope,) in laptop.rows("SELECT scope FROM cursors")) == ["school", f"student:{ada}"]


def test_a_fetch_that_itself_slept_for_too_long_begins_again(fleet: Fleet, ada: str, asleep: SyncedDevice) -> None:
    asleep.rounds._puller._page_rows = 12
    asleep.rounds.stopping.set()
    asleep.sync()
    asleep.sync()
    asleep.rounds.stopping.clear()
    assert asleep.value("SELECT cursor FROM cursors WHERE scope = ?", f"student:{ada}") > 0
    gone = fleet.server("SELECT id FROM question_attempts LIMIT 1")[0][0]
    delete(fleet, "question_attempts", gone, f"student:{ada}")
    assert tidy_later(fleet, 200).tombstones == 1
    asleep.clock.ahead_ms = 200 * DAY_MS
    asleep.sync()
    assert asleep.value("SELECT count(*) FROM question_attempts WHERE id = ?", gone) == 0
    assert agrees(fleet, asleep)


def test_NO_GAP_a_fetch_that_begins_again_brings_what_this_device_wrote_meanwhile(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.sync()
    laptop.database.write(inbox.start_over)  # a fetch from 0 is begun, and slept through
    laptop.records.record_attempts(ada, fleet.attempts(3))
    laptop.clock.ahead_ms = 3_650 * DAY_MS
    assert laptop.sync().outcome == "done"
    assert laptop.value("SELECT count(*) FROM question_attempts WHERE feed_no = 0") == 0
    assert agrees(fleet, laptop)


def test_a_scope_gained_late_is_not_taken_for_one_that_was_slept_through(fleet: Fleet, asleep: SyncedDevice) -> None:
    class_id = fleet.add_class("Knots 2")
    fleet.school.add_user("ben", classes=["Knots 2"])
    lab = fleet.device(Grant("class", class_id))
    lab.sync()
    publication = Publication(fleet.school.id)
    member = {
        "id": fleet.school.ids.new(),
        "class_id": class_id,
        "user_id": fleet.school.value("SELECT id FROM users WHERE username = 'ada'"),
    }
    publication.put("class_members", {**member, "role": "student"})
    with fleet.school.database.transaction() as cursor:
        publication.write(cursor, fleet.school.clock.now_ms())
    lab.rounds._puller._page_rows = 3
    lab.gateway.requests.clear()
    assert lab.sync().outcome == "done"
    pulls = [request for request in lab.gateway.requests if isinstance(request, PullRequest)]
    assert len(pulls) > 3
    assert not any(request.rebaselining for request in pulls)
    assert agrees(fleet, lab)
    assert lab.value("SELECT count(*) FROM cursors WHERE scope LIKE 'filling:%'") == 0
