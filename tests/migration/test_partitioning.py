"""question_attempts becomes monthly partitions while a school writes: nothing is lost, nothing is refused for good."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest

from domain.errors import SchemaError, Unavailable
from migrations.engines import Limits, PostgresEngine
from migrations.partitioning import Partitioning, first_id, main, month_after
from migrations.runner import upgrade_cloud
from tests.support.device import ManualClock

NOW_MS = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp() * 1000)
DECEMBER_MS = int(datetime(2026, 12, 5, tzinfo=UTC).timestamp() * 1000)
YEAR_2099_MS = int(datetime(2099, 1, 1, tzinfo=UTC).timestamp() * 1000)
SCHOOL, STUDENT, TOPIC, QUESTION, DEVICE = (str(uuid.UUID(int=(0x0190 << 112) + number)) for number in range(1, 6))
MONTHS = ["question_attempts_2026_12", "question_attempts_2027_01", "question_attempts_2027_02"]


def id_at(ms: int, number: int) -> str:
    return str(uuid.UUID(int=(ms << 80) + (7 << 76) + (2 << 62) + number))


class School:
    """A school's database, written to over connections of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def connect(self) -> Any:
        connection = psycopg2.connect(self.url)
        connection.autocommit = True
        return connection

    def sql(self, statement: str, *parameters: Any) -> list[Any]:
        with closing(self.connect()) as connection, connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return list(cursor.fetchall()) if cursor.description else []

    def attempt(self, ms: int, number: int, question: str = QUESTION) -> None:
        with closing(self.connect()) as connection:
            insert(connection, ms, number, question)

    def ids(self, table: str = "question_attempts") -> set[str]:
        return {row for (row,) in self.sql(f"SELECT id::text FROM {table}")}


def insert(connection: Any, ms: int, number: int, question: str = QUESTION) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO question_attempts (school_id, id, student_id, question_id, correct, answered_at_ms, purpose, device_id, feed_no)"
            " VALUES (%s, %s, %s, %s, true, %s, 'quiz', %s, 1)",
            (SCHOOL, id_at(ms, number), STUDENT, question, ms, DEVICE),
        )


@pytest.fixture
def school(fresh_database: str) -> School:
    upgrade_cloud(fresh_database)
    school = School(fresh_database)
    school.sql("INSERT INTO schools (id, name, created_at_ms) VALUES (%s, 'S', 1)", SCHOOL)
    school.sql(
        "INSERT INTO users (school_id, id, role, username, display_name, feed_no) VALUES (%s, %s, 'student', 'u', 'U', 1)", SCHOOL, STUDENT
    )
    school.sql("INSERT INTO topics (school_id, id, title, level, position, feed_no) VALUES (%s, %s, 'T', 'topic', 1, 1)", SCHOOL, TOPIC)
    school.sql(
        "INSERT INTO questions (school_id, id, topic_id, concept_ids, kind, stem, answers, feed_no) VALUES (%s, %s, %s, '[]', 'k', 's', '[]', 1)",
        SCHOOL, QUESTION, TOPIC,
    )  # fmt: skip
    with closing(school.connect()) as connection:
        for number in range(100):
            insert(connection, NOW_MS, number)
    return school


@pytest.fixture
def partitioning(school: School) -> Iterator[Partitioning]:
    limits = Limits(table_lock_s=0.2, attempts=100, retry_pause_s=0.01)
    engine = PostgresEngine(school.url, limits)
    yield Partitioning(engine, limits, ManualClock(NOW_MS))
    engine.close()


def test_the_table_becomes_the_default_partition_and_the_months_ahead_get_one_each(school: School, partitioning: Partitioning) -> None:
    before = school.ids()
    assert partitioning.run() == MONTHS
    assert school.ids() == school.ids("question_attempts_default") == before
    school.attempt(DECEMBER_MS, 1)
    assert school.ids(MONTHS[0]) == {id_at(DECEMBER_MS, 1)}
    assert partitioning.run() == []
    assert partitioning.run(months_ahead=4) == ["question_attempts_2027_03"]


