"""What a school says about plans reaches the students' devices, and them alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from cloud_api.cli import main
from cloud_api.devices.enrolment import Grant
from cloud_api.imports.loading import Importer
from cloud_api.people import end_memberships
from cloud_api.plan_rules import follow_classes
from cloud_api.publication import Publication
from daemon.learning.plan_inputs import inputs_of
from tests.support.fleet import Fleet, SyncedDevice


def run(fleet: Fleet, url: str, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["plan", *arguments, "--school", fleet.school.id, "--database-url", url])


def rules(fleet: Fleet, url: str, *arguments: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run(fleet, url, "rules", *arguments, "--json").output)
    return found


def leave(fleet: Fleet, student: str, class_name: str) -> None:
    """Takes a student out of a class, as a roster does."""
    school = fleet.school

    def work(cursor: Any) -> None:
        cursor.execute(
            "SELECT m.id, m.class_id, m.user_id FROM class_members m JOIN classes c ON c.school_id = m.school_id AND c.id = m.class_id"
            " WHERE m.user_id = %s AND c.name = %s",
            (student, class_name),
        )
        [member] = cursor.fetchall()
        publication, now_ms = Publication(school.id), school.clock.now_ms()
        end_memberships(cursor, publication, school.id, [dict(zip(("id", "class_id", "user_id"), member, strict=True))], now_ms)
        publication.write(cursor, now_ms)
        follow_classes(cursor, school.ids, school.id, [], now_ms)

    school.database.retrying(work)


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


def test_whoever_joins_a_class_later_has_its_rules_and_whoever_leaves_it_has_them_no_more(
    fleet: Fleet, cloud_database: str, tmp_path: Path
) -> None:
    fleet.add_class("Knots 1")
    fleet.add_class("Knots 2")
    concept = title(fleet)
    ben = fleet.school.add_user("ben", classes=["Knots 1"]).id
    laptop = fleet.device(Grant("student", ben))
    for rule in (("exclude", concept), ("day-off", "2020-01-01", "2099-03-09")):
        run(fleet, cloud_database, *rule, "--class", "Knots 1")
    run(fleet, cloud_database, "pin", concept, "--student", "ben")
    cleo = fleet.school.add_user("cleo", classes=["Knots 1"]).id
    told = rules(fleet, cloud_database, "--student", "cleo")
    assert [(rule["kind"], rule["day"], rule["created_by"]) for rule in told] == [
        ("day_off", "2099-03-09", "operator"),
        ("exclude", None, "operator"),
    ], "what is for the class, but for days that are over"
    fleet.school.add_user("tom", role="teacher", classes=["Knots 1"])
    roster = tmp_path / "roster.csv"
    roster.write_text("username,display_name,role,class,external_id\nben,Ben,student,Knots 2,1\ndora,Dora,student,Knots 1,2\n")
    Importer(fleet.school.database, fleet.school.clock, fleet.school.ids, fleet.school.id, retire=True).roster(roster)
    assert [rule["kind"] for rule in rules(fleet, cloud_database, "--student", "ben")] == ["pin"], "that is his own"
    assert sorted(rule["kind"] for rule in rules(fleet, cloud_database, "--student", "dora")) == ["day_off", "exclude"]
    assert len(rules(fleet, cloud_database, "--student", "cleo")) == 2
    laptop.sync()
    assert laptop.rows("SELECT kind FROM plan_rules") == [("pin",)]
    assert fleet.server("SELECT count(*) FROM plan_rules WHERE student_id = %s AND class_id IS NULL", cleo) == [(0,)]


def test_a_rule_that_two_classes_have_stays_with_whoever_leaves_one_of_them(fleet: Fleet, cloud_database: str) -> None:
    for name in ("Knots 1", "Knots 2"):
        fleet.add_class(name)
    ben = fleet.school.add_user("ben", classes=["Knots 1", "Knots 2"]).id
    laptop = fleet.device(Grant("student", ben))
    for name in ("Knots 1", "Knots 2"):
        for told in ("1 added\n", "nothing to add: it was said before\n"):
            assert run(fleet, cloud_database, "pin", title(fleet), "--class", name).output == told
    laptop.sync()
    with laptop.database.read() as conn:
        assert len(inputs_of(conn, ben).pinned) == 1, "what two classes say is planned once"
    cleo = fleet.school.add_user("cleo", classes=["Knots 2", "Knots 1"]).id
    for student in (ben, cleo):
        leave(fleet, student, "Knots 1")
        assert [rule["kind"] for rule in rules(fleet, cloud_database, "--class", "Knots 2") if rule["student_id"] == student] == ["pin"]
        leave(fleet, student, "Knots 2")
    assert fleet.server("SELECT count(*) FROM plan_rules") == [(0,)]


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
        refused = run(fleet, cloud_database, *arguments)
        assert refused.exit_code in (1, 2) and "%" not in refused.output
    assert fleet.server("SELECT count(*) FROM plan_rules") == [(0,)]
