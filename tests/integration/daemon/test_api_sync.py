"""Sync as the API tells it: the truth, to those whom it concerns."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from daemon.sync.round import RoundResult
from daemon.sync_on_demand import SyncOnDemand
from domain.ids import dashed, derived_id
from domain.wire import HeadAnswer
from tests.support.device import ADA, BEN, CONTROL_TOKEN, GOOD_CODE, DeviceUnderTest, attempt


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


def test_conflicts_are_an_empty_page(device: DeviceUnderTest) -> None:
    assert device.signed_in().get("/sync/conflicts").get_json() == {"items": [], "next_cursor": None}


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
