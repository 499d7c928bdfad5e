"""Copies that only read, scopes that come back, logs that begin anew: every device still ends with what the server has."""

from __future__ import annotations

from cloud_api.devices.enrolment import Grant
from cloud_api.people import end_memberships
from cloud_api.repair.dead_letters import Filter, letters_in_order, replay
from daemon.queue.requeue import retry
from domain.ids import Id
from domain.wire import EnrolAnswer, Limits, PullAnswer, PullRequest, PushAnswer, PushRequest
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite


def join_class(fleet: Fleet, class_id: str, user_id: str) -> str:
    member = fleet.school.ids.new()
    fleet.edit(lambda p, _c: p.put("class_members", {"id": member, "class_id": class_id, "user_id": user_id, "role": "student"}))
    return member


def leave_class(fleet: Fleet, class_id: str, user_id: str, member: str) -> None:
    rows = [{"id": member, "class_id": class_id, "user_id": user_id, "role": "student"}]
    fleet.edit(lambda p, c: end_memberships(c, p, fleet.school.id, rows, fleet.school.clock.now_ms()))


def test_a_device_restored_from_an_older_copy_gets_its_own_answers_back_though_it_has_nothing_to_send(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    older = laptop.copied()
    laptop.records.record_attempts(ada, fleet.attempts(4))
    laptop.sync()
    laptop.database.close()
    restored = fleet.open(older)
    assert restored.sync().outcome == "done"
    assert restored.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))


def test_a_copy_that_only_reads_gets_what_the_other_copy_writes(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))
    laptop.sync()
    twin = fleet.open(laptop.copied())
    for _ in range(2):
        laptop.records.record_attempts(ada, fleet.attempts(3))
        laptop.sync()
        assert twin.sync().outcome == "done"
    assert twin.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))
    assert laptop.sync().outcome == "done"
    assert laptop.value("SELECT count(*) FROM question_attempts") == 8


def test_a_server_that_forgot_numbers_which_a_device_has_seen_is_read_anew(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    laptop.sync()
    tablet.sync()
    fleet.server("UPDATE schools SET head = head - 3")  # a copy from before, without a new epoch
    fleet.server("DELETE FROM question_attempts")
    fleet.server("UPDATE device_incarnations SET last_seq = 0, chain = decode(repeat('00', 16), 'hex')")
    phone = fleet.device(Grant("student", ada))
    phone.sync()
    phone.records.record_attempts(ada, fleet.attempts(2))
    phone.sync()
    for device in (tablet, laptop, laptop, tablet):
        device.sync()
    assert tablet.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))
    assert len(tablet.synced_rows("question_attempts")) == 5


def test_what_a_restored_server_says_anew_replaces_what_was_newer_before(fleet: Fleet, laptop: SyncedDevice) -> None:
    question, before = fleet.questions[0], fleet.school.head
    fleet.server("UPDATE schools SET head = head + 50")
    fleet.server("UPDATE questions SET stem = 'lost', feed_no = %s WHERE id = %s", fleet.school.head, question)
    laptop.sync()
    assert laptop.value("SELECT stem FROM questions WHERE id = ?", question) == "lost"
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")
    fleet.server("UPDATE schools SET head = %s", before + 1)
    fleet.server("UPDATE questions SET stem = 'restored', feed_no = %s WHERE id = %s", before + 1, question)
    laptop.sync()
    laptop.sync()
    assert laptop.value("SELECT stem FROM questions WHERE id = ?", question) == "restored"


def test_the_devices_own_answers_come_back_when_a_student_leaves_the_class_and_joins_again(fleet: Fleet, ada: Id) -> None:
    class_id = fleet.add_class("Knots 1")
    member = join_class(fleet, class_id, ada)
    lab = fleet.device(Grant("class", class_id))
    lab.sync()
    lab.records.record_attempts(ada, fleet.attempts(5))
    lab.sync()
    leave_class(fleet, class_id, ada, member)
    lab.sync()
    assert lab.synced_rows("question_attempts") == []
    join_class(fleet, class_id, ada)
    lab.sync()
    assert lab.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))
    assert len(lab.synced_rows("question_attempts")) == 5


