"""The course, the student and the next question, as apps read them."""

from __future__ import annotations

import pytest

from domain.ids import dashed
from tests.support.device import (
    CLASS_ID,
    DAN,
    QUESTIONS,
    RETIRED_QUESTION,
    ApiClient,
    DeviceUnderTest,
    attempt,
    concept_id,
    question_id,
    topic_id,
)


def ids(client: ApiClient, path: str) -> list[str]:
    return [item["id"] for item in client.get(path).get_json()["items"]]


def test_a_student_sees_name_classes_and_profile(device: DeviceUnderTest) -> None:
    me = device.signed_in().get("/me").get_json()
    assert me["display_name"] == "Ada Ørsted"
    assert me["classes"] == [{"id": dashed(CLASS_ID), "name": "Glass 7b"}]
    assert me["profile"] == {"grade": None, "exam_on": None, "available_minutes": None, "days_off": None}


def test_a_profile_is_changed_field_by_field_and_queued(device: DeviceUnderTest) -> None:
    ada, week = device.signed_in(), [30, 30, 30, 30, 30, 0, 0]
    ada.patch("/me/profile", json={"grade": "7", "available_minutes": week})
    changed = ada.patch("/me/profile", json={"exam_on": "2026-06-01", "grade": None})
    assert changed.get_json() == {"grade": None, "exam_on": "2026-06-01", "available_minutes": week, "days_off": None}
    assert ada.get("/me").get_json()["profile"] == changed.get_json()
    assert device.rows("SELECT kind, state FROM sync_operations") == [("update", "pending")] * 2


@pytest.mark.parametrize(
    "change", [{}, {"exam_on": "2026-02-30"}, {"available_minutes": [1] * 6}, {"available_minutes": [1441] * 7}, {"grade": "x" * 41}, {"clocks": "{}"}, {"id": "x"}]
)  # fmt: skip
def test_a_bad_profile_is_refused_and_nothing_is_written(device: DeviceUnderTest, change: dict[str, object]) -> None:
    assert device.signed_in().patch("/me/profile", json=change).status_code == 422
    assert device.rows("SELECT (SELECT count(*) FROM student_profiles), (SELECT count(*) FROM sync_operations)") == [(0, 0)]


def test_the_course_is_read_with_its_hierarchy(device: DeviceUnderTest) -> None:
    topics = {t["title"]: t for t in device.signed_in().get("/topics").get_json()["items"]}
    assert topics["Cold work"]["parent_id"] == topics["Glasswork"]["id"] == dashed(topic_id("Glasswork"))
    assert topics["Hot work"]["weightage"] == 60.0


def test_concepts_and_questions_are_filtered(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    assert set(ids(ada, f"/concepts?topic_id={topic_id('Cold work')}")) == {dashed(concept_id("scoring")), dashed(concept_id("snapping"))}
    assert len(ids(ada, f"/questions?topic_id={dashed(topic_id('Cold work'))}")) == 7
    scoring = {dashed(question_id("scoring", n)) for n in range(4)}
    assert set(ids(ada, f"/questions?concept_id={concept_id('scoring')}")) == scoring
    assert set(ids(ada, f"/questions?concept_id={dashed(concept_id('scoring'))}&topic_id={topic_id('Cold work')}")) == scoring
    assert ids(ada, f"/questions?concept_id={concept_id('scoring')}&topic_id={topic_id('Hot work')}") == []


def test_retired_questions_are_hidden_unless_asked_for(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    assert dashed(RETIRED_QUESTION) not in ids(ada, "/questions")
    assert dashed(RETIRED_QUESTION) in ids(ada, "/questions?retired=true")
    assert ada.get(f"/questions/{RETIRED_QUESTION}").get_json()["retired_at_ms"] is not None


def test_pages_follow_each_other_without_gap_or_repetition(device: DeviceUnderTest) -> None:
    ada, seen, cursor = device.signed_in(), list[str](), ""
    while cursor is not None:
        page = ada.get(f"/questions?retired=true&limit=5{cursor and '&cursor=' + cursor}").get_json()
        seen += [q["id"] for q in page["items"]]
        cursor = page["next_cursor"]
    assert seen == sorted(map(dashed, QUESTIONS))


def test_a_question_comes_with_what_grading_needs(device: DeviceUnderTest) -> None:
    for form in (QUESTIONS[0], dashed(QUESTIONS[0]), QUESTIONS[0].upper()):
        question = device.signed_in().get(f"/questions/{form}").get_json()
        assert (question["choices"], question["answers"]) == (["yes", "no"], ["yes"])
    assert device.signed_in().get(f"/questions/{DAN}").status_code == 404


def test_the_next_question_is_about_what_may_be_learnt_first(device: DeviceUnderTest) -> None:
    choice = device.signed_in().get("/questions/next").get_json()
    assert choice["question"]["topic_id"] == dashed(topic_id("Cold work"))
    assert choice["concept_id"] in choice["question"]["concept_ids"]
    assert 0 < choice["chance"] < 1
    assert choice["reason"] and choice["plan_item_id"] is None


def test_the_next_question_follows_the_plan_until_its_goal_is_met(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    first = ada.post("/plan").get_json()["items"][0]
    choice = ada.get("/questions/next").get_json()
    assert (choice["plan_item_id"], choice["concept_id"]) == (first["id"], first["concept_id"])
    for _ in range(3):
        question = ada.get("/questions/next").get_json()["question"]["id"]
        ada.post("/attempts", json=attempt(question.replace("-", "")))
        device.clock.advance(60_000)
    then = ada.get("/questions/next").get_json()
    assert then["plan_item_id"] != first["id"]
    (done,) = (item for item in ada.get("/plan").get_json()["items"] if item["id"] == first["id"])
    assert (done["status"], done["by_answers"]) == ("done", True)


def test_an_item_that_is_done_is_not_asked_about_again(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    first = ada.post("/plan").get_json()["items"][0]
    ada.patch(f"/plan/items/{first['id']}", json={"status": "done"})
    assert ada.get("/questions/next").get_json()["plan_item_id"] != first["id"]


def test_without_any_question_nothing_is_asked(device: DeviceUnderTest) -> None:
    device.execute("UPDATE questions SET retired_at_ms = 1772618400000")
    choice = device.signed_in().get("/questions/next").get_json()
    assert {**choice, "left": []} == {
        "question": None,
        "concept_id": None,
        "chance": None,
        "reason": None,
        "purpose": None,
        "plan_item_id": None,
        "left": [],
    }
