"""What a school says about plans reaches the students' devices, and them alone."""

from __future__ import annotations

import json
from typing import Any

from click.testing import CliRunner, Result

from cloud_api.cli import main
from cloud_api.enrolment import Grant
from tests.support.fleet import Fleet, SyncedDevice


def run(fleet: Fleet, url: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", *arguments, "--school", fleet.school.id, "--database-url", url])


def rules(fleet: Fleet, url: str, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(fleet, url, "rules", *arguments, "--json").output)
    return found


def title(fleet: Fleet) -> str:
    return str(fleet.server("SELECT title FROM concepts ORDER BY id LIMIT 1")[0][0])


def test_rules_for_a_student_come_to_that_students_devices_and_go_again(
    fleet: Fleet, ada: str, laptop: SyncedDevice, cloud_database: str
) -> None:
    ben = fleet.school.add_user("ben").id
    other = fleet.device(Grant("student", ben))
    concept = title(fleet)
    assert run(fleet, cloud_database, "pin", concept, "--student", "ada", "--on", "2026-03-09").output == "1 added\n"
    assert run(fleet, cloud_database, "exclude", concept, "--student", "ada").output == "1 added\n"
    assert run(fleet, cloud_database, "day-off", "2026-03-10", "2026-03-11", "--student", "ada").output == "2 added\n"
    again = run(fleet, cloud_database, "exclude", concept, "--student", "ada")
    assert again.output == "nothing to add: it was said before\n"
    laptop.sync()
    other.sync()
    assert sorted(laptop.rows("SELECT kind, day FROM plan_rules"), key=str) == [
        ("day_off", "2026-03-10"), ("day_off", "2026-03-11"), ("exclude", None), ("pin", "2026-03-09"),
    ]  # fmt: skip
    assert laptop.rows("SELECT DISTINCT _extra FROM plan_rules") == [(None,)], "who made a rule is not told"
    assert other.rows("SELECT * FROM plan_rules") == []
    pinned = next(rule for rule in rules(fleet, cloud_database, "--student", "ada") if rule["kind"] == "pin")
    assert (pinned["student"], pinned["concept"], pinned["day"], pinned["created_by"]) == ("ada", concept, "2026-03-09", "operator")
    assert run(fleet, cloud_database, "remove", pinned["id"]).output == "removed\n"
    laptop.sync()
    assert laptop.rows("SELECT count(*) FROM plan_rules WHERE kind = 'pin'") == [(0,)]
    assert run(fleet, cloud_database, "remove", pinned["id"]).exit_code == 1


def test_a_rule_for_a_class_is_one_for_each_of_its_students(fleet: Fleet, cloud_database: str) -> None:
    fleet.add_class("Knots 1")
    for name in ("ben", "cleo"):
        fleet.school.add_user(name, classes=["Knots 1"])
    assert run(fleet, cloud_database, "exclude", title(fleet), "--class", "Knots 1").output == "2 added\n"
    assert [rule["student"] for rule in rules(fleet, cloud_database, "--class", "Knots 1")] == ["ben", "cleo"]


def test_what_makes_no_sense_is_refused_and_writes_nothing(fleet: Fleet, ada: str, cloud_database: str) -> None:
    fleet.school.add_user("dan", role="teacher")
    for arguments in (
        ("pin", "no such concept", "--student", "ada"),
        ("pin", title(fleet)),
        ("pin", title(fleet), "--student", "dan"),
        ("pin", title(fleet), "--student", "ada", "--class", "Knots 1"),
        ("day-off", "someday", "--student", "ada"),
        ("remove", ada),
    ):
        assert run(fleet, cloud_database, *arguments).exit_code in (1, 2)
    assert fleet.server("SELECT count(*) FROM plan_rules") == [(0,)]
