"""Answers lost, logs that have parted, servers restored: nothing is lost and nothing is there twice."""

from __future__ import annotations

from itertools import count

import pytest

from domain.errors import CloudUnreachable
from domain.ids import Id
from domain.wire import PushAnswer, PushRequest
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite


def test_EXACTLY_ONCE_when_the_answer_to_a_push_is_lost(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(25))
    laptop.gateway.lose_answers = 2
    assert laptop.sync().outcome == "bad_answer"
    assert laptop.rounds.status().state == "waiting"
    assert laptop.rounds.status().pending == 25
    laptop.records.record_attempts(ada, fleet.attempts(5))
    assert laptop.sync().outcome == "bad_answer"
    assert laptop.sync().outcome == "done"
    assert laptop.rounds.status().state == "synced"
    assert laptop.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))
    assert laptop.value("SELECT count(*) FROM question_attempts WHERE feed_no = 0") == 0
    assert fleet.server("SELECT count(*) FROM dead_letters") == [(0,)]


def test_a_rejection_whose_answer_was_lost_is_told_again(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))
    laptop.change("UPDATE sync_operations SET payload = replace(payload, '\"free\"', '\"fun\"') WHERE op_no = 1")
    laptop.gateway.lose_answers = 1
    laptop.sync()
    assert laptop.sync().rejected == 1
    assert laptop.rounds.status().state == "rejected"
    assert fleet.server("SELECT count(*) FROM dead_letters") == [(1,)]


def test_profile_changes_settled_before_a_lost_answer_change_nothing_twice(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.update_profile(ada, {"grade": "7"})
    laptop.gateway.lose_answers = 1
    laptop.sync()
    head = fleet.school.head
    assert laptop.sync().outcome == "done"
    assert fleet.school.head == head
    assert fleet.server("SELECT count(*) FROM sync_conflicts") == [(0,)]


def test_a_device_that_was_copied_with_its_queue_sends_each_attempt_once(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(10))
    twin = fleet.open(laptop.copied())
    laptop.records.record_attempts(ada, fleet.attempts(1))
    twin.records.record_attempts(ada, fleet.attempts(2))
    laptop.sync()
    twin.sync()
    twin.sync()
    laptop.sync()
    assert len(fleet.server_rows("question_attempts")) == 13
    assert twin.rounds.status().state == "synced"
    assert twin.synced_rows("question_attempts") == laptop.synced_rows("question_attempts")
    incarnations = fleet.server("SELECT count(*) FROM device_incarnations WHERE device_id = %s", laptop.id)
    assert incarnations == [(2,)]


def test_NO_GAP_a_silent_copy_of_a_device_gets_what_the_original_writes(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    twin = fleet.open(laptop.copied())
    laptop.records.record_attempts(ada, fleet.attempts(4))
    laptop.sync()
    twin.sync()
    assert twin.synced_rows("question_attempts") == laptop.synced_rows("question_attempts")


def test_a_device_restored_from_an_older_copy_of_its_file_goes_on_without_help(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    older = laptop.copied()
    laptop.records.record_attempts(ada, fleet.attempts(4))
    laptop.sync()
    laptop.database.close()
    restored = fleet.open(older)
    restored.records.record_attempts(ada, fleet.attempts(1))
    restored.sync()
    restored.sync()
    assert restored.rounds.status().state == "synced"
    assert len(restored.synced_rows("question_attempts")) == 8
    assert restored.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))


def test_a_server_restored_from_an_older_backup_is_refilled_by_the_devices(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(6))
    laptop.sync()
    tablet.sync()
    fleet.server("DELETE FROM question_attempts")
    fleet.server("UPDATE device_incarnations SET last_seq = 0, chain = decode(repeat('00', 16), 'hex')")
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")
    laptop.records.record_attempts(ada, fleet.attempts(1))
    for device in (laptop, tablet, laptop):
        assert device.sync().outcome == "done"
    assert len(fleet.server_rows("question_attempts")) == 7
    assert laptop.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))
    assert tablet.synced_rows("question_attempts") == laptop.synced_rows("question_attempts")


def test_a_server_that_lost_the_end_of_a_log_without_a_new_epoch_gets_it_again(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(6))
    laptop.sync()
    fleet.server("DELETE FROM question_attempts")
    fleet.server("DELETE FROM device_incarnations")
    laptop.records.record_attempts(ada, fleet.attempts(1))
    assert laptop.sync().outcome == "done"
    assert len(fleet.server_rows("question_attempts")) == 7


def test_a_server_that_refuses_again_and_again_is_not_asked_without_end(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(1))

    def from_nowhere(request: PushRequest) -> PushRequest:
        return PushRequest(request.protocol, request.incarnation, request.first_seq + 1, request.chain, request.clock, request.runs)

    laptop.gateway.before_push = from_nowhere
    assert laptop.sync().outcome == "refused"
    assert len(laptop.gateway.requests) < 40
    assert laptop.rounds.status().pending == 1
    laptop.gateway.before_push = lambda request: request
    assert laptop.sync().outcome == "done"


@pytest.mark.parametrize("reopened", [False, True])
def test_what_was_queued_is_sent_by_the_next_process(fleet: Fleet, ada: Id, laptop: SyncedDevice, reopened: bool) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))
    device = laptop
    if reopened:
        laptop.database.close()
        device = fleet.open(laptop.folder)
    assert device.sync().pushed == 2


def test_NO_WEDGE_a_server_that_loses_again_and_again_what_it_acknowledged_ends_the_round(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    forgetful = count()
    push = laptop.gateway.push

    def losing(token: str, request: PushRequest) -> PushAnswer:
        if next(forgetful) % 2:
            raise CloudUnreachable("refused", "lost it", 409, None, "ahead")
        laptop.records.record_attempts(ada, fleet.attempts(1))
        return push(token, request)

    laptop.gateway.push = losing  # type: ignore[method-assign]
    assert laptop.sync().outcome == "refused"
    laptop.gateway.push = push  # type: ignore[method-assign]
    assert laptop.sync().outcome == "done"
    assert laptop.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))
