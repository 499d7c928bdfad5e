"""Importing a roster: people, classes and who is in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from domain.errors import InvalidInput
from tests.support.cloud import SchoolBuilder

HEADING = "username,display_name,role,class,external_id\n"
ROSTER = HEADING + "ada,Ada L.,student,8b;choir,1\nbob,Bob M.,student,8b,2\nkim,Kim N.,teacher,8b,3\nsam,Sam O.,admin,,4\n"


@pytest.fixture
def roster(tmp_path: Path) -> Path:
    path = tmp_path / "roster.csv"
    path.write_text(ROSTER)
    return path


def _members(school: SchoolBuilder) -> set[tuple[str, str, str]]:
    with school.database.transaction() as cursor:
        cursor.execute(
            "SELECT c.name, u.username, m.role FROM class_members m JOIN classes c ON c.id = m.class_id JOIN users u ON u.id = m.user_id"
        )
        return set(cursor.fetchall())


def _problems(school: SchoolBuilder, path: Path, text: str) -> list[tuple[str, str]]:
    path.write_text(text)
    head = school.head
    with pytest.raises(InvalidInput) as refused:
        school.import_roster(path)
    assert school.head == head
    return [(problem.path, problem.code) for problem in refused.value.problems]


def test_a_roster_arrives_and_a_second_import_changes_nothing(school: SchoolBuilder, roster: Path) -> None:
    report = school.import_roster(roster)
    assert {table: counts.created for table, counts in report.tables.items()} == {"users": 4, "classes": 2, "class_members": 4}
    assert school.head == 10
    assert _members(school) == {
        ("8b", "ada", "student"),
        ("choir", "ada", "student"),
        ("8b", "bob", "student"),
        ("8b", "kim", "teacher"),
    }
    assert school.import_roster(roster).changes == 0
    assert school.head == 10


def test_a_person_on_several_lines_is_in_several_classes(school: SchoolBuilder, roster: Path) -> None:
    roster.write_text("username,display_name,role,class\nada,Ada,student,8b\nada,Ada,student,choir\n")
    school.import_roster(roster)
    assert _members(school) == {("8b", "ada", "student"), ("choir", "ada", "student")}
    assert school.import_roster(roster).changes == 0


def test_a_person_is_known_by_external_id_when_the_user_name_changes(school: SchoolBuilder, roster: Path) -> None:
    school.import_roster(roster)
    ada = school.value("SELECT id FROM users WHERE username = 'ada'")
    roster.write_text(ROSTER.replace("ada,Ada L.", "ada.l,Ada Lovelace"))
    report = school.import_roster(roster)
    assert (report.changes, report.tables["users"].changed) == (1, 1)
    assert school.value("SELECT id FROM users WHERE username = 'ada.l'") == ada


def test_a_person_made_by_hand_is_taken_over(school: SchoolBuilder, roster: Path) -> None:
    ada = school.add_user("Ada")
    school.import_roster(roster)
    assert school.value("SELECT external_id FROM users WHERE id = %s", ada.id) == "1"


def test_without_retire_nobody_leaves(school: SchoolBuilder, roster: Path) -> None:
    school.import_roster(roster)
    members = _members(school)
    roster.write_text(HEADING + "ada,Ada L.,student,choir,1\n")
    assert school.import_roster(roster).changes == 0
    assert _members(school) == members


def test_a_roster_that_broke_off_lets_nobody_leave_unless_that_is_said(school: SchoolBuilder, tmp_path: Path) -> None:
    path, lines = tmp_path / "roster.csv", [f"p{n},P,student,8b,{n}\n" for n in range(42)]
    path.write_text(HEADING + "".join(lines))
    school.import_roster(path)
    path.write_text(HEADING + "".join(lines[22:]))
    with pytest.raises(InvalidInput) as refused:
        school.import_roster(path, retire=True)
    assert "22 of the school's 42 people" in refused.value.problems[0].message
    assert _retired(school, "users", "username") is None
    path.write_text(HEADING + "".join(lines[21:]))
    school.import_roster(path, retire=True)
    path.write_text(HEADING + "".join(lines[:1]))
    school.import_roster(path, retire=True, many_leave=True)
    assert len(_members(school)) == 1


def test_with_retire_who_vanished_has_left_with_tombstones_and_history(school: SchoolBuilder, roster: Path) -> None:
    school.add_user("hand")
    school.import_roster(roster)
    head = school.head
    roster.write_text(HEADING + "ada,Ada L.,student,choir,1\nkim,Kim N.,teacher,choir,3\nsam,Sam O.,admin,,4\n")
    report = school.import_roster(roster, retire=True)
    assert {table: counts.retired for table, counts in report.tables.items()} == {"users": 1, "classes": 1, "class_members": 3}
    assert _members(school) == {("choir", "ada", "student"), ("choir", "kim", "teacher")}
    assert _retired(school, "users", "username") == ["bob"]
    assert _retired(school, "classes", "name") == ["8b"]
    class_id = school.value("SELECT id FROM classes WHERE name = '8b'")
    with school.database.transaction() as cursor:
        cursor.execute("SELECT DISTINCT scope, table_name FROM tombstones WHERE feed_no > %s", (head,))
        assert cursor.fetchall() == [(f"class:{class_id}", "class_members")]
    assert school.value("SELECT count(*) FROM tombstones") == school.value("SELECT count(*) FROM membership_history") == 3
    assert school.import_roster(roster, retire=True).changes == 0


def _retired(school: SchoolBuilder, table: str, column: str) -> Any:
    return school.value(f"SELECT json_agg({column}) FROM {table} WHERE retired_at_ms IS NOT NULL")


def test_who_comes_back_is_the_same_person(school: SchoolBuilder, roster: Path) -> None:
    school.import_roster(roster)
    bob = school.value("SELECT id FROM users WHERE username = 'bob'")
    roster.write_text("".join(ROSTER.splitlines(keepends=True)[:2]))
    school.import_roster(roster, retire=True)
    roster.write_text(ROSTER)
    school.import_roster(roster)
    assert school.value("SELECT id FROM users WHERE username = 'bob' AND retired_at_ms IS NULL") == bob
    assert ("8b", "bob", "student") in _members(school)


def test_passwords_in_a_roster_are_not_kept(school: SchoolBuilder, roster: Path) -> None:
    roster.write_text("username,password,display_name,role\nada,hunter2,Ada,student\n")
    school.import_roster(roster)
    assert school.value("SELECT count(*) FROM users u, audit_log a WHERE u::text LIKE '%%hunter2%%' OR a::text LIKE '%%hunter2%%'") == 0


def test_problems_are_reported_together_and_name_nobody(school: SchoolBuilder, roster: Path) -> None:
    lines = [
        "ada,Ada,pupil,,",
        "ADA,Another,student,,9",
        "bob,,student,,",
        "cyd,Cyd,admin,8b,",
        "dee,Dee,student,,5",
        "dee,Dora,student,,5",
        f"eve,Eve,student,{'x' * 300},",
        f"{'f' * 65},Fay,student,,",
        "gil,G\u202eil,student,8b\x1b[2J,",
    ]
    with_problems = HEADING + "\n".join(lines) + "\n"
    assert _problems(school, roster, with_problems) == [
        ("roster.csv:2", "invalid_value"),
        ("roster.csv:3", "duplicate_username"),
        ("roster.csv:4", "missing_value"),
        ("roster.csv:5", "invalid_value"),
        ("roster.csv:7", "contradiction"),
        ("roster.csv:8", "invalid_value"),
        ("roster.csv:9", "invalid_value"),
        *[("roster.csv:10", "invalid_value")] * 2,
    ]
    with pytest.raises(InvalidInput) as refused:
        school.import_roster(roster)
    said = str(refused.value) + str(refused.value.problems)
    assert not any(name in said for name in ("Ada", "Another", "Dora", "pupil"))


def test_a_user_name_of_somebody_else_is_refused(school: SchoolBuilder, roster: Path) -> None:
    school.import_roster(roster)
    assert _problems(school, roster, HEADING + "bob,Impostor,student,,77\n") == [("roster.csv:2", "username_taken")]
    assert _problems(school, roster, HEADING + "bob,Ada,student,,1\n") == [("roster.csv:2", "username_taken")]
