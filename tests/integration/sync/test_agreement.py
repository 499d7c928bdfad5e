"""Device and school are compared: every kind of difference is found, and put right by fetching the rows that differ and no others."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from cloud_api.devices.enrolment import Grant
from cloud_api.publication import Publication
from daemon.records import NewPlanItem
from daemon.sync import verify as verify_module
from daemon.sync.verify import Verified, Verifier
from daemon.sync.verify_report import FILE_NAME
from daemon.sync.verify_round import VerifyRound
from domain import agreement
from domain.agreement import Result
from domain.ids import Id
from domain.wire import VerifyAnswer, VerifyRequest
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite

OTHER = "0" * 31 + "f"


class Verifying:
    """A device's verification, with a list of the rows that it asked for again."""

    def __init__(self, device: SyncedDevice) -> None:
        self.device = device
        self.fetched: list[str] = []
        self.before_answer: Callable[[VerifyRequest], None] = lambda request: None
        self._ask = device.gateway.verify
        device.gateway.verify = self._verify  # type: ignore[method-assign]
        verifier = Verifier(device.database, device.identity, device.clock)
        self.round = VerifyRound(device.rounds, verifier, device.database, device.clock)

    def __call__(self, *, content: bool = False) -> Verified:
        self.fetched.clear()
        return self.round.run(content=content)

    def _verify(self, token: str, request: VerifyRequest) -> VerifyAnswer:
        self.before_answer(request)
        self.fetched += request.ids
        return self._ask(token, request)

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.device.database.path.parent / FILE_NAME).read_text())
        return found


