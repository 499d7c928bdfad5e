"""The wall between schools: PostgreSQL itself shows a request one school's rows and no others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import psycopg2
import pytest

from cloud_api import audit
from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import Grant, redeem
from cloud_api.embedded import DatabaseServer
from domain.errors import Forbidden, Unavailable
from tests.migration.populate import ROWS, populate_cloud
from tests.support.cloud import SchoolBuilder
from tests.support.postgres import temporary_database

# What belongs to the server and to no school.
OF_THE_SERVER = {"server_state", "wrong_tries", "migration_history"}
_TABLES = (
    "SELECT c.relname FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND NOT c.relispartition"
)


@pytest.fixture(scope="module")
def filled(postgres: DatabaseServer, cloud_template: str) -> Iterator[CloudDatabase]:
    """Three schools with a row each in every table."""
    with temporary_database(postgres, cloud_template) as url:
        connection = psycopg2.connect(url, options="-c carrel.every_school=on")
        populate_cloud(connection)
        connection.close()
        opened = CloudDatabase(url)
        yield opened
        opened.close()


def every_table(database: CloudDatabase) -> set[str]:
    with database.transaction(read_only=True) as cursor:
        cursor.execute(_TABLES)
        return {table for (table,) in cursor.fetchall()}


def key_of(table: str) -> str:
    return "id" if table == "schools" else "school_id"


def counts(cursor: Any, tables: set[str]) -> dict[str, list[str]]:
    """Table -> the schools of the rows seen."""
    found = {}
    for table in sorted(tables):
        cursor.execute(f"SELECT {key_of(table)} FROM {table}")
        found[table] = [school for (school,) in cursor.fetchall()]
    return found


def test_the_account_of_these_tests_is_one_for_which_the_wall_holds(filled: CloudDatabase) -> None:
    with filled.transaction(read_only=True) as cursor:
        cursor.execute("SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user")
        assert cursor.fetchone() == (False,)


def test_every_table_belongs_to_schools_and_is_walled_or_is_known_not_to(filled: CloudDatabase) -> None:
    with filled.transaction(read_only=True) as cursor:
        cursor.execute(f"{_TABLES} AND c.relrowsecurity AND c.relforcerowsecurity")
        walled = {table for (table,) in cursor.fetchall()}
        cursor.execute(f"{_TABLES} AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'school_id')")
        of_schools = {table for (table,) in cursor.fetchall()}
    assert walled == of_schools | {"schools"}
    assert every_table(filled) == walled | OF_THE_SERVER


def test_without_saying_which_school_it_is_about_a_request_sees_nothing(filled: CloudDatabase) -> None:
    tables = every_table(filled) - OF_THE_SERVER
    with filled.transaction(read_only=True) as cursor:
        assert {table: len(seen) for table, seen in counts(cursor, tables).items()} == dict.fromkeys(sorted(tables), ROWS)
    with filled.narrowed().transaction(read_only=True) as cursor:
        assert counts(cursor, tables) == {table: [] for table in sorted(tables)}


def test_about_one_school_it_sees_and_changes_nothing_of_another(filled: CloudDatabase) -> None:
    tables = every_table(filled) - OF_THE_SERVER
    with filled.transaction(read_only=True) as cursor:
        cursor.execute("SELECT id FROM schools ORDER BY id")
        (first,), (second,), _ = cursor.fetchall()
    for database in (filled, filled.narrowed()):
        with database.transaction(school=first) as cursor:
            assert counts(cursor, tables) == {table: [first] for table in sorted(tables)}
            for table in sorted(tables - {"audit_log"}):
                cursor.execute(f"UPDATE {table} SET {key_of(table)} = {key_of(table)} WHERE {key_of(table)} = %s", (second,))
                assert cursor.rowcount == 0
                cursor.execute(f"DELETE FROM {table} WHERE {key_of(table)} = %s", (second,))
                assert cursor.rowcount == 0


def test_no_row_is_written_into_another_school(filled: CloudDatabase) -> None:
    tables = every_table(filled) - OF_THE_SERVER
    with filled.transaction(read_only=True) as cursor:
        cursor.execute("SELECT id FROM schools ORDER BY id")
        (first,), (second,), _ = cursor.fetchall()
    for table in sorted(tables - {"audit_log"}):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege), filled.narrowed().transaction(school=first) as cursor:
            cursor.execute(f"UPDATE {table} SET {key_of(table)} = %s", (second,))


def test_what_one_transaction_is_about_is_forgotten_with_it(filled: CloudDatabase) -> None:
    with filled.transaction(read_only=True) as cursor:
        cursor.execute("SELECT id FROM schools ORDER BY id LIMIT 1")
        (school,) = cursor.fetchone()  # type: ignore[misc]
    narrow = filled.narrowed()  # over the same connections
    for _ in range(3):
        with narrow.transaction(school=school) as cursor:
            assert counts(cursor, {"users"}) == {"users": [school]}
        with narrow.transaction() as cursor:
            assert counts(cursor, {"users"}) == {"users": []}
        with pytest.raises(ZeroDivisionError), narrow.transaction(school=school):
            raise ZeroDivisionError
        with narrow.transaction(read_only=True, snapshot=True) as cursor:
            assert counts(cursor, {"users"}) == {"users": []}


def test_a_thousand_at_once_that_type_a_single_code_become_one_device(school: SchoolBuilder) -> None:
    """See test_enrolment for what one redemption does; here it is what a crowd gets."""
    ada = school.add_user("ada")
    code, narrow = school.code(Grant("student", ada.id)), school.database.narrowed()
    won: list[str] = []
    refused: list[int] = []

    def race(number: int) -> None:
        for attempt in range(1000 // 20):
            try:
                name = f"laptop {number} {attempt}"
                device = narrow.retrying(lambda cursor: redeem(cursor, school.ids, code, name, "1", 1_000))  # noqa: B023
                won.append(device.id)
            except (Forbidden, Unavailable):
                refused.append(1)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), len(refused)) == (1, 999)
    assert school.value("SELECT count(*) FROM devices") == 1


@pytest.mark.parametrize("statement", ["UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log", "TRUNCATE audit_log"])
def test_nobody_changes_the_audit_log(filled: CloudDatabase, statement: str) -> None:
    with pytest.raises(psycopg2.errors.InsufficientPrivilege, match="only ever added to"), filled.transaction() as cursor:
        cursor.execute(statement)


def test_entries_of_the_audit_log_go_when_their_time_is_over_and_those_of_another_school_stay(filled: CloudDatabase) -> None:
    with filled.transaction() as cursor:
        cursor.execute("SELECT school_id, at_ms FROM audit_log ORDER BY at_ms")
        before = cursor.fetchall()
        (school, at_ms), *_ = before
        assert audit.forget(cursor, school, at_ms, 10) == 0
        assert audit.forget(cursor, school, at_ms + 1, 10) == 1
        cursor.execute("SELECT school_id, at_ms FROM audit_log ORDER BY at_ms")
        assert cursor.fetchall() == before[1:]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege), filled.transaction() as cursor:
        cursor.execute("DELETE FROM audit_log")  # what was allowed to that transaction is over with it
