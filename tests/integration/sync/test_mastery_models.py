"""The model behind mastery is published like the course: wherever it is the same, scores are."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from cloud_api.cli import main
from cloud_api.commands import mastery as mastery_commands
from cloud_api.learning import mastery as cloud_mastery
from cloud_api.learning import snapshots
from cloud_api.learning.model import current_model
from cloud_api.learning.publishing import VERSIONS_KEPT
from cloud_api.learning.snapshots import Published, publish_snapshot
from cloud_api.schools import create_school
from daemon.learning import mastery as device_mastery
from daemon.learning.model import current_model as model_on
from domain.errors import Conflict
from domain.ids import Id
from domain.learning import refit as fitting
from domain.learning.difficulty import snapshot
from domain.learning.features import WEIGHTS
from domain.learning.mastery import MODEL_VERSION
from tests.integration.sync.test_mastery import COLUMNS, At
from tests.support.fleet import Fleet, SyncedDevice

DAY_MS = 24 * 3_600_000


@pytest.fixture(autouse=True)
def one_student_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots, "STUDENTS_MIN", 1)


def publish(fleet: Fleet, at_ms: int | None = None) -> Published:
    with fleet.school.database.transaction() as cursor:
        return publish_snapshot(cursor, fleet.school.ids, fleet.school.id, at_ms or fleet.school.clock.now_ms())


def on_device(device: SyncedDevice, clock: Any) -> list[tuple[Any, ...]]:
    device_mastery.refresh_stale(device.database, clock)
    return device.rows(f"SELECT {COLUMNS} FROM concept_mastery ORDER BY concept_id")


def on_server(fleet: Fleet, student: str, clock: Any) -> list[tuple[Any, ...]]:
    with fleet.school.database.transaction() as cursor:
        cloud_mastery.refresh(cursor, fleet.school.id, [student], clock.now_ms())
    return fleet.server(f"SELECT {COLUMNS} FROM concept_mastery ORDER BY concept_id")


def test_DERIVED_EQUAL_with_a_new_snapshot_in_between_and_a_device_that_has_not_got_it(
    fleet: Fleet, ada: str, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    clock = At(fleet.school.clock.now_ms() + 60_000)
    laptop.records.record_attempts(Id(ada), fleet.attempts(9))
    laptop.sync()
    tablet.sync()
    before = on_device(tablet, clock)
    assert {row[-1] for row in before} == {MODEL_VERSION}
    assert publish(fleet).new
    laptop.sync()
    rows = on_device(laptop, clock)
    assert rows == on_server(fleet, ada, clock) != before
    assert rows[0][-1].startswith(f"{MODEL_VERSION}.d")
    assert on_device(tablet, clock) == before
    tablet.records.record_attempts(Id(ada), fleet.attempts(3))
    tablet.sync()
    laptop.sync()
    rows = on_device(laptop, clock)
    assert rows == on_device(tablet, clock) == on_server(fleet, ada, clock)
    assert {row[-1] for row in rows} == {rows[0][-1]} != {MODEL_VERSION}


def test_a_snapshot_that_says_nothing_new_is_not_published_again(fleet: Fleet, ada: str, laptop: SyncedDevice) -> None:
    assert not publish(fleet).new  # nothing was answered yet
    laptop.records.record_attempts(Id(ada), fleet.attempts(4))
    laptop.sync()
    first, again = publish(fleet), publish(fleet)
    assert (first.new, again.new, again.id) == (True, False, first.id)
    laptop.records.record_attempts(Id(ada), fleet.attempts(96))
    laptop.sync()
    assert publish(fleet).new
    laptop.records.record_attempts(Id(ada), fleet.attempts(2))
    laptop.sync()
    assert not publish(fleet).new  # two in a hundred say nothing about a question, and would have everybody folded anew
    assert fleet.server("SELECT count(*) FROM difficulty_snapshots") == [(2,)]


def test_no_figure_of_fewer_than_five_students_is_published(
    fleet: Fleet, ada: str, laptop: SyncedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three questions about one concept: one that five have answered, and two that fewer have, who together are five."""
    monkeypatch.undo()
    students = [ada, *(fleet.school.add_user(f"s{n}").id for n in range(4))]
    shared, rare, other = fleet.questions[:3]
    fleet.server(
        "UPDATE questions SET concept_ids = (SELECT concept_ids FROM questions WHERE id = %s) WHERE id IN (%s, %s)", shared, rare, other
    )

    def answer(*given: tuple[str, str]) -> None:
        for student, question in given:
            fleet.server(
                "INSERT INTO question_attempts (school_id, id, student_id, question_id, device_id, answered_at_ms, correct, purpose, feed_no, origin_no)"
                " VALUES (%s, %s, %s, %s, %s, 1, true, 'free', 1, 0)",
                fleet.school.id, fleet.school.ids.new(), student, question, laptop.id,
            )  # fmt: skip

    def published() -> tuple[int, list[list[Any]], list[list[Any]]]:
        with fleet.school.database.transaction() as cursor:
            content = json.loads(snapshot(snapshots.count_answers(cursor, fleet.school.id)).encoded)
        return content["total"][1], [counts for _, *counts in content["sets"]], content["questions"]

    answer(*((student, shared) for student in students[:4]), (ada, rare))
    assert published() == (0, [], [])
    answer((students[4], shared))
    assert published() == (5, [[5, 5]], [[shared, 5, 5]]), "what one has answered is in no sum"
    answer(*((student, rare) for student in students[1:4]), (students[4], other))
    assert published() == (10, [[10, 10]], [[shared, 5, 5]])


