"""What a server lets go of in time, step by step."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from click.testing import CliRunner

from cloud_api import audit, retention
from cloud_api.cli import main
from cloud_api.config import Retention
from cloud_api.database import Cursor
from cloud_api.devices.enrolment import Grant
from cloud_api.erasure import leavers, register
from cloud_api.publication import lock_for_editing
from cloud_api.retention import DAY_MS, Tidied, tidy
from cloud_api.sync import feed
from domain.errors import OperatorError
from tests.support.cloud import SchoolBuilder


def bury(school: SchoolBuilder, days_ago: int, count: int = 1) -> list[int]:
    """Tombstones of so many days ago; their feed numbers."""
    numbers = []
    with school.database.transaction() as cursor:
        for _ in range(count):
            cursor.execute("UPDATE schools SET head = head + 1 WHERE id = %s RETURNING head", (school.id,))
            numbers.append(cursor.fetchone()[0])  # type: ignore[index]
            cursor.execute(
                "INSERT INTO tombstones (school_id, scope, table_name, row_id, feed_no, deleted_at_ms) VALUES (%s, 'school', 'topics', %s, %s, %s)",
                (school.id, school.ids.new(), numbers[-1], school.clock.now_ms() - days_ago * DAY_MS),
            )
    return numbers


def run(school: SchoolBuilder, **settings: Any) -> Tidied:
    return tidy(school.database, school.clock, school.ids, Retention(**settings))


def note_days(school: SchoolBuilder, *days_ago: int) -> None:
    """The server was at work so many days ago."""
    for days in days_ago:
        at_ms = school.clock.now_ms() - days * DAY_MS
        school.database.retrying(partial(feed.note_day, school_id=school.id, now_ms=at_ms))


def change(school: SchoolBuilder, sql: str, *parameters: Any) -> None:
    with school.database.transaction() as cursor:
        cursor.execute(sql, parameters)


def test_old_tombstones_go_and_the_floor_rises_above_them(cloud_school: SchoolBuilder) -> None:
    old, young = bury(cloud_school, 181, 3), bury(cloud_school, 179, 2)
    assert run(cloud_school) == Tidied(tombstones=3)
    assert cloud_school.value("SELECT tombstone_floor FROM schools WHERE id = %s", cloud_school.id) == max(old)
    assert cloud_school.value("SELECT array_agg(feed_no ORDER BY feed_no) FROM tombstones") == young
    assert run(cloud_school) == Tidied()
    assert cloud_school.value("SELECT tombstone_floor FROM schools WHERE id = %s", cloud_school.id) == max(old)


def test_each_step_is_bounded_and_a_run_that_stops_at_its_limit_says_so(
    cloud_school: SchoolBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "STEP_ROWS_MAX", 2)
    monkeypatch.setattr(retention, "STEPS_MAX", 2)
    numbers = bury(cloud_school, 400, 5)
    assert run(cloud_school) == Tidied(tombstones=4, more=True)
    assert cloud_school.value("SELECT tombstone_floor FROM schools WHERE id = %s", cloud_school.id) == numbers[3]
    assert run(cloud_school) == Tidied(tombstones=1)


def test_codes_go_a_time_after_they_have_expired(cloud_school: SchoolBuilder) -> None:
    student = cloud_school.add_user("ada").id
    for _ in range(2):
        cloud_school.code(Grant("student", student))
    change(cloud_school, "UPDATE enrolment_codes SET expires_at_ms = %s WHERE id = (SELECT min(id::text)::uuid FROM enrolment_codes)",
           cloud_school.clock.now_ms() - 31 * DAY_MS)  # fmt: skip
    assert run(cloud_school) == Tidied(codes=1)
    assert cloud_school.value("SELECT count(*) FROM enrolment_codes") == 1


def test_entries_of_the_audit_log_go_when_their_time_is_over_and_not_before(cloud_school: SchoolBuilder) -> None:
    now_ms = cloud_school.clock.now_ms()
    with cloud_school.database.transaction() as cursor:
        for days in (1_094, 1_096):
            audit.record(cursor, cloud_school.id, cloud_school.ids.new(), now_ms - days * DAY_MS, audit.OPERATOR, f"{days} days ago")
    assert run(cloud_school) == Tidied(audit_entries=1)
    assert cloud_school.value("SELECT array_agg(action) FROM audit_log WHERE action LIKE '%%ago'") == ["1094 days ago"]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        change(cloud_school, "DELETE FROM audit_log WHERE school_id = %s", cloud_school.id)


def test_a_device_that_was_silent_for_years_is_revoked_with_its_grants_and_an_entry_in_the_audit_log(cloud_school: SchoolBuilder) -> None:
    student = cloud_school.add_user("ada").id
    silent, never_seen, alive = (cloud_school.enrol(Grant("student", student)) for _ in range(3))
    long_ago_ms = cloud_school.clock.now_ms() - 731 * DAY_MS
    change(cloud_school, "UPDATE devices SET last_seen_ms = %s WHERE id = %s", long_ago_ms, silent.id)
    change(cloud_school, "UPDATE devices SET enrolled_at_ms = %s WHERE id <> %s", long_ago_ms, silent.id)
    change(cloud_school, "UPDATE devices SET last_seen_ms = %s WHERE id = %s", cloud_school.clock.now_ms(), alive.id)
    assert run(cloud_school) == Tidied(devices_revoked=2)
    assert run(cloud_school) == Tidied()
    assert cloud_school.value("SELECT array_agg(id) FROM devices WHERE revoked_at_ms IS NULL") == [alive.id]
    assert cloud_school.value("SELECT count(*) FROM device_grants WHERE ended_at_ms IS NULL") == 1
    entries = cloud_school.value(
        "SELECT array_agg(subject ORDER BY subject) FROM audit_log WHERE action = 'device.revoked' AND detail->>'reason' = 'silent'"
    )
    assert entries == sorted([silent.id, never_seen.id])


def test_students_who_left_long_ago_are_erased_if_that_is_wanted_and_nobody_else(cloud_school: SchoolBuilder, tmp_path: Path) -> None:
    left_long_ago, left, back, teacher = (cloud_school.add_user(name, role) for name, role in
                                          (("ada", "student"), ("ben", "student"), ("cem", "student"), ("dora", "teacher")))  # fmt: skip
    now_ms = cloud_school.clock.now_ms()
    for user, days in ((left_long_ago, 366), (left, 364), (teacher, 3_000)):
        change(cloud_school, "UPDATE users SET retired_at_ms = %s WHERE id = %s", now_ms - days * DAY_MS, user.id)
    assert run(cloud_school) == Tidied(), "nobody is erased unasked"
    environ = {
        "DATABASE_URL": cloud_school.database.url,
        "CARREL_CLOUD_ERASURES_FILE": str(tmp_path / "erasures.jsonl"),
        "CARREL_CLOUD_RETENTION_RETIRED_STUDENTS_DAYS": "365",
    }
    told = json.loads(CliRunner().invoke(main, ["tidy", "--json"], env=environ, catch_exceptions=False).stdout)
    assert told["students_erased"] == 1
    assert cloud_school.value("SELECT array_agg(id ORDER BY id) FROM users") == sorted([left.id, back.id, teacher.id])
    assert cloud_school.value("SELECT array_agg(student_id) FROM erasures WHERE feed_no > 0") == [left_long_ago.id], "devices are told"
    assert cloud_school.value("SELECT detail->>'reason' FROM audit_log WHERE action = 'student.erased'") == "left"
    assert [entry.student_id for entry in register.read(tmp_path / "erasures.jsonl")] == [left_long_ago.id]
    assert run(cloud_school, retired_students_days=365) == Tidied()


def test_the_run_after_one_that_was_killed_puts_an_erasure_into_the_register_and_writes_the_tables_anew(
    cloud_school: SchoolBuilder, tmp_path: Path
) -> None:
    student = cloud_school.add_user("ada").id
    change(cloud_school, "UPDATE users SET retired_at_ms = 1 WHERE id = %s", student)
    assert run(cloud_school, retired_students_days=365).students_erased == 1  # and no more
    environ = {"DATABASE_URL": cloud_school.database.url, "CARREL_CLOUD_ERASURES_FILE": str(tmp_path / "erasures.jsonl")}
    files = []
    for _ in range(3):
        files.append(cloud_school.value("SELECT pg_relation_filenode('question_attempts')"))
        CliRunner().invoke(main, ["tidy"], env=environ, catch_exceptions=False)
    assert [entry.student_id for entry in register.read(tmp_path / "erasures.jsonl")] == [student]
    assert files[0] != files[1] == files[2], "once"


def test_a_student_who_comes_back_in_the_same_moment_stays(cloud_school: SchoolBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    student = cloud_school.add_user("ada").id
    lock = lock_for_editing
    change(cloud_school, "UPDATE users SET retired_at_ms = 1 WHERE id = %s", student)

    def back_again(cursor: Cursor, school_id: str) -> None:
        cursor.execute("UPDATE users SET retired_at_ms = NULL WHERE id = %s", (student,))  # by whoever had the lock before
        lock(cursor, school_id)

    monkeypatch.setattr(leavers, "lock_for_editing", back_again)
    assert run(cloud_school, retired_students_days=365) == Tidied()
    assert cloud_school.value("SELECT count(*) FROM users") == 1


def test_each_device_keeps_the_newest_lives_of_its_log(cloud_school: SchoolBuilder) -> None:
    student = cloud_school.add_user("ada").id
    devices = [cloud_school.enrol(Grant("student", student)).id for _ in range(2)]
    for device in devices * 4:
        change(cloud_school, "INSERT INTO device_incarnations (school_id, device_id, incarnation, chain, started_at_ms) VALUES (%s, %s, %s, '', 1)",
               cloud_school.id, device, cloud_school.ids.new())  # fmt: skip
    newest = cloud_school.value("SELECT array_agg(no ORDER BY no) FROM (SELECT no FROM device_incarnations ORDER BY no DESC LIMIT 6) AS n")
    assert run(cloud_school, incarnations_kept=3) == Tidied(incarnations=2)
    assert cloud_school.value("SELECT array_agg(no ORDER BY no) FROM device_incarnations") == newest


def test_under_a_clock_that_ran_years_ahead_nothing_is_let_go_of_and_no_device_is_revoked(cloud_school: SchoolBuilder) -> None:
    """By it every deletion is old, every student who left has left long ago, and every device was silent for years."""
    numbers = bury(cloud_school, 1_000)
    device = cloud_school.enrol(Grant("student", cloud_school.add_user("ada").id)).id
    change(cloud_school, "UPDATE devices SET enrolled_at_ms = enrolled_at_ms - %s", 1_000 * DAY_MS)
    note_days(cloud_school, 1_001, 1_000, 999)
    with pytest.raises(OperatorError, match="has done nothing for 999 days"):
        run(cloud_school)
    note_days(cloud_school, 1, 0)  # devices have pushed under that clock, since yesterday
    with pytest.raises(OperatorError, match="has done nothing for 998 days"):
        run(cloud_school)
    assert cloud_school.value("SELECT array_agg(feed_no) FROM tombstones") == numbers
    assert cloud_school.value("SELECT array_agg(id) FROM devices WHERE revoked_at_ms IS NULL") == [device]


def test_after_a_week_at_work_or_when_a_person_says_that_the_clock_is_right_a_long_pause_is_over(cloud_school: SchoolBuilder) -> None:
    bury(cloud_school, 1_000)
    note_days(cloud_school, 999, 8, 7, 1)
    assert run(cloud_school) == Tidied(tombstones=1)
    bury(cloud_school, 1_000)
    change(cloud_school, "DELETE FROM feed_days")
    note_days(cloud_school, 999)
    environ = {"DATABASE_URL": cloud_school.database.url}
    refused = CliRunner().invoke(main, ["tidy"], env=environ)
    assert refused.exit_code != 0
    assert "1 tombstone" in CliRunner().invoke(main, ["tidy", "--clock-is-right"], env=environ, catch_exceptions=False).stdout


def test_a_clock_that_most_devices_contradict_lets_go_of_nothing(cloud_school: SchoolBuilder) -> None:
    bury(cloud_school, 400)
    student, now_ms = cloud_school.add_user("ada").id, cloud_school.clock.now_ms()
    devices = [cloud_school.enrol(Grant("student", student)).id for _ in range(5)]
    change(cloud_school, "UPDATE devices SET last_seen_ms = %s, clock_offset_ms = 0", now_ms)
    change(cloud_school, "UPDATE devices SET clock_offset_ms = %s WHERE id = ANY(%s::uuid[])", 200 * DAY_MS, devices[:3])
    with pytest.raises(OperatorError, match="3 of the 5 devices"):
        run(cloud_school)
    change(cloud_school, "UPDATE devices SET clock_offset_ms = %s WHERE id = ANY(%s::uuid[])", 0, devices[:1])
    assert run(cloud_school) == Tidied(tombstones=1)


def test_the_command_says_what_went(cloud_school: SchoolBuilder, cloud_database: str) -> None:
    bury(cloud_school, 400, 2)
    invoke = CliRunner().invoke
    told = json.loads(invoke(main, ["tidy", "--database-url", cloud_database, "--json"], catch_exceptions=False).stdout)
    assert told == {
        "tombstones": 2,
        "codes": 0,
        "incarnations": 0,
        "devices_revoked": 0,
        "settled_values": 0,
        "sessions": 0,
        "sync_hours": 0,
        "wrong_tries": 0,
        "audit_entries": 0,
        "students_erased": 0,
        "answers": 0,
        "more": False,
    }
    again = invoke(main, ["tidy", "--database-url", cloud_database], catch_exceptions=False).stdout
    assert again == "0 tombstones, 0 codes and 0 incarnations removed; 0 devices revoked\n"