def test_indexes_primary_key_and_the_check_of_references_are_as_they_were(school: School, partitioning: Partitioning) -> None:
    wanted = "SELECT indexname FROM pg_indexes WHERE tablename = 'question_attempts' ORDER BY 1"
    before = school.sql(wanted)
    partitioning.run()
    assert school.sql(wanted) == before
    assert school.sql("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
    per_partition = school.sql("SELECT tablename, count(*) FROM pg_indexes WHERE tablename LIKE 'question_attempts%' GROUP BY 1")
    assert {count for _, count in per_partition} == {len(before)}
    for ms in (NOW_MS, DECEMBER_MS):
        with pytest.raises(psycopg2.errors.ForeignKeyViolation):
            school.attempt(ms, 5_000, question=DEVICE)
    school.attempt(DECEMBER_MS, 6_000)
    with pytest.raises(psycopg2.errors.UniqueViolation):
        school.attempt(DECEMBER_MS, 6_000)
    with pytest.raises(psycopg2.errors.CheckViolation):
        school.sql("UPDATE question_attempts SET confidence = 9")


def test_rows_of_devices_whose_clock_is_ahead_are_moved_or_stay_but_are_never_lost(school: School, partitioning: Partitioning) -> None:
    school.attempt(DECEMBER_MS, 1)
    school.attempt(YEAR_2099_MS, 2)
    before = school.ids()
    partitioning.run()
    assert school.ids() == before
    assert school.ids(MONTHS[0]) == {id_at(DECEMBER_MS, 1)}
    assert id_at(YEAR_2099_MS, 2) in school.ids("question_attempts_default")
    school.attempt(YEAR_2099_MS, 3)


def test_a_school_that_writes_all_the_while_loses_nothing(school: School, partitioning: Partitioning) -> None:
    """Writers retry what asks for it, as the cloud API does; anything else fails the test."""
    stop = threading.Event()
    written: list[str] = []
    failures: list[BaseException] = []

    def write(first: int, ms: int) -> None:
        number = first
        try:
            with closing(school.connect()) as connection:
                while not stop.is_set() or number < first + 20:
                    try:
                        insert(connection, ms, number)
                    except (psycopg2.errors.SerializationFailure, psycopg2.errors.DeadlockDetected):
                        continue
                    written.append(id_at(ms, number))
                    number += 1
        except BaseException as error:  # noqa: BLE001  # told to the test's thread
            failures.append(error)

    before = school.ids()
    threads = [threading.Thread(target=write, args=(10_000 * place, ms)) for place, ms in enumerate((NOW_MS, DECEMBER_MS), 1)]
    for thread in threads:
        thread.start()
    while len(written) < 10 and not failures:
        threading.Event().wait(0.005)
    assert partitioning.run(months_ahead=6)[0] == MONTHS[0]
    stop.set()
    for thread in threads:
        thread.join(30)
    assert failures == []
    assert school.ids() == before | set(written)
    assert len(set(written)) == len(written)
    assert school.sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'hold%'") == [(0,)]


def test_the_default_partition_is_not_scanned_under_the_exclusive_lock(school: School, partitioning: Partitioning) -> None:
    """PostgreSQL says when a validated constraint spares it the scan."""
    partitioning._engine.connect()
    connection: Any = partitioning._engine.database.connection()  # type: ignore[no-untyped-call]
    with connection.cursor() as cursor:
        cursor.execute("SET client_min_messages = debug1")
    partitioning.run(months_ahead=1)
    spared = "updated partition constraint for default partition"
    assert [notice for notice in connection.notices if "is implied by existing constraints" in notice and spared in notice]


def test_a_run_that_was_broken_off_is_finished_by_the_next_and_nobody_is_held_back_for_good(
    school: School, partitioning: Partitioning
) -> None:
    partitioning.run(months_ahead=1)
    low, high = first_id(2027, 1), first_id(2027, 2)
    school.sql(
        "CREATE FUNCTION hold_attempts_of_a_month() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE serialization_failure; END $$"
    )
    school.sql(
        "CREATE TRIGGER hold_attempts_of_a_month BEFORE INSERT ON question_attempts_default FOR EACH ROW"
        f" WHEN (NEW.id >= '{low}' AND NEW.id < '{high}') EXECUTE FUNCTION hold_attempts_of_a_month()"
    )
    assert partitioning.run(months_ahead=2) == ["question_attempts_2027_01"]
    assert school.sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'hold%'") == [(0,)]


def test_when_the_table_stays_locked_it_gives_up_and_holds_nobody_back(school: School) -> None:
    limits = Limits(table_lock_s=0.05, attempts=2, retry_pause_s=0.01)
    engine = PostgresEngine(school.url, limits)
    with closing(psycopg2.connect(school.url)) as other:
        other.cursor().execute("LOCK TABLE question_attempts IN ROW EXCLUSIVE MODE")
        with pytest.raises(Unavailable, match="could not be locked in 2 attempts"):
            Partitioning(engine, limits, ManualClock(NOW_MS)).run()
    engine.close()
    assert school.sql("SELECT relkind FROM pg_class WHERE relname = 'question_attempts'") == [("r",)]
    school.attempt(DECEMBER_MS, 1)


def test_a_database_without_the_table_says_what_to_do(fresh_database: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", fresh_database]) == SchemaError.exit_code
    assert "migrate the database first" in capsys.readouterr().err


def test_the_command_tells_what_it_added(school: School, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--url", school.url, "--months", "2"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_months_and_their_first_ids() -> None:
    assert month_after(2026, 11, 1) == (2026, 12)
    assert month_after(2026, 11, 2) == (2027, 1)
    assert month_after(2026, 12, 12) == (2027, 12)
    assert uuid.UUID(first_id(2026, 12)).int >> 80 == int(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000)