def test_old_snapshots_go_and_the_newest_counts_whatever_the_servers_clock_says(fleet: Fleet, ada: str, laptop: SyncedDevice) -> None:
    now_ms = fleet.school.clock.now_ms()
    for number in range(VERSIONS_KEPT + 2):
        laptop.records.record_attempts(Id(ada), fleet.attempts(2))
        laptop.sync()
        newest = publish(fleet, now_ms - number * DAY_MS)
    laptop.sync()
    assert (
        laptop.rows("SELECT count(*) FROM difficulty_snapshots")
        == fleet.server("SELECT count(*) FROM difficulty_snapshots")
        == [(VERSIONS_KEPT,)]
    )
    with laptop.database.read() as conn, fleet.school.database.transaction() as cursor:
        assert model_on(conn).version == current_model(cursor, fleet.school.id).version == f"{MODEL_VERSION}.d{newest.id[:12]}"


def test_a_snapshot_of_a_form_that_nobody_here_knows_leaves_the_one_before_in_force(fleet: Fleet, ada: str, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(Id(ada), fleet.attempts(4))
    laptop.sync()
    published = publish(fleet)
    laptop.sync()
    laptop.change("INSERT INTO difficulty_snapshots VALUES ('f', '{\"format\": 99}', 4000000000000, 1, NULL)")
    laptop.change("INSERT INTO model_weights VALUES ('f', ?, '{\"constant\": 1}', 4000000000000, 1, NULL)", MODEL_VERSION)
    with laptop.database.read() as conn:
        assert model_on(conn).version == f"{MODEL_VERSION}.d{published.id[:12]}"


def test_weights_of_the_schools_own_are_published_where_they_foretell_better_and_taken_back_where_not(
    fleet: Fleet, ada: str, laptop: SyncedDevice, cloud_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "REFIT_ATTEMPTS_MIN", 100)
    monkeypatch.setattr(fitting, "JUDGED_ATTEMPTS_MIN", 20)
    now_ms = laptop.clock.now_ms()
    arguments = ["mastery", "refit", "--school", fleet.school.id, "--database-url", cloud_database, "--json"]

    def refitted() -> dict[str, Any]:
        shown = CliRunner().invoke(main, arguments)
        assert shown.exit_code == 0, shown.output
        found: dict[str, Any] = json.loads(shown.output)
        return found

    assert refitted()["outcome"] == "too_few"
    for day in range(90, 0, -1):  # always wrong: no weights that were fitted on other students expect that
        laptop.records.record_attempts(Id(ada), fleet.attempts(4, correct=False, answered_at_ms=now_ms - day * DAY_MS))
    laptop.sync()
    done = refitted()
    assert (done["outcome"], done["attempts"]) == ("adopted", 360)
    assert done["fitted_loss"] < done["shipped_loss"]
    laptop.sync()
    with laptop.database.read() as conn:
        model = model_on(conn)
    assert (model.version, model.weights == WEIGHTS) == (done["model_version"], False)
    clock = At(now_ms)
    assert on_device(laptop, clock) == on_server(fleet, ada, clock)
    monkeypatch.setattr(fitting, "_mean_loss", lambda weights, _rows: 0.0 if weights == WEIGHTS else 1.0)
    assert refitted()["outcome"] == "shipped"
    assert refitted()["outcome"] == "kept"
    laptop.sync()
    with laptop.database.read() as conn:
        assert model_on(conn).version == MODEL_VERSION


def test_every_school_of_a_server_is_counted_by_one_command_and_one_that_fails_keeps_no_other_from_it(
    fleet: Fleet, ada: str, laptop: SyncedDevice, cloud_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fleet.school.database.transaction() as cursor:
        other = create_school(cursor, fleet.school.ids.new(), "Another School", 0)
    laptop.records.record_attempts(Id(ada), fleet.attempts(4))
    laptop.sync()
    arguments = ["mastery", "snapshot", "--database-url", cloud_database, "--json"]
    counted = CliRunner().invoke(main, [*arguments, "--all-schools"])
    assert counted.exit_code == 0, counted.output
    assert {one["school_id"]: one["done"]["attempts"] for one in json.loads(counted.stdout)} == {fleet.school.id: 4, other.id: 0}
    for both_or_none in ([], ["--all-schools", "--school", other.id]):
        assert CliRunner().invoke(main, [*arguments, *both_or_none]).exit_code == 2

    def failing(cursor: Any, ids: Any, school_id: str, now_ms: int) -> Published:
        if school_id == other.id:
            raise Conflict("It could not be counted.")
        return publish_snapshot(cursor, ids, school_id, now_ms)

    monkeypatch.setattr(mastery_commands, "publish_snapshot", failing)
    failed = CliRunner().invoke(main, [*arguments, "--all-schools"])
    assert (failed.exit_code, "Another School: It could not be counted." in failed.stderr) == (1, True)
    assert [one["school_id"] for one in json.loads(failed.stdout)] == [fleet.school.id]
