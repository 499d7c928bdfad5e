"""Refused operations taken in hand: by the administrator, who corrects and replays them, and by the device, which sends them again."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cloud_api.cli import main
from cloud_api.devices.enrolment import Grant
from daemon.queue import requeue
from daemon.records import NewAttempt, NewPlanItem
from domain.errors import InvalidInput, NotFound
from domain.ids import Id
from tests.integration.sync.test_poison_and_grants import _tamper
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite

REFUSED = 1
Cloud = Callable[..., Result]


@pytest.fixture
def cloud(fleet: Fleet) -> Cloud:
    """Runs `carrel-cloud dead-letters …` on the fleet's school, and checks its exit code."""

    def run(*arguments: str, exits: int = 0) -> Result:
        environ = {"DATABASE_URL": fleet.school.database.url}
        result = CliRunner().invoke(main, ["dead-letters", *arguments, "--school", fleet.school.id], env=environ)
        assert result.exit_code == exits, result.output
        return result

    return run


def letters(fleet: Fleet) -> list[tuple[Any, ...]]:
    return fleet.server("SELECT code, row_id FROM dead_letters ORDER BY seq")


def letter_id(fleet: Fleet) -> str:
    ((id_,),) = fleet.server("SELECT id FROM dead_letters")
    return str(id_)


def refused_attempt(fleet: Fleet, student: Id, device: SyncedDevice, **fields: Any) -> str:
    """Has the server refuse one attempt of two; returns its row."""
    device.records.record_attempts(student, fleet.attempts(2, confidence=3, answer="forty-two"))
    (row_id,) = _tamper(device, {0: fields})
    assert device.sync().rejected == 1
    return row_id


def settled(device: SyncedDevice) -> tuple[str, int]:
    """(state of sync, rejected operations) after a round."""
    device.sync()
    status = device.rounds.status()
    return status.state, status.rejected


def test_letters_are_listed_by_reason_device_and_table_and_shown_whole(fleet: Fleet, ada: Id, laptop: SyncedDevice, cloud: Cloud) -> None:
    row_id = refused_attempt(fleet, ada, laptop, confidence=9)
    listed = json.loads(cloud("list", "--json").output)
    assert (listed["count"], listed["items"][0]["row_id"], listed["items"][0]["payload"]["answer"]) == (1, row_id, "forty-two")
    for chosen, count in (
        (["--code", "invalid_value", "--device", laptop.id, "--table", "question_attempts"], 1),
        (["--code", "immutable"], 0),
        (["--device", ada], 0),
        (["--table", "study_plans"], 0),
    ):
        assert json.loads(cloud("list", "--json", *chosen).output)["count"] == count
    assert "confidence must lie between 1 and 4 (invalid_value)" in cloud("list").output
    assert 'payload: {"student_id"' in cloud("show", listed["items"][0]["id"]).output
    cloud("show", "f" * 32, exits=NotFound.exit_code)
    cloud("show", "x", exits=NotFound.exit_code)


def test_a_corrected_attempt_is_taken_reaches_every_device_and_clears_the_writers_status(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice, cloud: Cloud
) -> None:
    row_id = refused_attempt(fleet, ada, laptop, confidence=9)
    assert settled(laptop) == ("rejected", 1)
    assert "applied" in cloud("fix", letter_id(fleet), "--set", "confidence=4").output
    assert letters(fleet) == []
    assert settled(laptop) == ("synced", 0)
    tablet.sync()
    for device in (laptop, tablet):
        assert device.value("SELECT confidence FROM question_attempts WHERE id = ?", row_id) == 4
        assert device.synced_rows("question_attempts") == as_sqlite(fleet.server_rows("question_attempts"))
    assert [a[0] for a in fleet.server("SELECT action FROM audit_log WHERE action LIKE 'dead%%'")] == ["dead_letter.fixed"]
    assert "forty-two" not in str(fleet.server("SELECT detail FROM audit_log"))


def test_a_correction_that_does_not_suffice_keeps_the_letter_with_the_reason_that_is_left(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, cloud: Cloud
) -> None:
    refused_attempt(fleet, ada, laptop, confidence=9, question_id="e" * 32)
    assert "unknown_reference" in cloud("fix", letter_id(fleet), "--set", "confidence=4", exits=REFUSED).output
    assert [code for code, _ in letters(fleet)] == ["unknown_reference"]
    cloud("fix", letter_id(fleet), "--set", f"question_id={fleet.questions[0]}", "--null", "active_ms", "--set", "answer=x=y")
    assert fleet.server("SELECT answer FROM question_attempts WHERE confidence = 4") == [("x=y",)]


