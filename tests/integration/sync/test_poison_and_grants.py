"""Operations that cannot be applied become dead letters, alone; rows reach only those who may hold them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from cloud_api.devices.enrolment import Grant
from cloud_api.people import end_memberships
from daemon.queue import sync_log
from daemon.records import NewAttempt, NewPlanItem
from domain.errors import CloudUnreachable
from domain.ids import Id
from domain.wire import ClockReading, PushRequest, Run
from tests.support.fleet import Fleet, SyncedDevice


def _letters(fleet: Fleet) -> list[tuple[Any, ...]]:
    return fleet.server("SELECT code, row_id, payload FROM dead_letters ORDER BY seq")


def _rejected(device: SyncedDevice) -> list[tuple[Any, ...]]:
    return device.rows("SELECT code, row_id FROM sync_operations WHERE state = 'rejected' ORDER BY op_no")


def _tamper(device: SyncedDevice, places: dict[int, dict[str, Any]]) -> list[str]:
    """Changes queued payloads, as a flawed version of the product might have written them; returns the rows."""
    changed = []
    for place, fields in places.items():
        op_no, row_id, payload = device.rows(
            "SELECT op_no, row_id, payload FROM sync_operations WHERE state = 'pending' ORDER BY op_no LIMIT 1 OFFSET ?", place
        )[0]
        text = msgspec.json.encode({**json.loads(payload), **fields}).decode()
        device.change("UPDATE sync_operations SET payload = ? WHERE op_no = ?", text, op_no)
        changed.append(row_id)
    return changed


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"confidence": 9}, "invalid_value"),
        ({"confidence": "2"}, "invalid_value"),
        ({"purpose": "fun"}, "invalid_value"),
        ({"answer": "a\x00b"}, "invalid_value"),
        ({"answer": "x" * 5_000}, "invalid_value"),
        ({"correct": None}, "invalid_value"),
        ({"student_id": "not an id"}, "invalid_value"),
        ({"active_ms": 2**70}, "invalid_value"),
        ({"question_id": "f" * 32}, "unknown_reference"),
        ({"student_id": "f" * 32}, "not_granted"),
        ({"corrected_at_ms": 1_700_000_000_000}, "not_writable"),
        ({"id": "f" * 32}, "not_writable"),
    ],
)
def test_one_poison_operation_becomes_a_dead_letter_and_its_neighbours_pass(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, fields: dict[str, Any], code: str
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(9))
    (poison,) = _tamper(laptop, {4: fields})
    done = laptop.sync()
    assert (done.outcome, done.pushed, done.rejected) == ("done", 9, 1)
    assert len(fleet.server_rows("question_attempts")) == 8
    assert _rejected(laptop) == [(code, poison)]
    ((letter_code, row_id, payload),) = _letters(fleet)
    assert (letter_code, row_id) == (code, poison)
    assert {k: payload[k] for k in fields} == fields  # kept whole
    status = laptop.rounds.status()
    assert (status.state, status.pending, status.rejected) == ("rejected", 0, 1)


def test_many_poison_operations_of_several_kinds_in_one_batch_are_told_apart(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(200))
    bad = _tamper(laptop, {3: {"confidence": 0}, 77: {"question_id": "e" * 32}, 78: {"question_id": "e" * 32}, 199: {"purpose": ""}})
    assert laptop.sync().rejected == 4
    assert [row for _, row in _rejected(laptop)] == bad
    assert len(fleet.server_rows("question_attempts")) == 196
    assert laptop.value("SELECT count(*) FROM question_attempts WHERE feed_no > 0") == 196


def test_what_only_the_database_refuses_is_found_by_bisection(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    fleet.server("ALTER TABLE question_attempts ADD CHECK (answer <> 'forty-two')")
    laptop.records.record_attempts(ada, fleet.attempts(50))
    laptop.records.record_attempts(ada, fleet.attempts(1, answer="forty-two"))
    laptop.records.record_attempts(ada, fleet.attempts(50))
    assert laptop.sync().rejected == 1
    assert [code for code, _, _ in _letters(fleet)] == ["refused_by_database"]
    assert len(fleet.server_rows("question_attempts")) == 100


def test_an_id_that_exists_with_other_content_is_rejected_as_immutable(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    row_id = fleet.school.ids.new()
    laptop.records.record_attempts(ada, [NewAttempt(fleet.questions[0], True, "free", id=row_id)])
    tablet.records.record_attempts(ada, [NewAttempt(fleet.questions[0], False, "free", id=row_id)])
    laptop.sync()
    tablet.sync()
    assert _rejected(tablet) == [("immutable", row_id)]
    assert fleet.server("SELECT correct FROM question_attempts") == [(True,)]


def test_an_operation_that_builds_on_a_rejected_one_is_rejected_with_it(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    items = [NewPlanItem(fleet.concepts[0], "2026-12-01", "new", 8, "first")]
    laptop.records.add_plan(ada, {"starts_on": "2026-12-01", "days": 7, "planner_version": "test", "forecast": None}, items)
    _tamper(laptop, {0: {"days": 9_999}})
    item = laptop.value("SELECT id FROM study_plan_items")
    assert laptop.sync().rejected == 2
    laptop.records.update_plan_item(ada, item, {"status": "done"})
    assert laptop.sync().rejected == 1
    assert [code for code, _ in _rejected(laptop)] == ["invalid_value", "depends_on", "depends_on"]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"table": "users"}, "unknown_table"),
        ({"table": "no_such_table; DROP TABLE users"}, "unknown_table"),
        ({"kind": "delete"}, "not_writable"),
        ({"kind": "update"}, "not_writable"),
        ({"kind": "void", "fields": {}}, "set_aside"),
    ],
)
def test_tables_and_kinds_that_devices_may_not_write_are_refused_whatever_the_payload_names(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, change: dict[str, Any], code: str
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))
    seen: list[str] = []

    def tampered(request: PushRequest) -> PushRequest:
        runs = [msgspec.structs.replace(run, **change) for run in request.runs]
        return msgspec.structs.replace(request, runs=runs)

    laptop.gateway.before_push = tampered
    laptop.sync()  # the acknowledged chain is another than the device's, which it notices
    seen = [letter[0] for letter in _letters(fleet)]
    assert seen == [code, code]
    assert fleet.server_rows("question_attempts") == []


def test_fields_of_a_newer_device_are_kept_and_travel_no_further(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    _tamper(laptop, {0: {"mood": "curious"}})
    assert laptop.sync().rejected == 0
    assert fleet.server("SELECT _extra FROM question_attempts WHERE _extra IS NOT NULL") == [({"mood": "curious"},)]


def test_NO_WEDGE_an_operation_that_spoils_every_request_is_set_aside_and_the_queue_goes_on(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(30))
    spoiler = laptop.value("SELECT row_id FROM sync_operations WHERE op_no = 17")

    def spoilt(request: PushRequest) -> PushRequest:
        runs = [msgspec.structs.replace(r, wall_ms="?") if _holds(r, spoiler) else r for r in request.runs]
        return msgspec.structs.replace(request, runs=runs)

    laptop.gateway.before_push = spoilt
    done = laptop.sync()
    assert (done.outcome, done.pushed, done.rejected) == ("done", 30, 1)
    assert len(fleet.server_rows("question_attempts")) == 29
    assert _rejected(laptop) == [("set_aside", spoiler)]
    assert [letter[:2] for letter in _letters(fleet)] == [("set_aside", spoiler)]
    assert laptop.value("SELECT count(*) FROM question_attempts WHERE id = ?", spoiler) == 1
    assert json.loads(laptop.value("SELECT payload FROM sync_operations WHERE row_id = ?", spoiler))["student_id"] == ada


@pytest.mark.parametrize(
    "damage",
    [
        {"payload": "[7]"},
        {"payload": '{"student_id":'},
        {"payload": '{"student_id": "damaged"}'},
        {"op_id": "damaged", "row_id": "damaged"},
    ],
    ids=lambda damage: " ".join(damage.values()),
)
def test_NO_WEDGE_an_operation_that_was_damaged_in_the_file_is_set_aside_and_the_queue_goes_on(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, damage: dict[str, str]
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(5))
    changes = ", ".join(f"{column} = ?" for column in damage)
    laptop.change(f"UPDATE sync_operations SET {changes} WHERE op_no = 3", *damage.values())
    laptop.sync()
    assert laptop.sync().outcome == "done"
    assert len(fleet.server_rows("question_attempts")) == 4
    assert laptop.rows("SELECT op_no, code FROM sync_operations WHERE state = 'rejected'") == [(3, "set_aside")]
    assert laptop.value("SELECT count(*) FROM sync_operations WHERE state = 'pending'") == 0


def _holds(run: Run, row_id: str) -> bool:
    return run.kind == "insert" and row_id in str(run.rows)


def test_a_server_that_does_not_speak_this_protocol_is_waited_for_and_nothing_is_set_aside(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))
    laptop.gateway.before_push = lambda request: msgspec.structs.replace(request, protocol=99)
    assert laptop.sync().outcome == "other_version"
    assert laptop.rounds.status().pending == 2
    assert laptop.value("SELECT count(*) FROM sync_operations WHERE code IS NOT NULL") == 0


def test_what_is_at_school_already_is_a_duplicate_even_when_the_student_is_not_granted_any_more(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    laptop.sync()
    fleet.server("UPDATE device_grants SET ended_at_ms = 1 WHERE device_id = %s", laptop.id)
    laptop.database.write(lambda conn: laptop.identity.start_incarnation(conn, resend_all=True))
    assert laptop.sync().rejected == 0
    assert _letters(fleet) == []


def test_a_request_without_form_is_refused_whole_and_changes_nothing(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))

    def damaged(request: PushRequest) -> PushRequest:
        run: Run = msgspec.structs.replace(request.runs[0], wall_ms=["yesterday", "today"])
        return msgspec.structs.replace(request, runs=[run])

    token = laptop.identity.token()
    operations = _queued(laptop)
    with pytest.raises(CloudUnreachable) as refused:
        laptop.gateway.push(token, damaged(operations))
    assert (refused.value.http_status, refused.value.remote_code) == (422, "invalid")
    assert fleet.server("SELECT count(*) FROM question_attempts") == [(0,)]
    assert fleet.server("SELECT count(*) FROM device_incarnations") == [(0,)]
    assert laptop.sync().outcome == "done"


def _queued(device: SyncedDevice) -> PushRequest:
    """The request that the device would send now."""
    batch = device.rounds._pusher._prepare(None)
    assert batch is not None
    return batch.request


def test_NO_LEAK_a_device_gets_the_rows_of_its_own_students_and_no_others(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    class_id = fleet.add_class("Knots 1")
    ben = fleet.school.add_user("ben", classes=["Knots 1"]).id
    fleet.school.add_user("cleo", classes=["Knots 1"])
    lab = fleet.device(Grant("class", class_id))
    lab.sync()
    lab.records.record_attempts(ben, fleet.attempts(2))
    laptop.records.record_attempts(ada, fleet.attempts(3))
    for device in (lab, laptop, lab, laptop):
        device.sync()
    assert {row[1] for row in lab.synced_rows("question_attempts")} == {ben}
    assert {row[1] for row in laptop.synced_rows("question_attempts")} == {ada}
    assert laptop.synced_rows("class_members") == []
    assert len(lab.synced_rows("class_members")) == 2


def test_a_student_who_joins_the_class_arrives_with_everything_and_one_who_leaves_goes(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    class_id = fleet.add_class("Knots 1")
    fleet.school.add_user("ben", classes=["Knots 1"])
    lab = fleet.device(Grant("class", class_id))
    laptop.records.record_attempts(ada, fleet.attempts(4))
    laptop.sync()
    lab.sync()
    assert lab.synced_rows("question_attempts") == []
    member = fleet.school.ids.new()
    fleet.edit(lambda p, _c: p.put("class_members", {"id": member, "class_id": class_id, "user_id": ada, "role": "student"}))
    lab.sync()
    assert len(lab.synced_rows("question_attempts")) == 4
    rows = [{"id": member, "class_id": class_id, "user_id": ada, "role": "student"}]
    fleet.edit(lambda p, c: end_memberships(c, p, fleet.school.id, rows, fleet.school.clock.now_ms()))
    lab.sync()
    assert lab.synced_rows("question_attempts") == []
    assert len(lab.synced_rows("class_members")) == 1
    assert lab.value("SELECT count(*) FROM cursors WHERE scope = ?", f"student:{ada}") == 0


def test_an_answer_given_while_the_grant_held_is_accepted_after_it_has_ended_and_a_later_one_is_not(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))
    now_ms = fleet.school.clock.now_ms()
    fleet.server("UPDATE device_grants SET ended_at_ms = %s WHERE device_id = %s", now_ms + 1, laptop.id)
    while fleet.school.clock.now_ms() <= now_ms + 1:
        pass
    laptop.records.record_attempts(ada, fleet.attempts(1))
    assert laptop.sync().rejected == 1
    assert len(fleet.server_rows("question_attempts")) == 2
    assert [code for code, _, _ in _letters(fleet)] == ["not_granted"]


def test_a_plan_item_of_a_student_who_is_not_granted_cannot_be_changed_by_its_id(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    ben = fleet.school.add_user("ben").id
    other = fleet.device(Grant("student", ben))
    other.sync()
    items = [NewPlanItem(fleet.concepts[0], "2026-12-01", "new", 8, "first")]
    laptop.records.add_plan(ada, {"starts_on": "2026-12-01", "days": 7, "planner_version": "test", "forecast": None}, items)
    laptop.sync()
    item = laptop.value("SELECT id FROM study_plan_items")
    other.records._database.write(
        lambda conn: (
            conn.execute(
                "INSERT INTO study_plan_items SELECT ?, plan_id, ?, concept_id, day, position, kind, minutes, reason, status, moved_to, clocks, 0, NULL"
                " FROM (SELECT ? AS plan_id, ? AS concept_id, '2026-12-01' AS day, 0 AS position, 'new' AS kind, 8 AS minutes, 'x' AS reason,"
                " 'planned' AS status, NULL AS moved_to, '{}' AS clocks)",
                (item, ben, item, fleet.concepts[0]),
            ).rowcount
        )
    )
    other.records.update_plan_item(ben, item, {"status": "skipped"})
    assert other.sync().rejected == 1
    assert _rejected(other) == [("not_granted", item)]
    assert fleet.server("SELECT status FROM study_plan_items") == [("planned",)]


def test_a_revoked_device_keeps_everything_and_says_so(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    fleet.server("UPDATE devices SET revoked_at_ms = 1 WHERE id = %s", laptop.id)
    laptop.records.record_attempts(ada, fleet.attempts(2))
    assert laptop.sync().outcome == "unauthorised"
    status = laptop.rounds.status()
    assert (status.state, status.reason, status.pending) == ("waiting", "unauthorised", 2)
    fleet.server("UPDATE devices SET revoked_at_ms = NULL WHERE id = %s", laptop.id)
    assert laptop.sync().outcome == "done"


def test_LOSER_KEPT_every_device_that_used_an_id_for_another_answer_has_its_own_letter(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    phone = fleet.device(Grant("student", ada))
    phone.sync()
    row_id = fleet.school.ids.new()
    for device, answer in ((laptop, "one"), (tablet, "two"), (phone, "three")):
        device.records.record_attempts(ada, [NewAttempt(fleet.questions[0], True, "free", answer=answer, id=row_id)])
        device.sync()
    assert sorted(payload["answer"] for _, _, payload in _letters(fleet)) == ["three", "two"]


def test_another_devices_letter_says_nothing_of_an_answer_that_was_taken(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    row_id = fleet.school.ids.new()
    laptop.records.record_attempts(ada, [NewAttempt(fleet.questions[0], True, "free", id=row_id)])
    laptop.gateway.lose_answers = 1
    laptop.sync()
    tablet.records.record_attempts(ada, [NewAttempt(fleet.questions[0], False, "free", id=row_id)])
    assert tablet.sync().rejected == 1
    assert laptop.sync().rejected == 0
    assert laptop.value("SELECT feed_no FROM question_attempts") > 0


@pytest.mark.parametrize(
    "fields",
    [
        {"student_id": []},
        {"student_id": {"a": 1}},
        {"student_id": None},
        {"question_id": "a" * 31},
        {"purpose": ["free"]},
        {"purpose": {"free": 1}},
        {"active_ms": "soon"},
        {"active_ms": 1.0},
        {"answered_at_ms": True},
        {"answer": {"deep": [[[1]]]}},
        {"mood": {"nul": "\x00"}},
        {"": 1},
        {"device_id": 7},
    ],
)
def test_NO_WEDGE_a_value_of_a_wrong_type_is_refused_alone_whatever_stands_beside_it(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, fields: dict[str, Any]
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(7, active_ms=1_500))
    _tamper(laptop, {3: fields})
    done = laptop.sync()
    assert done.outcome == "done"
    assert laptop.rounds.status().pending == 0
    assert len(fleet.server_rows("question_attempts")) == 7 - done.rejected
    assert done.rejected == (0 if "" in fields else 1)


@pytest.mark.parametrize("wall_ms", [2**70, -(2**70), -(2**63), 2**63 - 1, 0])
def test_a_clock_that_is_wrong_beyond_all_measure_stops_nothing(fleet: Fleet, ada: Id, laptop: SyncedDevice, wall_ms: int) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))
    laptop.gateway.before_push = lambda request: msgspec.structs.replace(request, clock=ClockReading(wall_ms, 5, "b" * 32))
    done = laptop.sync()
    assert (done.outcome, done.rejected) == ("done", 0)
    assert len(fleet.server_rows("question_attempts")) == 2


@pytest.mark.parametrize("column", ["payload", "table_name"])
def test_NO_WEDGE_a_damaged_byte_that_is_no_text_any_more_is_set_aside_alone_and_shown(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, column: str
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(5))
    old = laptop.value(f"SELECT {column} FROM sync_operations WHERE op_no = 3")
    damaged = old[:-4].encode() + b"\xff" + old[-3:].encode()
    laptop.change(f"UPDATE sync_operations SET {column} = CAST(? AS TEXT) WHERE op_no = 3", damaged)
    done = laptop.sync()
    assert (done.outcome, done.pushed, done.rejected) == ("done", 5, 1)
    assert len(fleet.server_rows("question_attempts")) == 4
    assert [code for code, _ in _rejected(laptop)] == ["set_aside"]
    (shown,) = sync_log.operations(laptop.database, None, "rejected", None, 9)
    assert "\\xff" in getattr(shown, column)
    assert not laptop.database.failure
    assert laptop.sync().outcome == "done"


@pytest.mark.parametrize("base", [b"{", b'{"\xff":1}'])
def test_NO_WEDGE_a_change_of_which_only_the_base_is_damaged_goes_without_it(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, base: bytes
) -> None:
    laptop.records.update_profile(ada, {"grade": "7"})
    laptop.change("UPDATE sync_operations SET base = CAST(? AS TEXT)", base)
    done = laptop.sync()
    assert (done.outcome, done.pushed, done.rejected) == ("done", 1, 0)
