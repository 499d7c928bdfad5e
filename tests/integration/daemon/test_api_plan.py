"""The study plan over the API."""

from __future__ import annotations

import pytest

from domain.ids import dashed
from tests.support.device import ADA, BEN, DAY_MS, DeviceUnderTest, attempt, concept_id, question_id


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
