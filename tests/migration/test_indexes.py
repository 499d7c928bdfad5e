"""The indexes of question_attempts are made where they are missing, without stopping a large school."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from cloud_api.embedded import DatabaseServer
from migrations.engines import Limits, PostgresEngine
from migrations.indexes import ATTEMPT_INDEXES, ensure_indexes, main
from migrations.partitioning import Partitioning
from migrations.runner import upgrade_cloud
from tests.migration.populate import populate_cloud

NAMES = sorted(index.name for index in ATTEMPT_INDEXES)
# The table's, and those of its partitions.
DEFINITIONS = "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'question_attempts' ORDER BY 1"


@pytest.fixture
def school(fresh_database: str) -> Iterator[Any]:
    """A connection to a populated database."""
    upgrade_cloud(fresh_database)
    with closing(psycopg2.connect(fresh_database, options="-c carrel.every_school=on")) as connection:
        populate_cloud(connection)
        connection.autocommit = True
        yield connection


@pytest.fixture
def engine(fresh_database: str) -> Iterator[PostgresEngine]:
    engine = PostgresEngine(fresh_database, Limits())
    yield engine
    engine.close()


def rows(connection: Any, statement: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


@pytest.mark.parametrize(("large_rows", "how"), [(3, ""), (2, " concurrently")])
def test_missing_indexes_are_made_as_they_were_and_concurrently_when_the_table_is_large(
    school: Any, engine: PostgresEngine, large_rows: int, how: str
) -> None:
    before = rows(school, DEFINITIONS)
    for name in NAMES:
        rows(school, f"DROP INDEX {name}")
    assert sorted(ensure_indexes(engine, large_rows=large_rows)) == [name + how for name in NAMES]
    assert rows(school, DEFINITIONS) == before
    assert ensure_indexes(engine, large_rows=large_rows) == []


def test_the_statement_for_a_large_table_is_the_one_that_lets_others_write(school: Any, engine: PostgresEngine) -> None:
    rows(school, f"DROP INDEX {NAMES[0]}")
    statements: list[str] = []
    execute = engine.database.execute_sql

    def noted(sql: str, params: Any = None) -> Any:
        statements.append(sql)
        return execute(sql, params)

    engine.database.execute_sql = noted  # type: ignore[method-assign]
    ensure_indexes(engine, large_rows=1)
    assert [sql.split(" ON ")[0] for sql in statements if sql.startswith("CREATE INDEX")] == [
        f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {NAMES[0]}"
    ]


def test_an_index_that_a_broken_off_build_left_invalid_is_built_again(
    school: Any, engine: PostgresEngine, postgres: DatabaseServer, fresh_database: str
) -> None:
    with closing(psycopg2.connect(postgres.superuser_url_for(fresh_database.rpartition("/")[2]))) as superuser, superuser:
        rows(superuser, f"UPDATE pg_index SET indisvalid = false WHERE indexrelid = '{NAMES[0]}'::regclass")
    assert ensure_indexes(engine, large_rows=1) == [f"{NAMES[0]} concurrently"]
    assert rows(school, f"SELECT indisvalid FROM pg_index WHERE indexrelid = '{NAMES[0]}'::regclass") == [(True,)]


def test_a_partitioned_table_gets_its_index_partition_by_partition(school: Any, engine: PostgresEngine) -> None:
    Partitioning(engine).run(months_ahead=2)
    before = rows(school, DEFINITIONS)
    rows(school, f"DROP INDEX {NAMES[0]}")
    assert ensure_indexes(engine, large_rows=1) == [f"{NAMES[0]} concurrently"]
    assert rows(school, DEFINITIONS) == before
    assert rows(school, "SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
    assert rows(school, f"SELECT count(*) FROM pg_inherits WHERE inhparent = '{NAMES[0]}'::regclass") == [(3,)]


def test_the_command_tells_what_it_made(school: Any, fresh_database: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows(school, f"DROP INDEX {NAMES[0]}")
    assert main(["--url", fresh_database]) == 0
    assert capsys.readouterr().out == f"made {NAMES[0]}\n"
