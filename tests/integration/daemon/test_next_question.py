"""GET /v1/questions/next: for the plan or a chosen topic, never the same twice in a row, the same for equal state."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from domain.ids import Id, dashed
from domain.registry import PURPOSES
from tests.support.device import ADA, CONCEPTS, DeviceUnderTest, attempt, concept_id, question_id, topic_id

NAME = {dashed(concept_id(concept)): concept for concept in CONCEPTS}


def ask(device: DeviceUnderTest, topic: str | None = None) -> dict[str, Any]:
    query = {"topic_id": topic_id(topic)} if topic else {}
    choice: dict[str, Any] = device.signed_in().get("/questions/next", query_string=query).get_json()
    return choice


def answer(device: DeviceUnderTest, choice: dict[str, Any], *, correct: bool) -> str:
    question = str(choice["question"]["id"])
    device.signed_in().post("/attempts", json=attempt(Id(question.replace("-", "")), correct=correct, purpose=choice["purpose"]))
    device.clock.advance(20_000)
    return question


def test_equal_state_asks_the_same(device: DeviceUnderTest) -> None:
    assert ask(device) == ask(device)
    device.signed_in().post("/plan")
    assert ask(device) == ask(device)


def test_no_question_comes_twice_in_a_row_whatever_was_answered(device: DeviceUnderTest) -> None:
    device.signed_in().post("/plan")
    asked: list[str] = []
    while (choice := ask(device))["question"] is not None and len(asked) < 40:
        assert choice["purpose"] in PURPOSES
        asked.append(answer(device, choice, correct=len(asked) % 3 == 0))
    assert len(asked) > 10
    assert all(one != next_one for one, next_one in pairwise(asked))


def test_a_chosen_topic_is_asked_about_whatever_the_plan_says_and_whatever_should_come_before(device: DeviceUnderTest) -> None:
    device.signed_in().post("/plan")
    cold, hot = ask(device, "Cold work"), ask(device, "Hot work")
    assert NAME[cold["concept_id"]] in ("scoring", "snapping")
    assert NAME[hot["concept_id"]] in ("gathering", "blowing")
    assert {(c["purpose"], c["plan_item_id"]) for c in (cold, hot)} == {("free", None)}
    assert hot["reason"] == "chosen: what it rests on is not learnt yet"
    assert ask(device, "Glasswork")["concept_id"] is not None


def test_a_topic_of_which_everything_is_learnt_is_left_with_the_reason(device: DeviceUnderTest) -> None:
    for concept in ("scoring", "snapping"):
        device.signed_in().post("/attempts", json=[attempt(question_id(concept, n)) for n in range(3)])
        device.clock.advance(60_000)
    choice = ask(device, "Cold work")
    assert choice["question"] is None
    assert {(NAME[left["concept_id"]], left["reason"]) for left in choice["left"]} == {
        ("scoring", "goal: 3 right in a row"), ("snapping", "goal: 3 right in a row"),
    }  # fmt: skip


def test_an_unknown_topic_is_not_found(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    assert ada.get("/questions/next", query_string={"topic_id": ADA}).status_code == 404
    assert ada.get("/questions/next", query_string={"topic_id": "x"}).status_code == 422


def test_a_multiple_choice_is_never_less_likely_right_than_by_guessing(device: DeviceUnderTest) -> None:
    for n in range(30):
        device.signed_in().post("/attempts", json=attempt(question_id("scoring", n % 4), correct=False))
        device.clock.advance(24 * 3_600_000)
    assert ask(device, "Cold work")["chance"] >= 0.5  # two choices


def test_why_a_score_is_what_it_is(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    assert ada.get(f"/mastery/{concept_id('scoring')}").status_code == 404
    for correct in (True, False, True):
        ada.post("/attempts", json=attempt(question_id("scoring", 0), correct=correct))
        device.clock.advance(1000)
    why = ada.get(f"/mastery/{concept_id('scoring')}").get_json()
    (shown,) = ada.get("/mastery").get_json()["items"]
    assert why["score"] == shown["score"]
    assert round(why["start"] + sum(share["added"] for share in why["shares"]), 4) == why["score"]
    assert {share["part"]: share["reason"] for share in why["shares"]}["answers"] == "3 answers, 2 right"
