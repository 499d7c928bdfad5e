"""The study plan over the API."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

import pytest
from werkzeug.test import TestResponse

from daemon.learning import plan_making
from domain.ids import dashed
from domain.learning.planner import make_plan
from tests.support.device import ADA, BEN, DAY_MS, DeviceUnderTest, attempt, concept_id, question_id

WAIT_S = 30.0


def test_before_the_first_plan_there_is_none(device: DeviceUnderTest) -> None:
    assert device.signed_in().get("/plan").status_code == 404


def test_a_plan_keeps_to_the_profile_and_the_prerequisites(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    ada.patch("/me/profile", json={"available_minutes": [10, 10, 10, 10, 10, 0, 0], "exam_on": "2026-03-20"})
    plan = ada.post("/plan", json={"horizon_days": 10}).get_json()
    assert (plan["starts_on"], plan["days"]) == ("2026-03-04", 10)
    minutes: dict[str, int] = {}
    for item in plan["items"]:
        minutes[item["day"]] = minutes.get(item["day"], 0) + item["minutes"]
    assert minutes and max(minutes.values()) <= 10
    assert not minutes.keys() & {"2026-03-07", "2026-03-08"}  # a weekend
    new = list(dict.fromkeys(i["concept_id"] for i in plan["items"] if i["kind"] == "new"))
    cold, hot = ({dashed(concept_id(c)) for c in pair} for pair in (("scoring", "snapping"), ("gathering", "blowing")))
    assert set(new[:2]) == cold
    assert set(new[2:]) <= hot
    assert ada.get("/plan").get_json() == plan


def test_a_plan_and_its_items_are_queued_for_the_school(device: DeviceUnderTest) -> None:
    plan = device.signed_in().post("/plan").get_json()
    queued = device.rows("SELECT table_name, count(*) FROM sync_operations GROUP BY 1 ORDER BY 1")
    assert queued == [("study_plan_items", len(plan["items"])), ("study_plans", 1)]


def test_days_off_and_excluded_concepts_are_left_out(device: DeviceUnderTest) -> None:
    wish = {"days_off": ["2026-03-04", "2026-03-05"], "exclude": [dashed(concept_id("scoring"))]}
    plan = device.signed_in().post("/plan", json=wish).get_json()
    assert min(i["day"] for i in plan["items"]) == "2026-03-06"
    assert dashed(concept_id("scoring")) not in {i["concept_id"] for i in plan["items"]}


def test_the_newest_plan_counts_and_knows_what_was_learnt(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    first = ada.post("/plan").get_json()
    ada.post("/attempts", json=[attempt(question_id("scoring", n)) for n in range(3)])
    device.clock.advance(DAY_MS)
    ada = device.signed_in()
    second = ada.post("/plan").get_json()
    assert ada.get("/plan").get_json()["id"] == second["id"] != first["id"]
    assert dashed(concept_id("scoring")) not in {i["concept_id"] for i in second["items"] if i["kind"] == "new"}


def test_an_item_is_marked_and_moved(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    items = ada.post("/plan").get_json()["items"]
    done = ada.patch(f"/plan/items/{items[0]['id']}", json={"status": "done"}).get_json()
    moved = ada.patch(f"/plan/items/{items[1]['id']}", json={"status": "moved", "moved_to": "2026-03-06"}).get_json()
    assert done == {**items[0], "status": "done"}
    assert moved == {**items[1], "status": "moved", "moved_to": "2026-03-06"}
    back = ada.patch(f"/plan/items/{items[1]['id']}", json={"status": "planned"}).get_json()
    assert back == items[1]


@pytest.mark.parametrize(
    "change",
    [{}, {"status": "late"}, {"status": "moved"}, {"status": "done", "moved_to": "2026-03-06"}, {"status": "moved", "moved_to": "soon"}],
)
def test_a_change_that_makes_no_sense_is_refused(device: DeviceUnderTest, change: dict[str, str]) -> None:
    ada = device.signed_in()
    item = ada.post("/plan").get_json()["items"][0]
    before = device.rows("SELECT count(*) FROM sync_operations")
    assert ada.patch(f"/plan/items/{item['id']}", json=change).status_code == 422
    assert device.rows("SELECT count(*) FROM sync_operations") == before


def test_an_item_of_an_older_plan_is_not_marked_and_the_plan_that_counts_is_named(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    old = ada.post("/plan").get_json()["items"][0]
    newest = ada.post("/plan").get_json()
    queued = device.rows("SELECT count(*) FROM sync_operations")
    refused = ada.patch(f"/plan/items/{old['id']}", json={"status": "done"})
    assert (refused.status_code, refused.get_json()["code"]) == (409, "plan_superseded")
    assert newest["id"] in refused.get_json()["detail"]
    assert device.rows("SELECT count(*) FROM sync_operations") == queued
    assert device.signed_in(BEN).patch(f"/plan/items/{old['id']}", json={"status": "done"}).status_code == 404


def test_what_is_marked_while_a_plan_is_made_is_in_the_new_one_or_refused(device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = device.signed_in()
    item = ada.post("/plan").get_json()["items"][0]
    marks: list[Future[TestResponse]] = []

    def slow(*arguments: Any) -> Any:
        """A plan that is worked out while somebody marks an item of the one before."""
        marks.append(pool.submit(device.app.test_client().patch, f"/v1/plan/items/{item['id']}", json={"status": "done"}, headers=headers))
        wait(marks, timeout=0.3)
        return make_plan(*arguments)

    headers = {"Authorization": f"Bearer {ada.token}"}
    monkeypatch.setattr(plan_making, "make_plan", slow)
    with ThreadPoolExecutor(1) as pool:
        newest = ada.post("/plan").get_json()
        status = marks[0].result(WAIT_S).status_code
    kept = [i["status"] for i in newest["items"] if (i["concept_id"], i["day"]) == (item["concept_id"], item["day"])]
    assert (status, kept[:1]) in ((200, ["done"]), (409, ["planned"]))


@pytest.mark.parametrize("day", ["2026-03-03", "2000-01-01"])
def test_a_day_that_is_over_is_neither_an_exam_to_come_nor_one_to_move_to(device: DeviceUnderTest, day: str) -> None:
    ada = device.signed_in()
    item = ada.post("/plan").get_json()["items"][0]
    moved = ada.patch(f"/plan/items/{item['id']}", json={"status": "moved", "moved_to": day})
    exam = ada.patch("/me/profile", json={"exam_on": day, "grade": "8"})
    for refused, path in ((moved, "$.moved_to"), (exam, "$.exam_on")):
        assert refused.status_code == 422
        [problem] = refused.get_json()["errors"]
        assert problem["path"] == path and problem["message"].startswith("This day is over")
    assert device.rows("SELECT count(*) FROM student_profiles") == [(0,)]
    assert ada.patch("/me/profile", json={"exam_on": "2026-03-04"}).status_code == 200
    assert ada.patch("/me/profile", json={"exam_on": None}).status_code == 200


def test_an_exam_that_is_over_stays_readable_and_the_plan_goes_on_without_one_and_says_so(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    ada.patch("/me/profile", json={"exam_on": "2026-03-06", "available_minutes": [10] * 7})
    assert "is over" not in ada.post("/plan").get_json()["forecast"]["summary"]
    device.clock.advance(3 * DAY_MS)
    ada = device.signed_in()
    assert ada.get("/me").get_json()["profile"]["exam_on"] == "2026-03-06"
    plan = ada.get("/plan").get_json()
    assert plan["items"] and plan["forecast"]["summary"].endswith("; the exam of 2026-03-06 is over")
    assert {change["why"] for change in plan["changes"]} <= {
        "the exam of 2026-03-06 is over",
        "not done on 2026-03-04",
        "not done on 2026-03-05",
    }


def test_a_plan_that_a_wrong_clock_made_in_the_future_counts_no_more_once_the_clock_is_right(device: DeviceUnderTest) -> None:
    device.clock.advance(400 * DAY_MS)
    future = device.signed_in().post("/plan", json={"horizon_days": 3}).get_json()
    device.clock.advance(-400 * DAY_MS)
    ada = device.signed_in()
    today = ada.get("/plan").get_json()
    assert (today["starts_on"], today["days"], today["changes"]) == ("2026-03-04", 3, [])
    asked = ada.post("/plan", json={"horizon_days": 5}).get_json()
    assert (asked["starts_on"], asked["days"]) == ("2026-03-04", 5)
    assert ada.get("/plan").get_json()["id"] == asked["id"] != future["id"]


def test_the_plan_made_on_the_first_look_of_a_day_is_the_one_that_is_shown(
    device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*arguments: Any) -> Any:
        device.clock.advance(50)
        return make_plan(*arguments)

    monkeypatch.setattr(plan_making, "make_plan", slow)
    device.signed_in().post("/plan")
    device.clock.advance(DAY_MS)
    assert device.signed_in().get("/plan").get_json()["starts_on"] == "2026-03-05"


def test_with_a_clock_of_a_dead_battery_a_plan_is_made_once_a_day_like_any_other(device: DeviceUnderTest) -> None:
    device.signed_in().post("/plan")
    device.clock.advance(-device.clock.now_ms())
    ada = device.signed_in()
    first = ada.get("/plan").get_json()
    assert first["starts_on"] == "1970-01-01"
    assert ada.get("/plan").get_json()["id"] == first["id"]
    assert device.rows("SELECT count(*) FROM study_plans") == [(2,)]


def test_another_students_item_is_not_there(device: DeviceUnderTest) -> None:
    item = device.signed_in(ADA).post("/plan").get_json()["items"][0]
    assert device.signed_in(BEN).patch(f"/plan/items/{item['id']}", json={"status": "done"}).status_code == 404
    assert device.rows("SELECT count(*) FROM study_plan_items WHERE status <> 'planned'") == [(0,)]


@pytest.mark.parametrize("wish", [{"horizon_days": 0}, {"horizon_days": 401}, {"days_off": ["x"]}, {"exclude": ["x"]}, {"days": 3}])
def test_a_wish_beyond_the_limits_is_refused(device: DeviceUnderTest, wish: dict[str, object]) -> None:
    assert device.signed_in().post("/plan", json=wish).status_code == 422
    assert device.rows("SELECT count(*) FROM study_plans") == [(0,)]


def test_a_plan_of_a_course_without_concepts_is_empty(device: DeviceUnderTest) -> None:
    device.execute("DELETE FROM concepts")
    assert device.signed_in().post("/plan").get_json()["items"] == []
