"""A study plan from day to day: made anew, explained, with what its student and the school said about it."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

import pytest

from daemon.learning import plan_making
from daemon.learning.plan_making import ABSENCE_DAYS_MAX, IDLE_DAYS_MAX, replan_due
from daemon.learning.plans import active_students
from daemon.learning.situation import situation
from domain.errors import StorageFull
from domain.ids import Id, dashed, derived_id
from domain.learning.planner import make_plan
from tests.support.device import ADA, BEN, CONCEPTS, DAY_MS, DEVICE_ID, HOUR_MS, DeviceUnderTest, attempt, concept_id, question_id, topic_id

TODAY, TOMORROW, FRIDAY = "2026-03-04", "2026-03-05", "2026-03-06"
NAME = {dashed(concept_id(concept)): concept for concept in CONCEPTS}


def planned(device: DeviceUnderTest, **wish: Any) -> dict[str, Any]:
    plan: dict[str, Any] = device.signed_in().post("/plan", json=wish).get_json()
    return plan


def shown(device: DeviceUnderTest) -> dict[str, Any]:
    plan: dict[str, Any] = device.signed_in().get("/plan").get_json()
    return plan


def on(plan: dict[str, Any], day: str) -> list[str]:
    """The concepts of one day, in order."""
    return [NAME[item["concept_id"]] for item in plan["items"] if item["day"] == day]


def learn(device: DeviceUnderTest, concept: str, days_ago: int = 0) -> None:
    at_ms = device.clock.now_ms() - days_ago * DAY_MS
    answers = [attempt(question_id(concept, 0), answered_at_ms=at_ms + n * 1000) for n in range(-3, 0)]
    assert device.signed_in().post("/attempts", json=answers).status_code == 201


def rule(device: DeviceUnderTest, kind: str, concept: str | None = None, day: str | None = None, student: Id = ADA) -> None:
    """The school's word on a student's plans, as a pull brings it."""
    id_ = derived_id("rule", kind, str(concept), str(day))
    device.execute(
        "INSERT INTO plan_rules VALUES (?, ?, ?, ?, ?, ?, 5, NULL)",
        *(id_, student, kind, concept and concept_id(concept), day, device.clock.now_ms()),
    )


def test_the_first_look_of_a_day_makes_the_plan_anew_and_says_what_changed(device: DeviceUnderTest) -> None:
    first = planned(device, horizon_days=5, exclude=[dashed(concept_id("blowing"))])
    assert first["changes"] == []
    device.clock.advance(DAY_MS)
    second = shown(device)
    assert (second["starts_on"], second["days"], second["excluded"]) == (TOMORROW, 5, first["excluded"])
    late = on(first, TODAY)
    assert {(NAME[c["concept_id"]], c["was"], c["now"], c["why"]) for c in second["changes"]} >= {
        (concept, TODAY, TOMORROW, f"not done on {TODAY}") for concept in late
    }
    assert second["changes_count"] == len(second["changes"])
    assert shown(device) == second
    assert device.rows("SELECT count(*) FROM study_plans") == [(2,)]


def test_a_time_zone_that_is_set_while_the_daemon_runs_counts_from_then_on(
    device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    try:
        for zone, hours in (("UTC", 0), ("Asia/Tokyo", 9), ("America/New_York", -5)):
            monkeypatch.setenv("TZ", zone)
            assert situation(device.clock).utc_offset_ms == hours * HOUR_MS
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_was_planned_for_a_day_is_kept_on_it_by_the_plans_made_after(device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def seen(nodes: Any, states: Any, request: Any) -> Any:
        asked.append(request)
        return make_plan(nodes, states, request)

    monkeypatch.setattr(plan_making, "make_plan", seen)
    device.signed_in().patch("/me/profile", json={"available_minutes": [12] * 7})
    first = planned(device)
    device.clock.advance(DAY_MS)
    shown(device)
    before, after = ({day.isoformat(): set(concepts) for day, concepts in request.planned_before.items()} for request in asked)
    assert before == {}
    days = {item["day"] for item in first["items"]} - {TODAY}
    assert after == {day: {concept_id(name) for name in on(first, day)} for day in days}


def test_a_change_of_the_profile_is_the_reason_for_what_changed(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    ada.patch("/me/profile", json={"available_minutes": [12] * 7, "exam_on": "2026-03-20"})
    planned(device)
    ada.patch("/me/profile", json={"available_minutes": [6] * 7})
    assert {c["why"] for c in planned(device)["changes"]} == {"you have 42 minutes a week now, not 84"}
    ada.patch("/me/profile", json={"exam_on": None})
    planned(device, exclude=[dashed(concept_id("scoring"))])
    again = planned(device)
    assert next(c["why"] for c in again["changes"] if NAME[c["concept_id"]] == "scoring") == "no longer left out"


def test_after_an_absence_there_is_a_fresh_start_and_no_list_of_what_was_not_done(device: DeviceUnderTest) -> None:
    planned(device)
    device.clock.advance(ABSENCE_DAYS_MAX * DAY_MS)
    assert any(change["why"].startswith("not done on") for change in shown(device)["changes"])
    device.clock.advance((ABSENCE_DAYS_MAX + 1) * DAY_MS)
    back = shown(device)
    assert (back["changes"], back["changes_count"]) == ([], 0)
    assert back["items"][0]["day"] == back["starts_on"]


def test_a_lesson_said_to_take_long_is_planned_so(device: DeviceUnderTest) -> None:
    device.execute("UPDATE topics SET estimated_minutes = 40, feed_no = 9 WHERE id = ?", topic_id("Cold work"))
    minutes: Counter[str] = Counter()
    for item in planned(device)["items"]:
        minutes[NAME[item["concept_id"]]] += item["minutes"] * (item["kind"] == "new")
    assert minutes["scoring"] >= 20
    assert minutes["gathering"] < 20


def test_asking_for_the_next_question_is_a_look_at_the_plan_too(device: DeviceUnderTest) -> None:
    planned(device)
    device.clock.advance(DAY_MS)
    choice = device.signed_in().get("/questions/next").get_json()
    assert choice["plan_item_id"] in {item["id"] for item in shown(device)["items"] if item["day"] == TOMORROW}
    assert choice["purpose"] == "plan"


def test_a_full_disk_leaves_yesterdays_plan(device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    first = planned(device)
    device.clock.advance(DAY_MS)
    ada = device.signed_in()

    def full(*_: Any) -> None:
        raise StorageFull()

    monkeypatch.setattr(device.records, "add_plan", full)
    assert ada.get("/plan").get_json()["id"] == first["id"]


def test_a_plan_that_has_grown_too_long_over_night_ends_earlier_and_is_refused_to_nobody_but_who_asks_for_it(
    device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned(device, horizon_days=7)
    device.clock.advance(DAY_MS)
    whole = planned(device, horizon_days=7)["items"]
    last_day = whole[-1]["day"]
    monkeypatch.setattr(plan_making, "ITEMS_MAX", len(whole) - 1)
    device.clock.advance(-1)
    device.execute("DELETE FROM study_plans WHERE starts_on = ?", TOMORROW)
    assert device.signed_in().get("/questions/next").status_code == 200
    plan = shown(device)
    assert plan["items"] == [
        item | {"id": found["id"]} for item, found in zip(whole, plan["items"], strict=False) if item["day"] < last_day
    ]
    assert 1 <= plan["days"] < 7
    assert device.signed_in().post("/plan", json={"horizon_days": 7}).get_json()["errors"][0]["code"] == "too_long"


def test_answers_do_an_item_and_what_is_done_is_kept_in_a_new_plan(device: DeviceUnderTest) -> None:
    first = planned(device)
    device.clock.advance(HOUR_MS)
    learn(device, "scoring")
    (done,) = (item for item in shown(device)["items"] if NAME[item["concept_id"]] == "scoring" and item["kind"] == "new")
    assert (done["status"], done["by_answers"]) == ("done", True)
    again = planned(device)
    kept = again["items"][0]
    assert (NAME[kept["concept_id"]], kept["status"], kept["day"]) == ("scoring", "done", TODAY)
    assert sum(item["minutes"] for item in again["items"] if item["day"] == TODAY) <= 30
    assert again["id"] != first["id"]


def test_what_was_skipped_today_does_not_come_back_today(device: DeviceUnderTest) -> None:
    item = planned(device)["items"][0]
    device.signed_in().patch(f"/plan/items/{item['id']}", json={"status": "skipped"})
    again = planned(device)
    today = [i for i in again["items"] if i["day"] == TODAY and i["concept_id"] == item["concept_id"]]
    assert [i["status"] for i in today] == ["skipped"]
    assert NAME[item["concept_id"]] in on(again, TOMORROW)


def test_what_a_student_moved_stays_on_its_day(device: DeviceUnderTest) -> None:
    first = planned(device)
    item = first["items"][0]
    device.signed_in().patch(f"/plan/items/{item['id']}", json={"status": "moved", "moved_to": FRIDAY})
    again = planned(device)
    (moved,) = (i for i in again["items"] if i["concept_id"] == item["concept_id"] and i["kind"] == "new")
    assert (moved["day"], moved["reason"].split(";")[0]) == (FRIDAY, "pinned by you")
    device.clock.advance(2 * DAY_MS)
    assert NAME[item["concept_id"]] in on(shown(device), FRIDAY)


def test_a_review_is_done_by_a_right_answer_on_its_day_and_not_by_a_wrong_one(device: DeviceUnderTest) -> None:
    learn(device, "scoring", days_ago=6)
    plan = planned(device)
    (review,) = (i for i in plan["items"] if i["kind"] == "review" and i["day"] == TODAY and NAME[i["concept_id"]] == "scoring")

    def status() -> str:
        return next(str(i["status"]) for i in shown(device)["items"] if i["id"] == review["id"])

    assert device.signed_in().get("/questions/next").get_json()["purpose"] == "review"
    for correct, expected in ((False, "planned"), (True, "done")):
        device.clock.advance(60_000)
        device.signed_in().post("/attempts", json=attempt(question_id("scoring", 1), correct=correct))
        assert status() == expected


def test_a_teachers_pin_comes_first_after_what_it_needs_until_it_has_had_its_effect(device: DeviceUnderTest) -> None:
    rule(device, "pin", "blowing")
    plan = planned(device)
    today = on(plan, TODAY)
    reasons = {NAME[i["concept_id"]]: i["reason"] for i in plan["items"] if i["day"] == TODAY}
    assert today.index("scoring") < today.index("blowing")
    assert reasons["blowing"].startswith("pinned by your teacher")
    assert reasons["scoring"].startswith("needed for what your teacher pinned")
    device.clock.advance(HOUR_MS)
    learn(device, "blowing")
    assert not any("pinned" in item["reason"] for item in planned(device)["items"] if item["status"] == "planned")


def test_what_a_teacher_excludes_is_not_planned_and_days_off_of_both_are_kept(device: DeviceUnderTest) -> None:
    rule(device, "exclude", "scoring")
    rule(device, "day_off", day=TODAY)
    rule(device, "exclude", "snapping", student=BEN)
    device.signed_in().patch("/me/profile", json={"days_off": [TOMORROW]})
    plan = planned(device)
    assert min(item["day"] for item in plan["items"]) == FRIDAY
    names = {NAME[item["concept_id"]] for item in plan["items"]}
    assert "scoring" not in names
    assert "snapping" in names


def test_prerequisites_in_a_circle_are_reported_and_survived(device: DeviceUnderTest) -> None:
    device.execute(
        "INSERT INTO topic_prerequisites VALUES (?, ?, ?, NULL, 9, NULL)", derived_id("circle"), topic_id("Cold work"), topic_id("Hot work")
    )
    plan = planned(device)
    assert plan["items"]
    assert {ignored["why"] for ignored in plan["ignored"]} == {"circle"}
    assert plan["ignored_count"] == len(plan["ignored"])


@pytest.mark.parametrize("exam_on", [None, TODAY, TOMORROW, "2026-03-01", "2026-12-24"])
def test_a_plan_is_made_without_an_exam_with_one_tomorrow_and_long_after(device: DeviceUnderTest, exam_on: str | None) -> None:
    device.signed_in().patch("/me/profile", json={"exam_on": exam_on})
    plan = planned(device, horizon_days=7)
    days = {item["day"] for item in plan["items"]}
    assert days <= {f"2026-03-{day:02}" for day in range(4, 11)}
    assert bool(days) == (exam_on != TODAY)
    assert plan["forecast"]["summary"]


def test_the_forecast_looks_as_far_as_the_exam_and_says_what_does_not_fit(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    ada.patch("/me/profile", json={"exam_on": "2026-03-24", "available_minutes": [6, 0, 0, 0, 0, 0, 0]})
    plan = planned(device, horizon_days=7)  # one Monday of three before the exam
    assert len(plan["items"]) == 1
    assert 12 <= plan["forecast"]["minutes_planned"] <= 18
    assert 0 < len(plan["forecast"]["left_out"]) < len(CONCEPTS)


def test_the_job_makes_plans_of_students_who_study_here_and_of_nobody_else(device: DeviceUnderTest) -> None:
    for student in (ADA, BEN):
        device.signed_in(student).post("/plan")
    learn(device, "scoring")

    def replanned() -> int:
        return replan_due(device.api.engine, situation(device.clock), lambda: DEVICE_ID)

    assert replanned() == 0
    device.clock.advance(DAY_MS)
    assert [replanned(), replanned()] == [1, 0]
    assert device.rows("SELECT student_id FROM study_plans WHERE starts_on = ?", TOMORROW) == [(ADA,)]
    device.clock.advance((IDLE_DAYS_MAX + 1) * DAY_MS)
    assert replanned() == 0
    device.clock.advance(-IDLE_DAYS_MAX * DAY_MS)
    with device.database.read() as conn:
        present = (situation(device.clock).today, device.clock.now_ms(), 0, DEVICE_ID, 1)
        assert active_students(conn, *present) == [ADA]
    device.execute("DELETE FROM users WHERE id = ?", ADA)
    assert replanned() == 0
    device.execute("UPDATE study_plans SET device_id = ?", derived_id("another device"))
    assert replanned() == 0
