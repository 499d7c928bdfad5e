"""Mastery is derived: equal on every holder of the same attempts."""

from __future__ import annotations

from typing import Any

from click.testing import CliRunner

from cloud_api.cli import main
from cloud_api.devices.enrolment import Grant
from cloud_api.learning import mastery as cloud_mastery
from daemon.learning import mastery as device_mastery
from domain.ids import Id
from tests.support.fleet import Fleet, SyncedDevice

COLUMNS = "student_id, concept_id, score, evidence, attempts, correct_attempts, last_attempt_at_ms, level, model_version"


class At:
    """A clock that stands."""

    def __init__(self, now_ms: int) -> None:
        self.time_ms = now_ms

    def now_ms(self) -> int:
        return self.time_ms

    def monotonic_ms(self) -> int:
        return 0


def _on_device(device: SyncedDevice, student: str, clock: Any) -> list[tuple[Any, ...]]:
    device_mastery.refresh(device.database, student, clock)  # type: ignore[arg-type]
    return device.rows(f"SELECT {COLUMNS} FROM concept_mastery ORDER BY concept_id")


def _on_server(fleet: Fleet, student: str, clock: Any) -> list[tuple[Any, ...]]:
    with fleet.school.database.transaction() as cursor:
        cloud_mastery.refresh(cursor, fleet.school.id, [student], clock.now_ms())
    return fleet.server(f"SELECT {COLUMNS} FROM concept_mastery ORDER BY concept_id")


def test_DERIVED_EQUAL_on_two_devices_and_the_server_whatever_arrived_first(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    clock = At(fleet.school.clock.now_ms() + 60_000)
    for _ in range(3):
        laptop.records.record_attempts(ada, fleet.attempts(7))
        tablet.records.record_attempts(ada, fleet.attempts(5))
    laptop.sync()
    _on_server(fleet, ada, clock)  # a first fold that later attempts must not be added to in the wrong order
    tablet.sync()
    laptop.sync()
    rows = _on_device(laptop, ada, clock)
    assert len(rows) == 2
    assert rows == _on_device(tablet, ada, clock) == _on_server(fleet, ada, clock)


def test_the_server_folds_a_student_again_only_when_there_is_news(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    now_ms = fleet.school.clock.now_ms()
    laptop.records.record_attempts(ada, fleet.attempts(3))
    laptop.sync()

    def refreshed(at_ms: int) -> int:
        with fleet.school.database.transaction() as cursor:
            return cloud_mastery.refresh(cursor, fleet.school.id, [ada], at_ms)

    assert [refreshed(now_ms), refreshed(now_ms)] == [1, 0]
    laptop.records.record_attempts(ada, fleet.attempts(1))
    laptop.sync()
    assert [refreshed(now_ms), refreshed(now_ms)] == [1, 0]
    assert refreshed(now_ms + cloud_mastery.AGE_MAX_MS + 1) == 1


def test_a_class_is_shown_on_the_command_line(fleet: Fleet, cloud_database: str) -> None:
    class_id = fleet.add_class("Knots 1")
    ben = fleet.school.add_user("ben", classes=["Knots 1"]).id
    lab = fleet.device(Grant("class", class_id))
    lab.sync()
    lab.records.record_attempts(ben, fleet.attempts(4, question_id=fleet.questions[0], correct=True))
    lab.sync()
    shown = CliRunner().invoke(
        main, ["mastery", "show", "--school", fleet.school.id, "--class", "Knots 1", "--database-url", cloud_database]
    )
    assert shown.exit_code == 0, shown.output
    assert "Ben" in shown.output
    assert "4 answers" in shown.output
    lab.records.record_attempts(ben, fleet.attempts(1, question_id=fleet.questions[1], correct=True))
    lab.sync()
    again = CliRunner().invoke(
        main, ["mastery", "show", "--school", fleet.school.id, "--class", "Knots 1", "--database-url", cloud_database]
    )
    (few,) = [line for line in again.output.splitlines() if "too few answers" in line]
    assert few.endswith(" 1 answer")
    assert "–" in few and "not_enough_evidence" not in again.output
