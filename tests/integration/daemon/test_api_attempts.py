"""POST and GET /v1/attempts: what is recorded, what is refused, and that nothing is lost or written twice."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from domain.ids import dashed, derived_id
from tests.support.device import ADA, BEN, HOUR_MS, QUESTIONS, START_MS, DeviceUnderTest, attempt

ATTEMPT_ID = derived_id("attempt", "1")


def count(device: DeviceUnderTest) -> tuple[int, int]:
    """Attempts and operations stored."""
    return device.rows("SELECT (SELECT count(*) FROM question_attempts), (SELECT count(*) FROM sync_operations)")[0]


def test_an_answer_is_stored_with_its_operation(device: DeviceUnderTest) -> None:
    answer = device.signed_in().post("/attempts", json=attempt(answer="yes", confidence=4, active_ms=900, purpose="quiz"))
    assert answer.status_code == 201
    body = answer.get_json()
    assert body == {"id": body["id"], "answered_at_ms": START_MS, "created": True}
    stored = device.rows(
        "SELECT student_id, question_id, answer, correct, answered_at_ms, active_ms, confidence, purpose FROM question_attempts"
    )
    assert stored == [(ADA, QUESTIONS[0], "yes", 1, START_MS, 900, 4, "quiz")]
    assert device.rows("SELECT row_id FROM sync_operations") == [(body["id"].replace("-", ""),)]
    assert len(device.on_operation_calls) == 1


def test_the_same_attempt_sent_again_is_answered_but_not_stored_twice(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    first = ada.post("/attempts", json=attempt(id=ATTEMPT_ID, answered_at_ms=START_MS - HOUR_MS))
    again = ada.post("/attempts", json=attempt(dashed(QUESTIONS[0]), id=dashed(ATTEMPT_ID).upper(), answered_at_ms=START_MS - HOUR_MS))
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.get_json() == {"id": dashed(ATTEMPT_ID), "answered_at_ms": START_MS - HOUR_MS, "created": False}
    assert count(device) == (1, 1)


def test_the_same_id_with_other_content_is_refused(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    ada.post("/attempts", json=attempt(id=ATTEMPT_ID))
    other = ada.post("/attempts", json=attempt(id=ATTEMPT_ID, correct=False))
    assert (other.status_code, other.get_json()["code"]) == (409, "immutable")
    assert device.signed_in(BEN).post("/attempts", json=attempt(id=ATTEMPT_ID)).status_code == 409
    assert count(device) == (1, 1)


def test_a_time_in_the_future_becomes_that_of_the_recording_and_may_be_sent_again(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    body = attempt(id=ATTEMPT_ID, answered_at_ms=START_MS + 1_000 * 24 * HOUR_MS)
    assert ada.post("/attempts", json=body).get_json()["answered_at_ms"] == START_MS
    device.clock.advance(60_000)
    again = ada.post("/attempts", json=body)
    assert (again.status_code, again.get_json()["answered_at_ms"]) == (200, START_MS)
    earlier = ada.post("/attempts", json={**body, "answered_at_ms": START_MS - HOUR_MS})
    assert (earlier.status_code, earlier.get_json()["code"]) == (409, "immutable")
    assert count(device) == (1, 1)


def test_a_refusal_for_an_id_says_which_attempt_of_a_batch_it_was(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    ada.post("/attempts", json=attempt(id=ATTEMPT_ID))
    problem = ada.post("/attempts", json=[attempt(), attempt(id=ATTEMPT_ID, correct=False)]).get_json()
    assert [error["path"] for error in problem["errors"]] == ["$[1]"]
    assert count(device) == (1, 1)


@pytest.mark.parametrize("wrap", [lambda a: {"attempts": a}, lambda a: a], ids=["object", "list"])
def test_many_answers_are_recorded_in_order(device: DeviceUnderTest, wrap: Any) -> None:
    ada = device.signed_in()
    ada.post("/attempts", json=attempt(id=ATTEMPT_ID))
    answer = ada.post("/attempts", json=wrap([attempt(QUESTIONS[1]), attempt(id=ATTEMPT_ID)]))
    assert answer.status_code == 201
    assert [a["created"] for a in answer.get_json()["attempts"]] == [True, False]
    assert count(device) == (2, 2)


def test_500_answers_fit_into_one_request_and_501_do_not(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    refused = ada.post("/attempts", json=[attempt()] * 501)
    assert (refused.status_code, count(device)) == (422, (0, 0))
    assert ada.post("/attempts", json=[attempt()] * 500).status_code == 201
    assert count(device) == (500, 500)


def test_one_bad_answer_among_many_stops_all_and_is_named(device: DeviceUnderTest) -> None:
    refused = device.signed_in().post("/attempts", json={"attempts": [attempt(), attempt(derived_id("no such question"))]})
    assert refused.status_code == 422
    assert [(e["path"], e["code"]) for e in refused.get_json()["errors"]] == [("$.attempts[1].question_id", "unknown_question")]
    assert count(device) == (0, 0)


def test_all_that_is_wrong_is_reported_together(device: DeviceUnderTest) -> None:
    body = {"question_id": 5, "confidence": 9, "purpose": "exam", "answered_at_ms": 1, "mood": "good"}
    errors = device.signed_in().post("/attempts", json=body).get_json()["errors"]
    assert {(e["path"], e["code"]) for e in errors} == {
        ("$.question_id", "wrong_type"),
        ("$.correct", "missing_field"),
        ("$.confidence", "invalid_value"),
        ("$.purpose", "invalid_value"),
        ("$.answered_at_ms", "invalid_value"),
        ("$.mood", "unknown_field"),
    }


GOOD = json.dumps(attempt())
BAD_BODIES = {
    "wrong type": ('{"question_id": "%s", "correct": "true"}', 422, "$.correct", "wrong_type"),
    "number for a truth": ('{"question_id": "%s", "correct": 1}', 422, "$.correct", "wrong_type"),
    "no uuid": ('{"question_id": "%s0", "correct": true}', 422, "$.question_id", "invalid_value"),
    "null where it must be": ('{"question_id": null, "correct": true}', 422, "$.question_id", "wrong_type"),
    "unknown field": ('{"question_id": "%s", "correct": true, "x": 1}', 422, "$.x", "unknown_field"),
    "student in the body": ('{"question_id": "%s", "correct": true, "student_id": "%s"}', 422, "$.student_id", "unknown_field"),
    "out of range": ('{"question_id": "%s", "correct": true, "active_ms": -1}', 422, "$.active_ms", "invalid_value"),
    "beyond 64 bits": ('{"question_id": "%s", "correct": true, "active_ms": 99999999999999999999}', 422, "$.active_ms", "invalid_value"),
    "thousands of digits": ('{"question_id": "%s", "correct": true, "active_ms": ' + "9" * 5000 + "}", 400, "$", "malformed_json"),
    "fraction": ('{"question_id": "%s", "correct": true, "active_ms": 1.5}', 422, "$.active_ms", "wrong_type"),
    "long text": ('{"question_id": "%s", "correct": true, "answer": "' + "a" * 4001 + '"}', 422, "$.answer", "invalid_value"),
    "NUL": ('{"question_id": "%s", "correct": true, "answer": "a\\u0000"}', 422, "$.answer", "invalid_value"),
    "lone surrogate": ('{"question_id": "%s", "correct": true, "answer": "\\ud800"}', 400, "$", "malformed_json"),
    "NaN": ('{"question_id": "%s", "correct": true, "active_ms": NaN}', 400, "$", "malformed_json"),
    "repeated name": ('{"question_id": "%s", "correct": true, "correct": false}', 422, "$.correct", "repeated_field"),
    "deep nesting": ("[" * 50_000 + "]" * 50_000, 400, "$", "malformed_json"),
    "deep nesting inside": ('{"question_id": "%s", "correct": ' + "[" * 50_000, 400, "$", "malformed_json"),
    "cut short": ('{"question_id": "%s", "correct": tr', 400, "$", "malformed_json"),
    "trailing text": ('{"question_id": "%s", "correct": true} x', 400, "$", "malformed_json"),
    "byte order mark": ("\ufeff" + GOOD, 400, "$", "malformed_json"),
    "empty": ("", 400, "$", "malformed_json"),
    "blank": ("  ", 400, "$", "malformed_json"),
    "null": ("null", 422, "$", "wrong_type"),
    "text": ('"answers"', 422, "$", "wrong_type"),
    "empty list": ("[]", 422, "$", "invalid_value"),
    "list of numbers": ("[1]", 422, "$[0]", "wrong_type"),
    "attempts of the wrong type": ('{"attempts": 5}', 422, "$.attempts", "wrong_type"),
    "one and many": ('{"attempts": [], "question_id": "%s", "correct": true}', 422, "$.question_id", "unknown_field"),
}


@pytest.mark.parametrize("name", BAD_BODIES)
def test_a_bad_body_is_refused_plainly_and_nothing_is_written(device: DeviceUnderTest, name: str) -> None:
    text, status, path, code = BAD_BODIES[name]
    body = text.replace("%s", QUESTIONS[0]).encode()
    refused = device.signed_in().post("/attempts", data=body, content_type="application/json")
    assert (refused.status_code, refused.content_type) == (status, "application/problem+json")
    assert (path, code) in [(e["path"], e["code"]) for e in refused.get_json()["errors"]]
    assert count(device) == (0, 0)


def test_bytes_that_are_no_utf_8_are_refused(device: DeviceUnderTest) -> None:
    for body in (GOOD.encode("utf-16"), b'{"question_id": "\xff"}'):
        refused = device.signed_in().post("/attempts", data=body, content_type="application/json")
        assert (refused.status_code, refused.get_json()["code"]) == (400, "malformed_json")


def test_a_body_over_the_limit_is_refused(device: DeviceUnderTest) -> None:
    body = json.dumps(attempt(answer="a" * 1_000_000))
    refused = device.signed_in().post("/attempts", data=body, content_type="application/json")
    assert (refused.status_code, refused.get_json()["code"], count(device)) == (413, "body_too_large", (0, 0))


def test_values_sent_are_never_repeated_in_a_refusal(device: DeviceUnderTest) -> None:
    secret = "the-childs-own-words"
    refused = device.signed_in().post(
        "/attempts", json={"question_id": secret, "correct": secret, "purpose": secret, "answer": secret * 400}
    )
    assert refused.status_code == 422
    assert secret not in refused.get_data(as_text=True)


def test_answers_are_listed_newest_first_a_page_at_a_time(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    times = [START_MS - n * HOUR_MS for n in (5, 1, 3, 3, 2)]
    ada.post("/attempts", json=[attempt(answered_at_ms=t) for t in times])
    device.signed_in(BEN).post("/attempts", json=attempt())
    seen, cursor = [], ""
    while cursor is not None:
        page = ada.get(f"/attempts?limit=2{cursor and '&cursor=' + cursor}").get_json()
        assert len(page["items"]) <= 2
        seen += page["items"]
        cursor = page["next_cursor"]
    assert [a["answered_at_ms"] for a in seen] == sorted(times, reverse=True)
    assert len({a["id"] for a in seen}) == len(times)


@pytest.mark.parametrize(
    "cursor", ["x", "1.x", f"x.{ATTEMPT_ID}", f"-1.{ATTEMPT_ID}", f"{10**30}.{ATTEMPT_ID}", "٣." + ATTEMPT_ID, "a" * 101]
)
def test_a_cursor_that_was_not_given_is_refused(device: DeviceUnderTest, cursor: str) -> None:
    refused = device.signed_in().get("/attempts", query_string={"cursor": cursor})
    assert (refused.status_code, refused.get_json()["errors"][0]["path"]) == (422, "query.cursor")


def test_sixteen_writers_at_once_lose_nothing(device: DeviceUnderTest) -> None:
    clients = [device.signed_in((ADA, BEN)[n % 2]) for n in range(16)]

    def write(n: int) -> list[str]:
        answers = [clients[n].post("/attempts", json=attempt(QUESTIONS[k % len(QUESTIONS)])) for k in range(10)]
        return [a.get_json()["id"].replace("-", "") for a in answers if a.status_code == 201]

    with ThreadPoolExecutor(16) as pool:
        acknowledged = [id_ for ids in pool.map(write, range(16)) for id_ in ids]
    assert len(set(acknowledged)) == 160
    assert {row[0] for row in device.rows("SELECT id FROM question_attempts")} == set(acknowledged)
    assert {row[0] for row in device.rows("SELECT row_id FROM sync_operations")} == set(acknowledged)