@pytest.fixture
def verifying(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> Verifying:
    """Ada's laptop with answers of its own and of another device, a profile and a plan; everything synced."""
    other = fleet.device(Grant("student", ada))
    other.sync()
    other.records.record_attempts(ada, fleet.attempts(20))
    other.sync()
    laptop.records.record_attempts(ada, fleet.attempts(30))
    laptop.records.update_profile(ada, {"grade": "7", "available_minutes": [30] * 7})
    item = NewPlanItem(Id(fleet.concepts[0]), "2026-12-01", "new", 20, "because")
    plan = {"starts_on": "2026-12-01", "days": 7, "planner_version": "test", "forecast": {"mastered": 0.5, "days": [1, 2]}}
    laptop.records.add_plan(ada, plan, [item])
    assert laptop.sync().outcome == "done"
    return Verifying(laptop)


def same_everywhere(fleet: Fleet, device: SyncedDevice) -> bool:
    tables = ("users", "topics", "concepts", "questions", "question_attempts", "study_plans")
    return all(_plain(device.synced_rows(t)) == _plain(as_sqlite(fleet.server_rows(t))) for t in tables)


def _plain(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """JSON columns parsed, whether they are text or not."""
    return [tuple(json.loads(v) if isinstance(v, str) and v[:1] in "[{" else v for v in row) for row in rows]


@pytest.mark.parametrize("content", [False, True])
def test_what_was_synced_matches_and_costs_one_request(verifying: Verifying, content: bool) -> None:
    asked: list[VerifyRequest] = []
    verifying.before_answer = asked.append
    verified = verifying(content=content)
    assert (verified.result, verified.differed, verified.repaired) == (Result.MATCH, 0, 0)
    assert len(asked) == 1
    assert verified.places == len(asked[0].places) > 8


@pytest.mark.parametrize("content", [False, True])
def test_a_row_that_is_missing_here_is_fetched(fleet: Fleet, verifying: Verifying, content: bool) -> None:
    question, attempt = fleet.questions[3], verifying.device.value("SELECT id FROM question_attempts ORDER BY id LIMIT 1")
    verifying.device.change("DELETE FROM questions WHERE id = ?", question)
    verifying.device.change("DELETE FROM question_attempts WHERE id = ?", attempt)
    verified = verifying(content=content)
    assert (verified.result, verified.differed, verified.repaired) == (Result.REPAIRED, 2, 2)
    assert sorted(verifying.fetched) == sorted([question, attempt])
    assert same_everywhere(fleet, verifying.device)
    assert verifying().result is Result.MATCH


def test_a_row_that_the_school_does_not_have_goes_and_stays_in_the_report(fleet: Fleet, verifying: Verifying) -> None:
    device = verifying.device
    device.change("INSERT INTO topics (id, title, level, position, feed_no) VALUES (?, 'from nowhere', 'lesson', 9, 2)", OTHER)
    verified = verifying()
    assert (verified.result, verified.repaired) == (Result.REPAIRED, 1)
    assert verifying.fetched == [OTHER]
    assert same_everywhere(fleet, device)
    (row,) = verifying.report["rows"]
    assert (row["device"]["title"], row["server"]) == ("from nowhere", None)
    assert (device.database.path.parent / FILE_NAME).stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("feed_no", [1, 10_000])
def test_a_version_that_is_not_the_schools_is_replaced_whichever_number_it_has(fleet: Fleet, verifying: Verifying, feed_no: int) -> None:
    question = fleet.questions[5]
    verifying.device.change("UPDATE questions SET stem = 'stale', feed_no = ? WHERE id = ?", feed_no, question)
    verified = verifying()
    assert (verified.result, verified.repaired) == (Result.REPAIRED, 1)
    assert verifying.fetched == [question]
    assert same_everywhere(fleet, verifying.device)
    (row,) = verifying.report["rows"]
    assert (row["device"]["stem"], row["server"]["stem"]) == ("stale", "Question 8?")


CHANGES = {
    "questions": "UPDATE questions SET answers = '[\"no\"]' WHERE id = (SELECT min(id) FROM questions)",
    "question_attempts": "UPDATE question_attempts SET correct = 1 - correct WHERE id = (SELECT max(id) FROM question_attempts)",
    "topics": "UPDATE topics SET weightage = 12.5",
    "student_profiles": "UPDATE student_profiles SET available_minutes = '[1,1,1,1,1,1,1]'",
    "study_plans": "UPDATE study_plans SET forecast = '{\"mastered\": 0.25}'",
    "study_plan_items": "UPDATE study_plan_items SET minutes = 21",
}


def test_changed_content_is_found_only_when_contents_are_compared(fleet: Fleet, verifying: Verifying) -> None:
    device = verifying.device
    before = {table: _plain(device.synced_rows(table)) for table in CHANGES}
    for table, change in CHANGES.items():
        device.change(change)
        assert _plain(device.synced_rows(table)) != before[table]
    assert verifying().result is Result.MATCH
    verified = verifying(content=True)
    assert (verified.result, verified.differed, verified.repaired) == (Result.REPAIRED, len(CHANGES), len(CHANGES))
    assert len(verifying.fetched) == len(CHANGES)
    assert {table: _plain(device.synced_rows(table)) for table in CHANGES} == before


def test_content_that_changed_on_the_server_behind_its_feed_is_taken_over(fleet: Fleet, verifying: Verifying) -> None:
    fleet.server("UPDATE questions SET stem = 'corrected by hand' WHERE id = %s", fleet.questions[0])
    assert verifying().result is Result.MATCH
    assert verifying(content=True).result is Result.REPAIRED
    assert verifying.device.value("SELECT stem FROM questions WHERE id = ?", fleet.questions[0]) == "corrected by hand"


def test_a_version_that_changed_on_the_server_behind_its_feed_is_taken_over(fleet: Fleet, verifying: Verifying) -> None:
    fleet.server("UPDATE questions SET stem = 'older', feed_no = 1 WHERE id = %s", fleet.questions[0])
    verified = verifying()
    assert (verified.result, verified.repaired) == (Result.REPAIRED, 1)
    assert same_everywhere(fleet, verifying.device)


def test_a_row_that_vanished_from_the_server_goes_where_it_is_the_schools_word(fleet: Fleet, verifying: Verifying) -> None:
    fleet.server(
        "DELETE FROM questions WHERE id = (SELECT q.id FROM questions q WHERE NOT EXISTS"
        " (SELECT 1 FROM question_attempts a WHERE a.question_id = q.id) LIMIT 1)"
    )
    extra = fleet.school.ids.new()
    verifying.device.change("INSERT INTO concepts (id, topic_ids, title, mastery_threshold, feed_no) VALUES (?, '[]', 'x', 0.5, 3)", extra)
    assert verifying().result is Result.REPAIRED
    assert same_everywhere(fleet, verifying.device)


def test_NO_LOST_OP_answers_that_the_server_lost_are_sent_again(fleet: Fleet, verifying: Verifying) -> None:
    device = verifying.device
    own = [row_id for (row_id,) in device.rows("SELECT row_id FROM sync_operations WHERE table_name = 'question_attempts' LIMIT 4")]
    fleet.server("DELETE FROM question_attempts WHERE id = ANY(%s::uuid[])", own)
    verified = verifying()
    assert (verified.result, verified.kept) == (Result.MISMATCH, 4)
    assert device.value("SELECT count(*) FROM question_attempts") == 50
    assert device.rounds.status().state == "pending"
    device.sync()
    assert verifying().result is Result.MATCH
    assert same_everywhere(fleet, device)
    assert device.rounds.status().state == "synced"


def test_TRUTHFUL_STATUS_answers_that_nobody_can_send_again_are_kept_and_status_says_that_the_sides_differ(
    fleet: Fleet, verifying: Verifying
) -> None:
    device = verifying.device
    device.change("DELETE FROM sync_operations")
    fleet.server("DELETE FROM question_attempts WHERE id = (SELECT id FROM question_attempts LIMIT 1)")
    for _ in range(2):
        verified = verifying()
        assert (verified.result, verified.kept, verified.repaired) == (Result.MISMATCH, 1, 0)
        assert device.value("SELECT count(*) FROM question_attempts") == 50
        status = device.rounds.status()
        assert (status.state, status.last_verify_result) == ("differs", "mismatch")
    assert verifying.report["places"][0]["extra"] == 1


def test_a_row_that_was_deleted_at_school_and_stayed_here_goes(fleet: Fleet, verifying: Verifying) -> None:
    device = verifying.device
    (attempt,) = device.rows("SELECT id, student_id FROM question_attempts LIMIT 1")
    fleet.server("DELETE FROM question_attempts WHERE id = %s", attempt[0])
    fleet.server(
        "INSERT INTO tombstones (school_id, scope, table_name, row_id, feed_no, deleted_at_ms) VALUES (%s, %s, 'question_attempts', %s, 1, 1)",
        fleet.school.id, f"student:{attempt[1]}", attempt[0],
    )  # fmt: skip
    assert verifying().result is Result.REPAIRED
    assert device.value("SELECT count(*) FROM question_attempts WHERE id = ?", attempt[0]) == 0
    assert same_everywhere(fleet, device)


def change_the_course(fleet: Fleet) -> None:
    publication = Publication(fleet.school.id)
    publication.put(
        "topics", {"id": fleet.school.ids.new(), "parent_id": None, "title": "new", "level": "lesson", "position": 3, "weightage": None,
                   "external_id": None, "retired_at_ms": None},
    )  # fmt: skip
    with fleet.school.database.transaction() as cursor:
        publication.write(cursor, fleet.school.clock.now_ms())


@pytest.mark.parametrize("detail", ["sums", "buckets", "keys", "rows"])
def test_something_that_moves_meanwhile_makes_it_inconclusive_and_is_no_alarm(fleet: Fleet, verifying: Verifying, detail: str) -> None:
    device = verifying.device
    if detail != "sums":
        device.change("DELETE FROM topics")

    def move(request: VerifyRequest) -> None:
        if request.detail == detail:
            verifying.before_answer = lambda request: None
            change_the_course(fleet)

    verifying.before_answer = move
    assert verifying().result is Result.INCONCLUSIVE
    assert device.rounds.status().state != "differs"
    assert device.rounds.status().last_verify_result == "inconclusive"
    assert verifying().result in (Result.MATCH, Result.REPAIRED)
    assert same_everywhere(fleet, device)


def test_a_row_deleted_meanwhile_makes_it_inconclusive_too(fleet: Fleet, verifying: Verifying) -> None:
    fleet.server("UPDATE schools SET head = head + 1")
    fleet.server(
        "INSERT INTO tombstones (school_id, scope, table_name, row_id, feed_no, deleted_at_ms) VALUES (%s, 'school', 'topics', %s, %s, 1)",
        fleet.school.id, OTHER, fleet.school.head,
    )  # fmt: skip
    verifying.device.gateway.pull = None  # type: ignore[method-assign, assignment]
    verifying.device.rounds._pull_all = lambda: iter(())  # type: ignore[method-assign]
    assert verifying().result is Result.INCONCLUSIVE


def test_a_mismatch_is_not_forgotten_because_a_later_comparison_says_nothing(fleet: Fleet, verifying: Verifying) -> None:
    device = verifying.device
    device.change("UPDATE sync_progress SET last_verify_result = 'mismatch'")
    verifying.before_answer = lambda request: change_the_course(fleet)
    assert verifying().result is Result.INCONCLUSIVE
    assert device.rounds.status().last_verify_result == "mismatch"


def test_an_answer_given_while_it_compares_is_neither_lost_nor_a_difference(fleet: Fleet, ada: Id, verifying: Verifying) -> None:
    device = verifying.device
    device.change("DELETE FROM student_profiles")

    def write(request: VerifyRequest) -> None:
        if request.detail == "rows":
            device.records.record_attempts(ada, fleet.attempts(1))
            device.records.update_profile(ada, {"grade": "8"})

    verifying.before_answer = write
    assert verifying(content=True).result is Result.REPAIRED
    assert device.value("SELECT grade FROM student_profiles") == "8"
    verifying.before_answer = lambda request: None
    assert verifying(content=True).result is Result.MATCH
    assert fleet.server("SELECT grade FROM student_profiles") == [("8",)]
    assert len(fleet.server_rows("question_attempts")) == 51


def test_nothing_is_compared_while_something_waits_to_be_sent(fleet: Fleet, ada: Id, verifying: Verifying) -> None:
    verifying.device.records.record_attempts(ada, fleet.attempts(1))
    verifying.device.gateway.lose_answers = 1
    verified = verifying()
    assert verified.result is Result.INCONCLUSIVE
    assert verified.message
    assert verifying.device.rounds.status().last_verify_ms is None


def test_a_server_in_another_life_is_not_compared_with(fleet: Fleet, verifying: Verifying) -> None:
    def restore(request: VerifyRequest) -> None:
        fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")

    verifying.before_answer = restore
    assert verifying().result is Result.INCONCLUSIVE


def test_a_great_difference_is_put_right_in_bounded_portions(fleet: Fleet, verifying: Verifying, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "REPAIRED_ROWS_MAX", 25)
    monkeypatch.setattr(verify_module, "VERIFY_ROWS_MAX", 10)
    verifying.device.change("DELETE FROM question_attempts")
    first = verifying()
    assert (first.result, first.repaired) == (Result.MISMATCH, 30)
    assert verifying().result is Result.REPAIRED
    assert same_everywhere(fleet, verifying.device)


def test_a_daily_comparison_runs_when_it_is_due_and_nothing_else_is_to_be_done(fleet: Fleet, ada: Id, verifying: Verifying) -> None:
    device, day_ms = verifying.device, agreement.EVERY_MS
    first = verifying.round.run_if_due()
    assert first is not None
    assert first.result is Result.MATCH
    assert verifying.round.run_if_due() is None
    device.clock.ahead_ms = day_ms + 1000
    device.records.record_attempts(ada, fleet.attempts(1))
    assert verifying.round.run_if_due() is None, "something is queued"
    device.sync()
    assert verifying.round.run_if_due() is not None
    assert verifying.round.run_if_due() is None


def test_NO_LEAK_a_device_is_told_nothing_of_scopes_that_it_may_not_hold(fleet: Fleet, verifying: Verifying) -> None:
    ben = fleet.school.add_user("ben").id
    stranger = fleet.device(Grant("student", ben))
    stranger.sync()
    stranger.records.record_attempts(ben, fleet.attempts(3))
    stranger.sync()
    verifying.device.change("INSERT INTO cursors (scope, cursor) VALUES (?, ?)", f"student:{ben}", fleet.school.head)
    verifying.device.rounds._pull_all = lambda: iter(())  # type: ignore[method-assign]
    assert verifying().result is Result.INCONCLUSIVE
    assert verifying.fetched == []
