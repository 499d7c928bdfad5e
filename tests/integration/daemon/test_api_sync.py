"""Sync as the API tells it: the truth, to those whom it concerns."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from daemon.inbox import apply_page, release_shadows
from daemon.sync.on_demand import SyncOnDemand
from daemon.sync.round import RoundResult
from domain.blocks import encode_block
from domain.errors import NotEnrolled
from domain.ids import dashed, derived_id
from domain.registry import TABLES
from domain.wire import HeadAnswer, PullAnswer
from tests.support.device import ADA, BEN, CONTROL_TOKEN, DEVICE_ID, GOOD_CODE, DeviceUnderTest, attempt


def test_status_counts_what_is_not_at_school_and_never_says_synced_meanwhile(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    ada.post("/attempts", json=[attempt(), attempt()])
    ada.patch("/me/profile", json={"grade": "7"})
    status = device.client.get("/v1/status").get_json()
    assert (status["state"], status["pending"], status["answers_pending"], status["rejected"]) == ("pending", 3, 2, 0)
    assert status["school_name"] == "Glasswork school"


def test_status_says_when_the_school_refused_something(device: DeviceUnderTest) -> None:
    device.signed_in().post("/attempts", json=attempt())
    device.execute("UPDATE sync_operations SET state = 'rejected', code = 'not_granted', message = 'No.'")
    status = device.client.get("/v1/status").get_json()
    assert (status["pending"], status["answers_pending"], status["rejected"]) == (0, 0, 1)
    assert status["state"] != "synced"


def test_status_says_that_a_device_is_not_enrolled(device: DeviceUnderTest) -> None:
    device.execute("DELETE FROM identity")
    status = device.client.get("/v1/status").get_json()
    assert (status["state"], status["school_name"]) == ("not_enrolled", None)


def test_status_tells_what_the_person_who_looks_after_the_machine_should_know(device: DeviceUnderTest) -> None:
    assert device.client.get("/v1/status").get_json()["notices"] == []
    object.__setattr__(device.api, "notices", lambda: ["A restart is needed."])
    assert device.client.get("/v1/status").get_json()["notices"] == ["A restart is needed."]


def test_a_forced_round_says_why_it_failed(device: DeviceUnderTest) -> None:
    answer = device.signed_in().post("/sync")
    assert answer.status_code == 200
    assert answer.get_json() == {
        "finished": True, "outcome": "offline", "message": "The school cannot be reached.", "pushed": 0, "pulled": 0, "rejected": 0,
    }  # fmt: skip
    status = device.client.get("/v1/status").get_json()
    assert (status["state"], status["reason"]) == ("waiting", "offline")
    assert status["next_attempt_in_s"] is not None


def test_a_round_and_a_comparison_of_a_device_that_is_not_enrolled_say_so(device: DeviceUnderTest) -> None:
    device.execute("DELETE FROM identity")
    for path in ("/sync", "/sync/verify"):
        assert device.controlling().post(path).get_json()["message"] == NotEnrolled().message


def test_a_round_with_the_school_within_reach_ends_as_synced(device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    def head(*_: Any) -> tuple[HeadAnswer, str]:
        return HeadAnswer(10, device.clock.now_ms(), "epoch", 30.0), '"1"'

    class Page:
        rows, more = 0, False

    monkeypatch.setattr(device.gateway, "head", head)
    monkeypatch.setattr(device.rounds._puller, "pull_all", lambda *_: iter([Page()]))
    assert device.controlling().post("/sync").get_json()["outcome"] == "done"
    assert device.client.get("/v1/status").get_json()["state"] == "synced"
    device.signed_in().post("/attempts", json=attempt())
    assert device.client.get("/v1/status").get_json()["state"] == "pending"
    device.execute("DELETE FROM sync_operations")
    assert device.client.get("/v1/status").get_json()["state"] == "synced"
    device.api.identity.enrol("http://127.0.0.1:9", GOOD_CODE, "desk 2")
    assert device.client.get("/v1/status").get_json()["state"] == "unknown"


def test_operations_are_listed_newest_first_by_state_and_page(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    for _ in range(3):
        ada.post("/attempts", json=attempt())
    device.execute("UPDATE sync_operations SET state = 'rejected', code = 'not_granted', message = 'No.' WHERE op_no = 2")
    first = ada.get("/sync/operations?limit=2").get_json()
    second = ada.get(f"/sync/operations?limit=2&cursor={first['next_cursor']}").get_json()
    assert [o["op_no"] for o in first["items"] + second["items"]] == [3, 2, 1]
    assert second["next_cursor"] is None
    (rejected,) = ada.get("/sync/operations?state=rejected").get_json()["items"]
    assert (rejected["op_no"], rejected["table"], rejected["code"], rejected["message"]) == (2, "question_attempts", "not_granted", "No.")
    assert ada.get("/sync/operations?state=lost").status_code == 422


def test_a_student_sees_only_the_own_operations_and_the_command_line_all(device: DeviceUnderTest) -> None:
    ada, ben = device.signed_in(ADA), device.signed_in(BEN)
    ada.post("/attempts", json=attempt())
    ben.post("/attempts", json=attempt())
    ben.patch("/me/profile", json={"grade": "7"})
    item = ada.post("/plan").get_json()["items"][0]
    ada.patch(f"/plan/items/{item['id']}", json={"status": "done"})
    assert {o["table"] for o in ben.get("/sync/operations").get_json()["items"]} == {"question_attempts", "student_profiles"}
    assert len(ben.get("/sync/operations").get_json()["items"]) == 2
    everything = device.controlling().get("/sync/operations?limit=500").get_json()["items"]
    assert len(everything) == len(ada.get("/sync/operations?limit=500").get_json()["items"]) + 2
    assert "payload" not in everything[0]


def conflict(device: DeviceUnderTest, name: str, student: str = ADA, at_ms: int = 1, **fields: Any) -> str:
    """A conflict as a pull brings it."""
    row = {
        "id": derived_id("conflict", name), "student_id": student, "table_name": "student_profiles", "row_id": student, "field": "grade",
        "kept_value": '"8"', "kept_clock": '[9,"z"]', "lost_value": '"7"', "lost_clock": f'[5,"{DEVICE_ID}"]', "base_value": '"6"',
        "device_id": DEVICE_ID, "rule": "teacher_first", "created_at_ms": at_ms, "feed_no": 1, **fields,
    }  # fmt: skip
    device.execute(f"INSERT INTO sync_conflicts ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", *row.values())
    return dashed(row["id"])


def test_conflicts_say_what_was_kept_what_lost_and_whose_it_was(device: DeviceUnderTest) -> None:
    id_ = conflict(device, "one")
    assert device.signed_in().get("/sync/conflicts").get_json() == {
        "items": [
            {
                "id": id_, "student_id": dashed(ADA), "student_name": "Ada Ørsted", "table": "student_profiles", "row_id": dashed(ADA),
                "field": "grade", "kept": "8", "kept_by": "school", "lost": "7", "lost_by": "this_device", "seen": "6", "rule": "teacher_first",
                "noted_at_ms": 1, "restored_at_ms": None,
            }
        ],
        "next_cursor": None,
    }  # fmt: skip


def test_conflicts_are_listed_newest_first_by_page(device: DeviceUnderTest) -> None:
    ids = [conflict(device, str(n), at_ms=5 + n // 2) for n in range(5)]
    ada = device.signed_in()
    seen, cursor = [], ""
    while cursor is not None:
        page = ada.get(f"/sync/conflicts?limit=2{cursor and '&cursor=' + cursor}").get_json()
        seen += [c["id"] for c in page["items"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == sorted(ids)
    assert seen[0] == ids[4]
    assert ada.get("/sync/conflicts?cursor=1.x").status_code == 422


def test_a_student_sees_the_own_conflicts_and_the_command_line_all(device: DeviceUnderTest) -> None:
    conflict(device, "ada's")
    bens = conflict(device, "ben's", BEN, lost_clock='[5,"another"]', kept_clock=None)
    (seen,) = device.signed_in(BEN).get("/sync/conflicts").get_json()["items"]
    assert (seen["id"], seen["lost_by"], seen["kept_by"]) == (bens, "another_device", None)
    assert len(device.controlling().get("/sync/conflicts").get_json()["items"]) == 2


def test_an_operation_is_shown_whole_to_its_student_and_to_the_command_line_alone(device: DeviceUnderTest) -> None:
    id_ = device.signed_in(ADA).post("/attempts", json=attempt(answer="yes")).get_json()["id"]
    for client in (device.signed_in(ADA), device.controlling()):
        shown = client.get(f"/sync/operations/{id_}").get_json()
        assert (shown["payload"]["answer"], shown["student_name"], shown["state"]) == ("yes", "Ada Ørsted", "pending")
    assert device.signed_in(BEN).get(f"/sync/operations/{id_}").status_code == 404


def test_a_change_names_what_it_has_replaced(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    for grade in ("7", "8"):
        ada.patch("/me/profile", json={"grade": grade, "available_minutes": [20] * 7})
    (second, first) = ada.get("/sync/operations").get_json()["items"]
    whole = ada.get(f"/sync/operations/{second['id']}").get_json()
    hlc = ada.get(f"/sync/operations/{first['id']}").get_json()["hlc"]
    assert whole["base"] == {"grade": ["7", [hlc, DEVICE_ID]], "available_minutes": [[20] * 7, [hlc, DEVICE_ID]]}
    assert ada.get(f"/sync/operations/{first['id']}").get_json()["base"] == {"grade": [None, None], "available_minutes": [None, None]}


def refuse(device: DeviceUnderTest, where: str = "1") -> None:
    """As if the school had refused operations."""
    device.execute(f"UPDATE sync_operations SET state = 'rejected', code = 'not_granted', message = 'No.', settled_at_ms = 1 WHERE {where}")


def test_refused_changes_are_sent_again_at_the_end_of_the_log_and_only_those(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    ids = [ada.post("/attempts", json=attempt(answer=str(n))).get_json()["id"] for n in range(4)]
    refuse(device, "op_no IN (1, 3)")
    device.on_operation_calls.clear()
    answer = device.controlling().post("/sync/retry", json={"ids": [ids[0]]})
    assert (answer.status_code, answer.get_json()) == (200, {"retried": 1, "op_nos": [5], "left": 1})
    assert len(device.on_operation_calls) == 1
    assert device.rows("SELECT op_no, state, code FROM sync_operations ORDER BY op_no") == [
        (1, "synced", "retried"), (2, "pending", None), (3, "rejected", "not_granted"), (4, "pending", None), (5, "pending", None),
    ]  # fmt: skip
    columns = "op_id, table_name, row_id, kind, hlc, wall_ms, mono_ms, boot_no, payload"
    assert len(device.rows(f"SELECT DISTINCT {columns} FROM sync_operations WHERE op_no IN (1, 5)")) == 1
    assert device.controlling().post("/sync/retry").get_json() == {"retried": 1, "op_nos": [6], "left": 0}


def test_what_was_not_refused_is_not_sent_again(device: DeviceUnderTest) -> None:
    id_ = device.signed_in().post("/attempts", json=attempt()).get_json()["id"]
    control = device.controlling()
    assert control.post("/sync/retry", json={"ids": [id_]}).status_code == 409
    assert control.post("/sync/retry", json={"ids": [dashed(ADA)]}).status_code == 404
    assert device.rows("SELECT count(*) FROM sync_operations") == [(1,)]


def test_a_refused_change_that_is_sent_again_is_shown_again(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    ada.patch("/me/profile", json={"grade": "7"})
    refuse(device)
    device.execute("UPDATE student_profiles SET grade = NULL, clocks = '{}'")
    device.controlling().post("/sync/retry")
    assert ada.get("/me").get_json()["profile"]["grade"] == "7"


def test_what_is_unsent_is_listed_whole_and_oldest_first(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    for n in range(3):
        ada.post("/attempts", json=attempt(answer=str(n)))
    refuse(device, "op_no = 2")
    device.execute("UPDATE sync_operations SET state = 'synced' WHERE op_no = 1")
    first = device.controlling().get("/sync/unsent?limit=1").get_json()
    second = device.controlling().get(f"/sync/unsent?limit=1&cursor={first['next_cursor']}").get_json()
    told = [(o["op_no"], o["state"], o["payload"]["answer"]) for o in first["items"] + second["items"]]
    assert told == [(2, "rejected", "1"), (3, "pending", "2")]
    assert second["next_cursor"] is None


def test_a_change_that_the_school_took_stays_on_show_although_one_before_it_was_refused(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    device.execute("INSERT INTO student_profiles (id, grade, exam_on, feed_no) VALUES (?, '6', '2026-05-01', 7)", ADA)
    for change, state in (({"grade": "7"}, "rejected"), ({"exam_on": "2026-09-01"}, "synced")):
        assert ada.patch("/me/profile", json=change).status_code == 200
        device.execute("UPDATE sync_operations SET state = ? WHERE state = 'pending'", state)
        device.database.write(release_shadows)
    profile = ada.get("/me").get_json()["profile"]
    assert (profile["grade"], profile["exam_on"]) == ("6", "2026-09-01")


@pytest.mark.parametrize("state", ["pending", "rejected"])
def test_a_change_that_was_damaged_is_shown_as_it_is_and_holds_up_nothing_else(device: DeviceUnderTest, state: str) -> None:
    ada, control, damaged = device.signed_in(), device.controlling(), '{"exam_on'
    for change in ({"exam_on": "2026-09-01"}, {"grade": "7"}):
        assert ada.patch("/me/profile", json=change).status_code == 200
    device.execute("UPDATE sync_operations SET state = ?, code = 'set_aside'", state)
    device.execute("UPDATE sync_operations SET payload = ? WHERE op_no = 1", damaged)
    assert [item["payload"] for item in control.get("/sync/unsent").get_json()["items"]] == [{"damaged": damaged}, {"grade": "7"}]
    assert len(ada.get("/sync/operations").get_json()["items"]) == 2
    assert ada.patch("/me/profile", json={"available_minutes": [60] * 7}).status_code == 200
    row: dict[str, Any] = {
        "id": ADA,
        "grade": "6",
        "exam_on": "2026-08-01",
        "available_minutes": None,
        "days_off": None,
        "clocks": {},
        "feed_no": 50,
    }
    table = TABLES["student_profiles"]
    block = encode_block(table, {name: [value] for name, value in row.items()}, 1)
    page = PullAnswer({table.name: block}, [], {"school": 60}, [], [], False, device.clock.now_ms(), "epoch", 30.0)
    assert device.database.write(lambda conn: apply_page(conn, page, device.clock.now_ms())) == 1
    if state == "rejected":
        assert control.post("/sync/retry", json={}).get_json() == {"retried": 1, "op_nos": [4], "left": 1}


def test_the_command_line_enrols_the_device(device: DeviceUnderTest) -> None:
    body = {"cloud_url": "http://127.0.0.1:9", "code": GOOD_CODE, "name": "desk 5"}
    answer = device.controlling().post("/enrol", json=body)
    assert (answer.status_code, answer.get_json()["device_id"]) == (201, dashed(derived_id("device", "desk 5")))
    assert device.rows("SELECT device_id FROM identity") == [(derived_id("device", "desk 5"),)]


def test_a_code_that_the_school_refuses_is_a_bad_gateway_with_its_reason(device: DeviceUnderTest) -> None:
    refused = device.controlling().post("/enrol", json={"cloud_url": "http://127.0.0.1:9", "code": "x", "name": "n"})
    assert (refused.status_code, refused.get_json()["code"], refused.get_json()["reason"]) == (502, "cloud_unreachable", "refused")


def test_a_device_with_data_of_one_school_does_not_join_another(device: DeviceUnderTest) -> None:
    device.gateway.school_id = derived_id("school", "another")
    refused = device.controlling().post("/enrol", json={"cloud_url": "http://127.0.0.1:9", "code": GOOD_CODE, "name": "n"})
    assert (refused.status_code, refused.get_json()["code"]) == (409, "conflict")


def test_writing_on_a_device_without_a_school_is_refused_with_the_remedy(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    device.execute("DELETE FROM identity")
    device.api.identity._identity.forget_cached()  # type: ignore[attr-defined]
    refused = ada.post("/attempts", json=attempt())
    assert (refused.status_code, refused.get_json()["code"]) == (503, "not_enrolled")
    assert "carrel enrol" in refused.get_json()["detail"]


def test_a_stopping_daemon_says_try_again(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    device.database.close()
    for answer in (ada.get("/me"), ada.post("/attempts", json=attempt()), device.client.get("/v1/health")):
        assert (answer.status_code, answer.get_json()["code"], answer.get_json()["retryable"]) == (503, "unavailable", True)
        assert int(answer.headers["Retry-After"]) >= 1


def test_a_failed_database_is_not_healthy(device: DeviceUnderTest) -> None:
    assert device.client.get("/v1/health").get_json() == {"status": "ok"}
    device.database.failure = "OperationalError"
    assert device.client.get("/v1/health").status_code == 503


def test_the_control_token_is_compared_whole(device: DeviceUnderTest) -> None:
    for token in (CONTROL_TOKEN[:-1], CONTROL_TOKEN + "x", CONTROL_TOKEN.upper()):
        assert device.client.get("/v1/sync/operations", headers={"Authorization": f"Bearer {token}"}).status_code == 401


class Rounds:
    """Rounds that last until they are let go."""

    def __init__(self) -> None:
        self.begun, self.let_go, self.count = threading.Semaphore(0), threading.Semaphore(0), 0

    def run(self) -> RoundResult:
        self.count += 1
        self.begun.release()
        assert self.let_go.acquire(timeout=10)
        return RoundResult("done", pushed=self.count)


def test_a_round_that_takes_long_is_answered_as_unfinished(device: DeviceUnderTest) -> None:
    rounds = Rounds()
    on_demand = SyncOnDemand(rounds.run, wait_max_s=0.01)
    object.__setattr__(device.api, "sync", on_demand)
    answer = device.signed_in().post("/sync")
    assert (answer.status_code, answer.get_json()["finished"], answer.get_json()["outcome"]) == (202, False, None)
    rounds.let_go.release()
    on_demand.close()


def test_metrics_tell_what_waits_and_in_which_state_sync_is(device: DeviceUnderTest) -> None:
    device.signed_in().post("/attempts", json=attempt())
    text = device.client.get("/metrics").get_data(as_text=True)
    assert "carrel_operations_pending 1.0" in text
    assert 'carrel_sync_state{state="pending"} 1.0' in text
    assert 'carrel_sync_state{state="synced"} 0.0' in text


def test_a_comparison_that_cannot_reach_the_school_says_that_nothing_can_be_said(device: DeviceUnderTest) -> None:
    answer = device.controlling().post("/sync/verify").get_json()
    assert (answer["finished"], answer["result"], answer["message"]) == (True, "inconclusive", "The school cannot be reached.")
    assert device.signed_in().post("/sync/verify").status_code == 403


def test_a_comparison_that_takes_longer_is_answered_at_once(device: DeviceUnderTest) -> None:
    object.__setattr__(device.api, "verify", lambda content: None)
    answer = device.controlling().post("/sync/verify", json={"content": True})
    assert (answer.status_code, answer.get_json()["finished"]) == (202, False)


def test_status_and_metrics_say_that_both_sides_differ_and_do_not_call_it_synced(
    device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    device.execute("UPDATE sync_progress SET last_verify_ms = 5000, last_verify_result = 'mismatch'")
    monkeypatch.setattr(device.rounds, "_etag", '"1"')
    status = device.client.get("/v1/status").get_json()
    assert (status["state"], status["last_verify_ms"], status["last_verify_result"]) == ("differs", 5000, "mismatch")
    metrics = device.client.get("/metrics").get_data(as_text=True)
    assert 'carrel_sync_state{state="differs"} 1.0' in metrics
    assert "carrel_verify_mismatch 1.0" in metrics
    assert "carrel_last_verify_timestamp_seconds 5.0" in metrics
    device.execute("UPDATE sync_progress SET last_verify_result = 'repaired'")
    assert device.client.get("/v1/status").get_json()["state"] == "synced"
    assert "carrel_verify_mismatch 0.0" in device.client.get("/metrics").get_data(as_text=True)