def test_NO_LEAK_an_answer_that_is_sent_again_after_its_student_was_taken_away_goes_once_it_is_settled(fleet: Fleet, ada: str) -> None:
    class_id = fleet.add_class("Knots 2")
    member = join_class(fleet, class_id, ada)
    lab = fleet.device(Grant("class", class_id))
    lab.sync()
    leave_class(fleet, class_id, ada, member)
    lab.records.record_attempts(Id(ada), fleet.attempts(1))
    assert lab.sync().rejected == 1
    lab.database.write(lambda conn: retry(conn, None, lab.clock.now_ms()))
    with fleet.school.database.transaction() as cursor:
        (letter,) = letters_in_order(cursor, fleet.school.id, Filter())
        assert replay(cursor, fleet.school.ids, fleet.school.id, letter, fleet.school.clock.now_ms()).verdict == "applied"
    assert lab.value("SELECT count(*) FROM question_attempts") == 1
    assert lab.sync().outcome == "done"
    assert lab.rounds.status().state == "synced"
    assert lab.value("SELECT count(*) FROM question_attempts") == 0


def test_NO_GAP_an_answer_that_went_when_it_was_settled_is_back_when_its_student_is(fleet: Fleet, ada: str) -> None:
    class_id = fleet.add_class("Knots 2")
    member = join_class(fleet, class_id, ada)
    lab = fleet.device(Grant("class", class_id))
    lab.sync()
    leave_class(fleet, class_id, ada, member)
    lab.records.record_attempts(Id(ada), fleet.attempts(1))
    lab.sync()
    lab.database.write(lambda conn: retry(conn, None, lab.clock.now_ms()))
    join_class(fleet, class_id, ada)
    assert lab.sync().outcome == "done"
    assert len(lab.synced_rows("question_attempts")) == 1
    assert lab.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))


def test_NO_GAP_an_answer_that_is_accepted_after_its_row_went_is_here_again(fleet: Fleet, ada: str) -> None:
    class_id = fleet.add_class("Knots 2")
    member = join_class(fleet, class_id, ada)
    lab = fleet.device(Grant("class", class_id))
    lab.sync()
    lab.records.record_attempts(Id(ada), fleet.attempts(1))
    lab.sync()
    leave_class(fleet, class_id, ada, member)
    lab.records.record_attempts(Id(ada), fleet.attempts(1))
    assert lab.sync().rejected == 1
    join_class(fleet, class_id, ada)
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")  # restored: everything is sent again
    lab.sync()
    assert lab.sync().outcome == "done"
    assert len(lab.synced_rows("question_attempts")) == 2
    assert lab.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))


def test_what_was_deleted_while_a_log_began_anew_is_deleted_here_too(fleet: Fleet, ada: str) -> None:
    class_id = fleet.add_class("Knots 1")
    member = join_class(fleet, class_id, ada)
    fleet.school.add_user("ben", classes=["Knots 1"])
    lab = fleet.device(Grant("class", class_id))
    lab.sync()
    assert len(lab.synced_rows("class_members")) == 2
    leave_class(fleet, class_id, ada, member)
    lab.database.write(lambda conn: lab.identity.start_incarnation(conn, resend_all=True))
    lab.sync()
    assert len(lab.synced_rows("class_members")) == 1


def enrolment(fleet: Fleet, *grants: Grant) -> EnrolAnswer:
    enrolled = fleet.school.enrol(*grants)
    return EnrolAnswer(enrolled.id, enrolled.school_id, enrolled.school_name, enrolled.token, fleet.epoch(), Limits())


