"""question_attempts becomes monthly partitions while a school writes: nothing is lost, nothing is refused for good."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest

from domain.errors import SchemaError, Unavailable
from migrations.engines import Limits, PostgresEngine
from migrations.partitioning import Month, Partitioning, main
from migrations.runner import upgrade_cloud
from tests.support.device import ManualClock

NOW_MS = int(datetime(2026, 11, 22, tzinfo=UTC).timestamp() * 1000)
DECEMBER_MS = int(datetime(2026, 12, 5, tzinfo=UTC).timestamp() * 1000)
YEAR_2099_MS = int(datetime(2099, 1, 1, tzinfo=UTC).timestamp() * 1000)
SCHOOL, STUDENT, TOPIC, QUESTION, DEVICE = (str(uuid.UUID(int=(0x0190 << 112) + number)) for number in range(1, 6))
MONTHS = ["question_attempts_2026_12", "question_attempts_2027_01", "question_attempts_2027_02"]

IN_THIS_DATABASE = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
WAIT_MAX_S = 10.0
LOOK_EVERY_S = 0.005


def id_at(ms: int, number: int) -> str:
    return str(uuid.UUID(int=(ms << 80) + (7 << 76) + (2 << 62) + number))


class School:
    """A school's database, written to over connections of its own."""

    def __init__(self, url: str) -> None:
        self.url = url

    def connect(self) -> Any:
        connection = psycopg2.connect(self.url, options="-c carrel.every_school=on")
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
        # Through the whole table: behind its wall a partition shows nobody anything under its own name.
        where = "" if table == "question_attempts" else f" WHERE tableoid = '{table}'::regclass"
        return {row for (row,) in self.sql(f"SELECT id::text FROM question_attempts{where}")}


def await_that(condition: Callable[[], bool]) -> None:
    """Raises TimeoutError when it does not come true within WAIT_MAX_S."""
    deadline_s = time.monotonic() + WAIT_MAX_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError
        time.sleep(LOOK_EVERY_S)


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
    try:
        await_that(lambda: len(written) >= 10 or bool(failures))
        added = partitioning.run(months_ahead=6)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert added[:3] == MONTHS
    assert failures == []
    assert school.ids() == before | set(written)
    assert len(set(written)) == len(written)
    assert school.sql("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'hold%'") == [(0,)]


