"""An index that a large table of a working school lacks, for instance after a restore without indexes: `python -m migrations.indexes`.

A plain CREATE INDEX keeps every push waiting until it is done: seconds for millions of attempts, minutes for a hundred million.
On a table that large it is built CONCURRENTLY, which waits for others instead of making them wait. A partitioned table cannot do that by itself:
there every partition gets its index, one after the other, and the table's becomes valid with the last.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import peewee as pw

from domain.errors import SchemaError
from migrations.engines import PostgresEngine, first_line
from migrations.upkeep import carry_out, upkeep_parser
from migrations.waiting import SILENCE, Activity

# Up to here a plain CREATE INDEX takes a tenth of a second, and is one transaction.
LARGE_ROWS = 100_000


class Index(NamedTuple):
    """An index by name, with what stands after ON tablename in its definition."""

    name: str
    table: str
    columns: str


# Those of question_attempts, the table that grows (migrations/cloud/0001_initial.py); a test compares them.
ATTEMPT_INDEXES = (
    Index("idx_attempts_student_timestamp", "question_attempts", "(school_id, student_id, answered_at_ms)"),
    Index("idx_attempts_feed", "question_attempts", "(school_id, student_id, feed_no)"),
)


def ensure_indexes(
    engine: PostgresEngine,
    large_rows: int = LARGE_ROWS,
    activity: Activity = SILENCE,
) -> list[str]:
    """Makes those that are missing or invalid. Returns their names, with `concurrently` after those that were built so.

    Raises AlreadyRunning while another process migrates, SchemaError when PostgreSQL refuses, for instance a table that is not there.
    """
    with engine.locked():
        try:
            made = []
            for index in ATTEMPT_INDEXES:
                with activity.during(f"making {index.name}"):
                    made.append(_ensure(engine, index, large_rows))
            return [name for name in made if name]
        except pw.PeeweeException as error:
            raise SchemaError(f"An index was not made; what was begun is finished by the next run: {first_line(error)}.") from error


def _ensure(engine: PostgresEngine, index: Index, large_rows: int) -> str | None:
    execute = engine.database.execute_sql
    row = execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", (index.name,)).fetchone()
    if row and row[0]:
        return None
    query = f"SELECT count(*) FROM (SELECT FROM {index.table} LIMIT %s) AS first"
    if execute(query, (large_rows + 1,)).fetchone()[0] <= large_rows:
        with engine.atomic():
            execute(f"DROP INDEX IF EXISTS {index.name}")
            execute(f"CREATE INDEX {index.name} ON {index.table} {index.columns}")
        return index.name
    if execute("SELECT relkind FROM pg_class WHERE oid = to_regclass(%s)", (index.table,)).fetchone()[0] == "p":
        _build_by_partition(engine, index)
    else:
        _build_concurrently(execute, index.name, index.table, index.columns)
    return f"{index.name} concurrently"


def _build_by_partition(engine: PostgresEngine, index: Index) -> None:
    execute = engine.database.execute_sql
    with engine.atomic():  # which does not wait long for its locks
        execute(f"CREATE INDEX IF NOT EXISTS {index.name} ON ONLY {index.table} {index.columns}")
    partitions = execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = to_regclass(%s)", (index.table,)).fetchall()
    for (partition,) in partitions:
        own = f"{index.name}_{partition.removeprefix(f'{index.table}_')}"
        _build_concurrently(execute, own, partition, index.columns)
        with engine.atomic():
            execute(f"ALTER INDEX {index.name} ATTACH PARTITION {own}")


def _build_concurrently(execute: Any, name: str, table: str, columns: str) -> None:
    """An invalid one, which a run that was broken off leaves, would be taken for done by IF NOT EXISTS."""
    row = execute("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", (name,)).fetchone()
    if row and not row[0]:
        execute(f"DROP INDEX CONCURRENTLY {name}")
    execute(f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {table} {columns}")


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m migrations.indexes [--url URL]`: makes what is missing and tells it. Returns the exit code."""
    parser = upkeep_parser("migrations.indexes", __doc__)
    options = parser.parse_args(arguments)
    return carry_out(parser, options.url, "made", lambda engine, _limits, waiting: ensure_indexes(engine, activity=waiting))


if __name__ == "__main__":
    sys.exit(main())
