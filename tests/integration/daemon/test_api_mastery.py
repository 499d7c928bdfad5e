"""GET /v1/mastery: the cache is never older than the answers behind it."""

from __future__ import annotations

from typing import NoReturn

import pytest

from daemon.access.sessions import NOTE_USE_AFTER_MS
from daemon.learning.mastery import AGE_MAX_MS, refresh_stale
from domain.errors import StorageFull
from domain.ids import dashed, derived_id
from domain.learning.mastery import FoldedAttempt, Rates, fold, mastery_rows
from tests.support.device import ADA, BEN, DAY_MS, DEVICE_ID, HOUR_MS, START_MS, DeviceUnderTest, attempt, concept_id, question_id

QUESTION = question_id("scoring", 0)


def expected(now_ms: int, *attempts: tuple[int, bool]) -> list[tuple[str, float, str, int]]:
    """Concept, score, level and answers after attempts (time, correct) at one question, straight from the model."""
    concepts = (concept_id("scoring"),)
    folded = [FoldedAttempt(derived_id("a", str(n)), t, DEVICE_ID, QUESTION, concepts, right) for n, (t, right) in enumerate(attempts)]
    return [(dashed(r.concept_id), r.score, r.level.value, r.attempts) for r in mastery_rows(fold(folded, Rates.empty()), now_ms)]


def shown(device: DeviceUnderTest) -> list[tuple[str, float, str, int]]:
    items = device.signed_in().get("/mastery").get_json()["items"]
    return [(i["concept_id"], i["score"], i["level"], i["attempts"]) for i in items]


def test_mastery_is_the_models_after_every_answer(device: DeviceUnderTest) -> None:
    ada, times = device.signed_in(), list[tuple[int, bool]]()
    for correct in (True, False, True, True):
        device.clock.advance(HOUR_MS)
        ada = device.signed_in()
        ada.post("/attempts", json=attempt(QUESTION, correct=correct))
        times.append((device.clock.now_ms(), correct))
        assert shown(device) == expected(device.clock.now_ms(), *times)


def test_without_answers_there_is_nothing_to_show(device: DeviceUnderTest) -> None:
    assert shown(device) == []


def test_answers_that_come_down_from_the_school_count(device: DeviceUnderTest) -> None:
    shown(device)
    device.execute(
        "INSERT INTO question_attempts (id, student_id, question_id, correct, answered_at_ms, purpose, device_id, feed_no)"
        " VALUES (?, ?, ?, 1, ?, 'free', ?, 7)",
        *(derived_id("other"), ADA, QUESTION, START_MS - DAY_MS, derived_id("desk 2")),
    )
    device.execute("INSERT INTO mastery_stale (student_id) VALUES (?)", ADA)
    assert shown(device) == expected(START_MS, (START_MS - DAY_MS, True))


def test_a_corrected_time_is_the_one_that_counts(device: DeviceUnderTest) -> None:
    device.signed_in().post("/attempts", json=attempt(QUESTION))
    device.execute("UPDATE question_attempts SET corrected_at_ms = ?", START_MS - DAY_MS)
    assert shown(device) == expected(START_MS, (START_MS - DAY_MS, True))


def test_an_answer_to_a_question_that_is_not_here_yet_counts_for_no_concept(device: DeviceUnderTest) -> None:
    device.signed_in().post("/attempts", json=attempt(QUESTION))
    device.execute("DELETE FROM questions WHERE id = ?", QUESTION)
    assert shown(device) == []


def test_scores_fall_as_time_passes(device: DeviceUnderTest) -> None:
    device.signed_in().post("/attempts", json=attempt(QUESTION))
    fresh = shown(device)[0][1]
    device.clock.advance(AGE_MAX_MS + 1)
    assert shown(device) == expected(device.clock.now_ms(), (START_MS, True))
    assert shown(device)[0][1] < fresh


def test_a_fresh_cache_is_read_and_not_computed_again(device: DeviceUnderTest) -> None:
    device.signed_in().post("/attempts", json=attempt(QUESTION))
    shown(device)
    device.clock.advance(AGE_MAX_MS)
    shown(device)
    assert device.rows("SELECT computed_at_ms FROM concept_mastery") == [(START_MS,)]


def test_the_scheduled_refresh_takes_every_stale_student_and_leaves_the_others(device: DeviceUnderTest) -> None:
    for student in (ADA, BEN):
        device.signed_in(student).post("/attempts", json=attempt(QUESTION))
    assert refresh_stale(device.database, device.clock) == 2
    assert refresh_stale(device.database, device.clock) == 0
    assert device.rows("SELECT student_id FROM concept_mastery ORDER BY 1") == sorted([(ADA,), (BEN,)])


def test_a_full_disk_does_not_stop_reading(device: DeviceUnderTest, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = device.signed_in()
    ada.post("/attempts", json=attempt(QUESTION))
    before = shown(device)
    device.clock.advance(2 * DAY_MS)
    ada = device.signed_in()
    device.clock.advance(2 * NOTE_USE_AFTER_MS)  # the cache is old now, and the session's last use is to be written down

    def full(_: object) -> NoReturn:
        raise StorageFull()

    monkeypatch.setattr(device.database, "write", full)
    assert ada.get("/mastery").get_json()["items"][0]["score"] == before[0][1]
    refused = ada.post("/attempts", json=attempt(QUESTION))
    assert (refused.status_code, refused.get_json()["code"]) == (507, "storage_full")
