"""Connections and transactions on a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import psycopg2
import psycopg2.errors
import pytest

from cloud_api.config import Database as DatabaseSettings
from cloud_api.database import TRIES_MAX, CloudDatabase, Cursor
from domain.errors import InvalidConfig, Unavailable

CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'carrel-cloud'"


def _value(database: CloudDatabase, query: str) -> object:
    with database.transaction(read_only=True) as cursor:
        cursor.execute(query)
        row = cursor.fetchone()
        assert row is not None
        return row[0]


@contextmanager
def _holding(database: CloudDatabase, count: int) -> Iterator[None]:
    """`count` threads, each inside a transaction."""
    inside, leave = threading.Barrier(count + 1), threading.Event()

    def hold() -> None:
        with database.transaction() as cursor:
            cursor.execute("SELECT 1")
            inside.wait(30)
            leave.wait(30)

    threads = [threading.Thread(target=hold) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        inside.wait(30)
        yield
    finally:
        leave.set()
        for thread in threads:
            thread.join()


def test_thirty_transactions_run_at_once_and_the_next_one_waits_and_is_then_refused(cloud_database: str) -> None:
    database = CloudDatabase(cloud_database, settings=DatabaseSettings(wait_s=0.2))
    with ExitStack() as stack:
        stack.callback(database.close)
        with _holding(database, 30):
            with pytest.raises(Unavailable, match="every connection") as refused, database.transaction():
                pass
            assert refused.value.retryable
        assert _value(database, "SELECT 1") == 1


def test_a_transaction_that_waits_for_a_connection_gets_the_first_one_given_back(cloud_database: str) -> None:
    database = CloudDatabase(cloud_database, max_connections=1, settings=DatabaseSettings(wait_s=30))
    found: list[object] = []
    waiting = threading.Thread(target=lambda: found.append(_value(database, "SELECT 7")))
    with _holding(database, 1):
        waiting.start()
    waiting.join(30)
    database.close()
    assert found == [7]


def test_at_most_ten_connections_stay_open_when_nothing_uses_them(database: CloudDatabase, cloud_database: str) -> None:
    with _holding(database, 25):
        pass
    with psycopg2.connect(cloud_database) as watcher, watcher.cursor() as cursor:
        _until(cursor, CONNECTIONS, lambda count: count <= 10)
        assert _one(cursor, CONNECTIONS) > 0
    watcher.close()


def _one(cursor: Cursor, query: str) -> int:
    cursor.execute(query)
    row = cursor.fetchone()
    assert row is not None
    return int(row[0])


def _until(cursor: Cursor, query: str, reached: Callable[[int], bool]) -> None:
    """A closed connection leaves the server's list a moment later."""
    pause = threading.Event()
    for _ in range(500):
        if reached(_one(cursor, query)):
            return
        cursor.execute("ROLLBACK")  # a transaction keeps its view of the list
        pause.wait(0.01)
    pytest.fail("never reached")


def test_a_backend_killed_while_idle_is_replaced_unnoticed(database: CloudDatabase, cloud_database: str) -> None:
    before = _value(database, "SELECT pg_backend_pid()")
    _kill(cloud_database, before)
    assert _value(database, "SELECT pg_backend_pid()") != before


def test_a_backend_killed_in_a_transaction_is_unavailable_and_the_next_transaction_works(
    database: CloudDatabase, cloud_database: str
) -> None:
    with pytest.raises(Unavailable), database.transaction() as cursor:
        _kill(cloud_database, _one(cursor, "SELECT pg_backend_pid()"))
        cursor.execute("SELECT 1")
    assert _value(database, "SELECT 1") == 1


def test_a_transaction_whose_backend_is_killed_before_commit_is_run_again(database: CloudDatabase, cloud_database: str) -> None:
    runs: list[int] = []

    def run(cursor: Cursor) -> int:
        runs.append(_one(cursor, "SELECT pg_backend_pid()"))
        if len(runs) == 1:
            _kill(cloud_database, runs[0])
        cursor.execute("CREATE TABLE witness AS SELECT 1")
        return len(runs)

    assert database.retrying(run) == 2
    assert _value(database, "SELECT count(*) FROM witness") == 1


def _kill(url: str, pid: object) -> None:
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        assert cursor.fetchone() == (True,)
    connection.close()


@pytest.mark.parametrize("error", [psycopg2.errors.SerializationFailure, psycopg2.errors.DeadlockDetected])
def test_a_transaction_that_loses_against_another_is_run_again_but_not_for_ever(database: CloudDatabase, error: type[Exception]) -> None:
    runs = []

    def lose(cursor: Cursor) -> None:
        runs.append(1)
        raise error

    with pytest.raises(Unavailable):
        database.retrying(lose)
    assert len(runs) == TRIES_MAX


def test_an_error_in_the_block_undoes_its_changes(database: CloudDatabase) -> None:
    with pytest.raises(KeyError), database.transaction() as cursor:
        cursor.execute("CREATE TABLE witness (n int)")
        raise KeyError
    assert _value(database, "SELECT to_regclass('witness')") is None


def test_a_swallowed_error_of_a_statement_is_not_taken_for_a_commit(database: CloudDatabase) -> None:
    with pytest.raises(RuntimeError, match="swallowed"), database.transaction() as cursor, suppress(psycopg2.DataError):
        cursor.execute("SELECT 1/0")
    assert _value(database, "SELECT 1") == 1


def test_a_snapshot_sees_one_moment_and_writes_nothing(database: CloudDatabase) -> None:
    with database.transaction(snapshot=True) as cursor:
        before = _one(cursor, "SELECT count(*) FROM schools")
        other = threading.Thread(target=_add_school, args=(database,))
        other.start()
        other.join()
        assert _one(cursor, "SELECT count(*) FROM schools") == before
    assert _value(database, "SELECT count(*) FROM schools") == before + 1
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction), database.transaction(read_only=True) as cursor:
        cursor.execute("DELETE FROM schools")


def _add_school(database: CloudDatabase) -> None:
    with database.transaction() as cursor:
        cursor.execute("INSERT INTO schools (id, name, created_at_ms) VALUES (gen_random_uuid(), 'another', 0)")


def test_sessions_keep_utc_and_a_limit_on_statements(cloud_database: str) -> None:
    database = CloudDatabase(cloud_database, settings=DatabaseSettings(statement_timeout_s=1))
    assert _value(database, "SHOW timezone") == "UTC"
    with pytest.raises(Unavailable, match="too long"), database.transaction() as cursor:
        cursor.execute("SELECT pg_sleep(60)")
    database.close()


def test_the_first_host_that_answers_is_used_of_an_address_with_several(cloud_database: str) -> None:
    several = cloud_database.replace("@127.0.0.1:", "@127.0.0.1:1,127.0.0.1:")
    if several == cloud_database:
        pytest.skip("the server under test is not at 127.0.0.1")
    database = CloudDatabase(several)
    assert _value(database, "SELECT 1") == 1
    database.close()


def test_a_database_that_cannot_be_reached_is_unavailable() -> None:
    database = CloudDatabase("postgresql://nobody@127.0.0.1:1/none")
    for _ in range(2):
        with pytest.raises(Unavailable), database.transaction():
            pass
    database.close()


def test_a_transaction_inside_another_is_a_mistake(database: CloudDatabase) -> None:
    with database.transaction(), pytest.raises(RuntimeError), database.transaction():
        pass


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(InvalidConfig):
        CloudDatabase("sqlite:///school.db")