def test_a_letter_is_corrected_only_within_the_registry(fleet: Fleet, ada: Id, laptop: SyncedDevice, cloud: Cloud) -> None:
    refused_attempt(fleet, ada, laptop, confidence=9)
    before = fleet.server("SELECT payload::text, code FROM dead_letters")
    for repair in (
        ["--set", "confidence=9"],
        ["--set", "confidence=many"],
        ["--set", "correct=perhaps"],
        ["--set", "corrected_at_ms=1700000000000"],
        ["--set", "id=" + "f" * 32],
        ["--set", "mood=good"],
        ["--set", "confidence"],
        ["--null", "correct"],
        ["--drop", "mood"],
        [],
    ):
        cloud("fix", letter_id(fleet), *repair, exits=InvalidInput.exit_code)
    assert fleet.server("SELECT payload::text, code FROM dead_letters") == before
    assert len(fleet.server_rows("question_attempts")) == 1


def test_a_field_that_devices_may_not_send_is_dropped(fleet: Fleet, ada: Id, laptop: SyncedDevice, cloud: Cloud) -> None:
    refused_attempt(fleet, ada, laptop, corrected_at_ms=1_700_000_000_000)
    cloud("fix", letter_id(fleet), "--drop", "corrected_at_ms")
    assert len(fleet.server_rows("question_attempts")) == 2


def test_a_replay_goes_by_the_administrators_right_and_not_by_the_devices_grants(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice, cloud: Cloud
) -> None:
    fleet.server("UPDATE device_grants SET ended_at_ms = 1 WHERE device_id = %s", laptop.id)
    laptop.records.record_attempts(ada, fleet.attempts(1))
    laptop.sync()
    assert [code for code, _ in letters(fleet)] == ["not_granted"]
    assert "applied" in cloud("replay", letter_id(fleet)).output
    assert letters(fleet) == []
    tablet.sync()
    assert len(tablet.synced_rows("question_attempts")) == 1


def test_a_replay_that_is_refused_again_keeps_the_letter_whole(fleet: Fleet, ada: Id, laptop: SyncedDevice, cloud: Cloud) -> None:
    refused_attempt(fleet, ada, laptop, confidence=9)
    kept = "SELECT id, device_id, incarnation, seq, row_id, kind, schema_version, hlc, wall_ms, payload::text, code, received_at_ms FROM dead_letters"
    before = fleet.server(kept)
    cloud("replay", letter_id(fleet), exits=REFUSED)
    ((*_, payload, _, _),), ((*_, before_payload, _, _),) = fleet.server(kept), before
    assert json.loads(payload) == json.loads(before_payload)
    assert [row[:9] + row[10:] for row in fleet.server(kept)] == [row[:9] + row[10:] for row in before]
    assert settled(laptop) == ("rejected", 1)


def test_all_letters_of_one_reason_are_replayed_in_the_order_in_which_they_build_on_each_other(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, cloud: Cloud
) -> None:
    concept = fleet.school.ids.new()
    items = [NewPlanItem(c, "2026-12-01", "new", 8, "first") for c in (fleet.concepts[0], concept)]
    laptop.records.add_plan(ada, {"starts_on": "2026-12-01", "days": 7, "planner_version": "test", "forecast": None}, items)
    laptop.records.update_plan_item(ada, laptop.value("SELECT id FROM study_plan_items WHERE position = 0"), {"status": "done"})
    _tamper(laptop, {0: {"days": 9_999}})
    assert laptop.sync().rejected == 4
    assert [code for code, _ in letters(fleet)] == ["invalid_value", *["depends_on"] * 3]
    plan = fleet.server("SELECT id FROM dead_letters WHERE code = 'invalid_value'")[0][0]
    cloud("fix", plan, "--set", "days=9")
    assert "2 taken, 1 refused again" in cloud("replay", "--all", "--code", "depends_on", exits=REFUSED).output
    assert [code for code, _ in letters(fleet)] == ["unknown_reference"]
    assert fleet.server("SELECT status FROM study_plan_items") == [("done",)]
    assert "0 taken, 1 refused again" in cloud("replay", "--all", exits=REFUSED).output
    assert settled(laptop) == ("rejected", 1)
    assert laptop.value("SELECT days FROM study_plans") == 9


def test_a_replayed_change_of_a_profile_clears_the_writers_status_also_when_it_lost(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice, cloud: Cloud
) -> None:
    for later in (False, True):
        laptop.records.update_profile(ada, {"grade": "7" if later else "6", "available_minutes": [20] * 7})
        _tamper(laptop, {0: {"exam_on": "tomorrow"}})
        assert laptop.sync().rejected == 1
        if later:
            tablet.sync()
            tablet.records.update_profile(ada, {"grade": "8"})
            tablet.sync()
        cloud("fix", letter_id(fleet), "--drop", "exam_on")
        assert settled(laptop) == ("synced", 0)
    assert fleet.server("SELECT grade FROM student_profiles") == [("8",)]
    assert ("7",) in fleet.server("SELECT lost_value FROM sync_conflicts")