def test_whoever_has_read_attempts_writes_them_without_waiting_for_the_month_that_waits_for_him(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a push does: it looks at rows, then writes some. Each would wait for the other if the month were attached holding half a lock."""
    validate = Partitioning._validate
    with (
        closing(psycopg2.connect(school.url, options="-c carrel.every_school=on")) as push,
        push.cursor() as cursor,
        ThreadPoolExecutor(1) as pool,
        closing(PostgresEngine(school.url, Limits(table_lock_s=WAIT_MAX_S))) as engine,
    ):

        def validate_and_read(self: Partitioning) -> bool:
            is_clear = validate(self)
            cursor.execute("SET lock_timeout = '500ms'")  # PostgreSQL breaks a deadlock after a second
            cursor.execute("SELECT count(*) FROM question_attempts")
            return is_clear

        monkeypatch.setattr(Partitioning, "_validate", validate_and_read)
        added = pool.submit(Partitioning(engine, clock=ManualClock(NOW_MS)).run, 1)
        await_that(lambda: bool(school.sql(f"SELECT 1 FROM pg_locks WHERE NOT granted AND {IN_THIS_DATABASE}")))
        insert(push, NOW_MS, 7_000)
        assert not added.done()
        push.commit()
        assert added.result(WAIT_MAX_S) == MONTHS[:1]
    assert id_at(NOW_MS, 7_000) in school.ids()


def test_changes_of_a_month_are_told_to_try_again_while_it_is_added(
    school: School, partitioning: Partitioning, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were one of them to pass, it would be lost or come back with the row that is moved; were it refused, it would be refused for good."""
    school.attempt(DECEMBER_MS, 1)
    validate = Partitioning._validate
    ahead = id_at(DECEMBER_MS, 1)

    def validate_meanwhile(self: Partitioning) -> bool:
        with pytest.raises(psycopg2.errors.SerializationFailure):
            school.attempt(DECEMBER_MS, 2)
        for change in ("UPDATE question_attempts SET confidence = 1 WHERE id = %s", "DELETE FROM question_attempts WHERE id = %s"):
            with pytest.raises(psycopg2.errors.SerializationFailure):
                school.sql(change, ahead)
        school.attempt(NOW_MS, 8_000)
        school.sql("UPDATE question_attempts SET confidence = 1 WHERE id = %s", id_at(NOW_MS, 8_000))
        return validate(self)

    monkeypatch.setattr(Partitioning, "_validate", validate_meanwhile)
    assert partitioning.run(months_ahead=1) == MONTHS[:1]
    assert school.ids(MONTHS[0]) == {ahead}
    school.sql("DELETE FROM question_attempts WHERE id = %s", ahead)
    assert ahead not in school.ids()


def test_grants_row_level_security_and_triggers_are_as_they_were(school: School, partitioning: Partitioning) -> None:
    school.sql("GRANT SELECT ON question_attempts TO PUBLIC")
    school.sql("GRANT UPDATE (confidence) ON question_attempts TO pg_monitor WITH GRANT OPTION")
    school.sql("ALTER TABLE question_attempts ENABLE ROW LEVEL SECURITY")
    school.sql("ALTER TABLE question_attempts FORCE ROW LEVEL SECURITY")
    school.sql("CREATE POLICY own ON question_attempts AS RESTRICTIVE FOR UPDATE USING (confidence < 4) WITH CHECK (feed_no > 0)")
    school.sql("CREATE POLICY read ON question_attempts FOR SELECT USING (true)")
    school.sql("CREATE FUNCTION round_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.active_ms = 1000; RETURN NEW; END $$")
    school.sql("CREATE TRIGGER rounds BEFORE INSERT ON question_attempts FOR EACH ROW EXECUTE FUNCTION round_up()")
    looks = (
        "SELECT relacl, relrowsecurity, relforcerowsecurity, relowner FROM pg_class WHERE relname = 'question_attempts'",
        "SELECT attname, attacl FROM pg_attribute WHERE attrelid = 'question_attempts'::regclass AND attacl IS NOT NULL",
        "SELECT * FROM pg_policies WHERE tablename = 'question_attempts' ORDER BY policyname",
        "SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'question_attempts'::regclass ORDER BY 1",
    )
    before = [school.sql(look) for look in looks]
    partitioning.run(months_ahead=1)
    assert [school.sql(look) for look in looks] == before
    [(secured, forced)] = school.sql(f"SELECT relrowsecurity, relforcerowsecurity FROM pg_class WHERE relname = '{MONTHS[0]}'")
    assert secured
    assert forced
    for ms in (NOW_MS, DECEMBER_MS):
        school.attempt(ms, 9_000)
        assert school.sql("SELECT active_ms FROM question_attempts WHERE id = %s", id_at(ms, 9_000)) == [(1000,)]


def test_a_table_that_others_refer_to_is_refused_and_stays(school: School, partitioning: Partitioning) -> None:
    school.sql(
        "CREATE TABLE remarks (school_id uuid, attempt_id uuid,"
        " CONSTRAINT remarks_on_attempts FOREIGN KEY (school_id, attempt_id) REFERENCES question_attempts (school_id, id))"
    )
    with pytest.raises(SchemaError, match=r"foreign keys.*remarks_on_attempts"):
        partitioning.run()
    assert school.sql("SELECT relkind FROM pg_class WHERE relname = 'question_attempts'") == [("r",)]


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
    low, high = Month(2027, 1).first_id, Month(2027, 2).first_id
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
    with closing(psycopg2.connect(school.url, options="-c carrel.every_school=on")) as other:
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
    november = Month(2026, 11)
    assert [november.after(months) for months in (1, 2, 14)] == [Month(2026, 12), Month(2027, 1), Month(2028, 1)]
    first_ms = int(datetime(2026, 12, 1, tzinfo=UTC).timestamp() * 1000)
    assert uuid.UUID(november.after(1).first_id).int >> 80 == first_ms