def test_NO_LEAK_a_device_enrolled_again_for_another_student_forgets_the_first(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    ben = fleet.school.add_user("ben").id
    laptop.records.record_attempts(ada, fleet.attempts(3))
    laptop.sync()
    laptop.identity.adopt(enrolment(fleet, Grant("student", ben)), fleet.url)
    laptop.sync()
    laptop.sync()
    assert laptop.synced_rows("question_attempts") == []
    assert len(fleet.server_rows("question_attempts")) == 3


def test_a_device_enrolled_again_while_a_push_is_answered_sends_everything_under_its_new_name(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    again = enrolment(fleet, Grant("student", ada))
    push = laptop.gateway.push

    def enrolled_meanwhile(token: str, request: PushRequest) -> PushAnswer:
        answer = push(token, request)
        laptop.gateway.push = push  # type: ignore[method-assign]
        laptop.identity.adopt(again, fleet.url)
        return answer

    laptop.gateway.push = enrolled_meanwhile  # type: ignore[method-assign]
    laptop.sync()
    assert fleet.server("SELECT last_seq FROM device_incarnations WHERE device_id = %s", again.device_id) == [(3,)]
    assert laptop.rounds.status().pending == 0


def test_NO_GAP_a_page_of_before_an_enrolment_does_not_move_the_cursors_of_after(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    fleet.add_class("makes the head move")
    again = enrolment(fleet, Grant("student", ada))
    pull = laptop.gateway.pull

    def enrolled_meanwhile(token: str, request: PullRequest) -> PullAnswer:
        page = pull(token, request)
        laptop.gateway.pull = pull  # type: ignore[method-assign]
        laptop.identity.adopt(again, fleet.url)
        return page

    laptop.gateway.pull = enrolled_meanwhile  # type: ignore[method-assign]
    laptop.gateway.requests.clear()
    laptop.sync()
    asked = [r.cursors for r in laptop.gateway.requests if isinstance(r, PullRequest)]
    assert len(asked) > 1
    assert set(asked[1].values()) == {0}


def test_a_rejected_operation_that_a_refilled_server_takes_is_not_called_rejected_any_more(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    fleet.server("ALTER TABLE question_attempts ADD CONSTRAINT dislikes CHECK (answer <> 'x')")
    laptop.records.record_attempts(ada, fleet.attempts(1) + fleet.attempts(1, answer="x") + fleet.attempts(1))
    assert laptop.sync().rejected == 1
    fleet.server("ALTER TABLE question_attempts DROP CONSTRAINT dislikes")
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")
    laptop.sync()
    laptop.sync()
    assert len(fleet.server_rows("question_attempts")) == 3
    status = laptop.rounds.status()
    assert (status.state, status.rejected) == ("synced", 0)


def test_TRUTHFUL_STATUS_a_rejection_is_told_to_each_copy_of_a_device_whichever_sent_the_operation_first(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(1))
    laptop.change("UPDATE sync_operations SET payload = replace(payload, '\"free\"', '\"fun\"')")
    twin = fleet.open(laptop.copied())
    twin.records.record_attempts(ada, fleet.attempts(1))
    twin.gateway.lose_answers = 1
    twin.sync()
    assert laptop.sync().rejected == 1
    assert twin.sync().rejected == 1
    assert twin.rounds.status().state == "rejected"


def test_NO_LOST_OP_two_copies_of_a_device_have_a_dead_letter_each_for_different_answers_under_one_id(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    twin, id_ = fleet.open(laptop.copied()), fleet.school.ids.new()
    for device, answer in ((laptop, "one"), (twin, "another")):
        device.records.record_attempts(ada, fleet.attempts(1, id=id_, answer=answer))
        device.change("UPDATE sync_operations SET payload = replace(payload, '\"free\"', '\"fun\"')")
        device.sync()
        device.sync()  # a copy begins a log of its own first
    assert fleet.server("SELECT payload->>'answer' FROM dead_letters ORDER BY 1") == [("another",), ("one",)]
    laptop.change("UPDATE sync_operations SET payload = replace(payload, '\"fun\"', '\"free\"')")
    laptop.database.write(lambda conn: retry(conn, [id_], laptop.clock.now_ms()))
    laptop.sync()
    assert fleet.server("SELECT answer FROM question_attempts") == [("one",)]


def test_a_new_log_does_not_forget_when_the_school_was_last_reached(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(1))
    laptop.sync()
    before = laptop.rounds.status()
    laptop.database.write(lambda conn: laptop.identity.start_incarnation(conn, resend_all=False))
    after = laptop.rounds.status()
    assert (after.last_push_ms, after.last_pull_ms) == (before.last_push_ms, before.last_pull_ms)
    assert before.last_push_ms is not None


def test_CONVERGENCE_a_queued_change_that_loses_against_a_version_pulled_before_gives_way_to_it(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    laptop.records.update_profile(ada, {"grade": "earlier"})
    tablet.records.update_profile(ada, {"grade": "later"})
    tablet.sync()
    identity = laptop.identity.current()
    assert identity is not None
    list(laptop.rounds._puller.pull_all(laptop.gateway, identity))  # written while a page was on its way
    laptop.sync()
    laptop.sync()
    assert fleet.server("SELECT grade FROM student_profiles") == [("later",)]
    assert laptop.value("SELECT grade FROM student_profiles") == "later"