def test_LOSER_KEPT_a_replayed_change_keeps_what_it_overwrites(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice, cloud: Cloud
) -> None:
    tablet.records.update_profile(ada, {"grade": "7"})
    tablet.sync()
    laptop.records.update_profile(ada, {"grade": "8"})
    _tamper(laptop, {0: {"grade": 8}})
    laptop.sync()
    cloud("fix", letter_id(fleet), "--set", "grade=8")
    assert fleet.server("SELECT grade FROM student_profiles") == [("8",)]
    assert fleet.server("SELECT lost_value FROM sync_conflicts") == [("7",)]


def test_another_devices_answer_under_the_same_id_does_not_settle_a_refused_one(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice, cloud: Cloud
) -> None:
    row_id = fleet.school.ids.new()
    laptop.records.record_attempts(ada, [NewAttempt(fleet.questions[0], True, "free", id=row_id)])
    tablet.records.record_attempts(ada, [NewAttempt(fleet.questions[0], False, "free", id=row_id)])
    laptop.sync()
    tablet.sync()
    assert settled(tablet) == ("rejected", 1)
    cloud("replay", "--all", exits=REFUSED)
    assert settled(tablet) == ("rejected", 1)
    assert tablet.value("SELECT correct FROM question_attempts") == 1  # the school's


def test_the_time_of_a_replayed_answer_is_corrected_as_it_would_have_been(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, cloud: Cloud
) -> None:
    laptop.clock.ahead_ms = -3_600_000
    row_id = refused_attempt(fleet, ada, laptop, confidence=9)
    cloud("fix", letter_id(fleet), "--set", "confidence=1")
    answered, corrected = fleet.server("SELECT answered_at_ms, corrected_at_ms FROM question_attempts WHERE id = %s", row_id)[0]
    assert 3_500_000 < corrected - answered < 3_700_000


def test_a_void_cannot_be_replayed_because_what_it_held_is_on_the_device(fleet: Fleet, ada: Id, laptop: SyncedDevice, cloud: Cloud) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(1))
    laptop.change("UPDATE sync_operations SET code = 'set_aside'")
    laptop.sync()
    assert "set_aside" in cloud("replay", letter_id(fleet), exits=REFUSED).output


def test_letters_are_written_to_a_file_whole(fleet: Fleet, ada: Id, laptop: SyncedDevice, cloud: Cloud, tmp_path: Path) -> None:
    refused_attempt(fleet, ada, laptop, confidence=9)
    file = tmp_path / "letters.jsonl"
    cloud("export", str(file))
    (letter,) = map(json.loads, file.read_text().splitlines())
    assert (letter["payload"]["answer"], letter["code"]) == ("forty-two", "invalid_value")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    cloud("export", str(file), exits=1)


def test_a_replay_needs_to_know_which_letters(fleet: Fleet, cloud: Cloud) -> None:
    for arguments in ([], ["f" * 32, "--all"], ["f" * 32, "--code", "immutable"]):
        cloud("replay", *arguments, exits=InvalidInput.exit_code)


# --- by the device


def retry(device: SyncedDevice) -> int:
    return len(device.database.write(lambda conn: requeue.retry(conn, None, device.clock.now_ms())).op_nos)


def test_what_was_refused_for_want_of_a_grant_is_taken_when_it_is_sent_again_and_its_letter_is_gone(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    fleet.server("UPDATE device_grants SET ended_at_ms = 1 WHERE device_id = %s", laptop.id)
    laptop.records.record_attempts(ada, fleet.attempts(2))
    laptop.records.update_profile(ada, {"grade": "7"})
    assert laptop.sync().rejected == 3
    assert retry(laptop) == 3
    assert laptop.sync().rejected == 3
    assert len(letters(fleet)) == 3
    fleet.server("UPDATE device_grants SET ended_at_ms = NULL WHERE device_id = %s", laptop.id)
    assert retry(laptop) == 3
    assert settled(laptop) == ("synced", 0)
    assert letters(fleet) == []
    assert len(fleet.server_rows("question_attempts")) == 2
    assert fleet.server("SELECT grade FROM student_profiles") == [("7",)]


def test_a_log_with_retried_operations_is_sent_again_without_a_gap(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    fleet.server("UPDATE device_grants SET ended_at_ms = 1 WHERE device_id = %s", laptop.id)
    laptop.records.record_attempts(ada, fleet.attempts(3))
    laptop.sync()
    fleet.server("UPDATE device_grants SET ended_at_ms = NULL WHERE device_id = %s", laptop.id)
    retry(laptop)
    laptop.sync()
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")
    laptop.sync()
    assert settled(laptop) == ("synced", 0)
    assert len(fleet.server_rows("question_attempts")) == 3


def test_a_letter_of_another_device_is_not_forgotten_with_ones_own(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    other = fleet.device(Grant("student", ada))
    other.sync()
    row_id = fleet.school.ids.new()
    for device, answer in ((laptop, "one"), (other, "two")):
        device.records.record_attempts(ada, [NewAttempt(fleet.questions[0], True, "free", answer=answer, id=row_id)])
        device.sync()
    laptop.records.record_attempts(ada, fleet.attempts(1))
    laptop.sync()
    assert [code for code, _ in letters(fleet)] == ["immutable"]
