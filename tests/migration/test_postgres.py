"""What only PostgreSQL has: files outside a transaction, table locks that others hold."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg2
import pytest

from domain.errors import PostgresUnavailable, SchemaError, Unavailable
from migrations.engines import Limits
from tests.migration.conftest import Target

PIECEWISE = "ATOMIC = False"
VALID = "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname ~ '^idx' ORDER BY 1"


def test_create_index_concurrently_runs_in_a_file_that_is_not_atomic(cloud: Target) -> None:
    cloud.folder.add_tables(1)
    cloud.folder.add("0002_index", ["CREATE INDEX CONCURRENTLY idx_a ON table_1 (id)"], ["DROP INDEX CONCURRENTLY idx_a"], PIECEWISE)
    cloud.upgrade()
    assert cloud.sql(VALID) == [("idx_a", True)]
    cloud.downgrade("-1")
    assert cloud.sql(VALID) == []


def test_a_failed_concurrent_index_is_dropped_and_built_again_by_the_next_upgrade(cloud: Target) -> None:
    cloud.folder.add("0001_rows", ["CREATE TABLE t (a INTEGER)", "INSERT INTO t VALUES (1), (1)"])
    statements = ["CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_a ON t (a)", "CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS idx_b ON t (a)"]
    cloud.folder.add("0002_indexes", statements, extra=PIECEWISE)
    with pytest.raises(SchemaError, match=r"^0002_indexes failed, what it did before that stays, and upgrade will run it again: "):
        cloud.upgrade()
    assert cloud.sql(VALID) == [("idx_a", True), ("idx_b", False)]
    assert cloud.current() == "0001_rows"
    cloud.sql("DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t)")
    assert cloud.upgrade() == ["0002_indexes"]
    assert cloud.sql(VALID) == [("idx_a", True), ("idx_b", True)]


def test_an_invalid_index_that_the_file_does_not_name_is_left_alone(cloud: Target) -> None:
    cloud.folder.add("0001_rows", ["CREATE TABLE t (a INTEGER)", "INSERT INTO t VALUES (1), (1)"])
    cloud.upgrade()
    with pytest.raises(Exception, match="idx_foreign"):
        cloud.sql("CREATE UNIQUE INDEX CONCURRENTLY idx_foreign ON t (a)")
    cloud.folder.add("0002_index", ["CREATE INDEX CONCURRENTLY idx_a ON t (a)"], extra=PIECEWISE)
    cloud.upgrade()
    assert cloud.sql(VALID) == [("idx_a", True), ("idx_foreign", False)]


def test_a_single_percent_sign_is_refused_with_the_remedy(cloud: Target) -> None:
    cloud.folder.add("0001_like", ["SELECT 'a' LIKE 'a%'"])
    with pytest.raises(SchemaError, match="percent sign is written %%"):
        cloud.upgrade()


@contextmanager
def table_locked(url: str) -> Iterator[psycopg2.extensions.connection]:
    """Another transaction that has `table_1` locked; committing it lets go."""
    connection = psycopg2.connect(url)
    try:
        connection.cursor().execute("LOCK TABLE table_1 IN ACCESS EXCLUSIVE MODE")
        yield connection
    finally:
        connection.close()


def test_a_migration_gives_up_after_its_attempts_when_a_table_stays_locked(cloud: Target) -> None:
    cloud.folder.add_tables(1)
    cloud.upgrade()
    cloud.folder.add("0002_column", ["CREATE TABLE t (id INTEGER)", "ALTER TABLE table_1 ADD COLUMN a INTEGER"])
    cloud.limits = Limits(table_lock_s=0.05, attempts=2, retry_pause_s=0.01)
    with table_locked(cloud.url), pytest.raises(Unavailable, match="0002_column could not lock its tables in 2 attempts"):
        cloud.upgrade()
    assert cloud.tables() == {"table_1"}
    assert cloud.upgrade() == ["0002_column"]


def test_a_migration_tries_again_while_a_table_is_locked(cloud: Target) -> None:
    cloud.folder.add_tables(1)
    cloud.upgrade()
    cloud.folder.add("0002_column", ["ALTER TABLE table_1 ADD COLUMN a INTEGER"])
    cloud.limits = Limits(table_lock_s=0.05, attempts=200, retry_pause_s=0.01)
    attempts_seen: set[int] = set()
    with table_locked(cloud.url) as connection:
        upgrade = threading.Thread(target=cloud.upgrade)
        upgrade.start()
        while len(attempts_seen) < 2:
            assert upgrade.is_alive()
            attempts_seen |= waiting_transactions(cloud)
        connection.commit()
        upgrade.join(30)
    assert cloud.current() == "0002_column"


def waiting_transactions(cloud: Target) -> set[int]:
    """The start of the migrating transaction, in microseconds, if it waits for a lock: another attempt is another transaction."""
    query = (
        "SELECT (extract(epoch FROM xact_start) * 1000000)::bigint FROM pg_stat_activity"
        " WHERE application_name = 'carrel-migrate' AND wait_event_type = 'Lock' AND datname = current_database()"
    )
    return {start for (start,) in cloud.sql(query)}


def test_a_connection_that_broke_leaves_the_question_open_and_the_sentence_says_how_to_answer_it(cloud: Target) -> None:
    cloud.folder.add("0001_breaks", ["CREATE TABLE t (id INTEGER)", "SELECT pg_terminate_backend(pg_backend_pid())"])
    with pytest.raises(
        PostgresUnavailable, match=r"^The connection was lost during 0001_breaks; `current` tells whether it was applied\.$"
    ):
        cloud.upgrade()
    assert cloud.current() is None
    cloud.folder.add("0001_breaks", ["CREATE TABLE t (id INTEGER)"])
    assert cloud.upgrade() == ["0001_breaks"]


def test_what_a_database_has_been_given_against_hanging_requests_does_not_end_a_migration(cloud: Target) -> None:
    name = cloud.url.rpartition("/")[2]
    for setting in ("statement_timeout = '20ms'", "idle_in_transaction_session_timeout = '20ms'"):
        cloud.sql(f'ALTER DATABASE "{name}" SET {setting}')
    # In Python the transaction is idle, in SQL the statement runs: each longer than it might.
    cloud.folder.write(
        "0001_long",
        "import threading\n"
        "def migrate(migrator, database, *, fake=False):\n"
        "    migrator.sql('CREATE TABLE t (id INTEGER)')\n"
        "    migrator.run(threading.Event().wait, 0.2)\n"
        "    migrator.sql('SELECT pg_sleep(0.1)')\n",
    )
    assert cloud.upgrade() == ["0001_long"]
