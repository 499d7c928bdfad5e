"""Rows that were deleted stay so: what comes for one of them from a late device is refused, or kept as a conflict.

Read after the school's counter is taken: whoever deletes takes it too, so no deletion comes in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg2.extras import execute_values

from cloud_api.sync.batch import Batch, DecodedRun
from cloud_api.sync.insert import Target
from cloud_api.sync.rows import existing_ids
from domain.operations import Rejection
from domain.registry import Policy

MESSAGE = "The row was deleted."


def tables_with_tombstones(cursor: Any, school_id: str, tables: Iterable[str]) -> frozenset[str]:
    """Those of the tables of which the school has ever deleted a row, mostly none; one statement, a look into an index for each table."""
    asked = sorted(set(tables))
    # One subselect for each: of a join PostgreSQL would make a hash of all tombstones.
    probe = "EXISTS (SELECT FROM tombstones WHERE school_id = %s AND table_name = %s)"
    cursor.execute(f"SELECT {', '.join([probe] * len(asked))}", [value for table in asked for value in (school_id, table)])
    return frozenset(table for table, found in zip(asked, cursor.fetchone(), strict=True) if found)


def deleted_rows(cursor: Any, school_id: str, table: str, row_ids: Sequence[str]) -> Mapping[str, str]:
    """Those of the rows that were deleted, each with the scope that it was in. A row that only moved to another scope is not deleted."""
    cursor.execute(
        "SELECT row_id, scope FROM tombstones WHERE school_id = %s AND table_name = %s AND row_id = ANY(%s::uuid[]) ORDER BY feed_no",
        (school_id, table, list(row_ids)),
    )
    buried = dict(cursor.fetchall())
    if not buried:
        return {}
    there = existing_ids(cursor, table, school_id, list(buried))
    return {row_id: scope for row_id, scope in buried.items() if row_id not in there}


def refuse_deleted(
    cursor: Any, target: Target, batch: Batch, runs: Sequence[DecodedRun], with_tombstones: frozenset[str], now_ms: int
) -> None:
    """Refuses rows of append-only tables that were deleted."""
    for run in runs:
        if run.table is None or run.table.policy is not Policy.APPEND_ONLY or run.table_name not in with_tombstones:
            continue
        deleted = deleted_rows(cursor, target.school_id, run.table_name, run.row_ids)
        again: dict[str, int] = {}
        for place, row_id in enumerate(run.row_ids):
            seq = run.first_seq + place
            if row_id in deleted and seq not in batch.refusals:
                batch.refuse(seq, Rejection.DELETED, MESSAGE)
                again[row_id] = target.number(seq)
        tell_again(cursor, target.school_id, run.table_name, again, now_ms)


def tell_again(cursor: Any, school_id: str, table: str, numbers: Mapping[str, int], now_ms: int) -> None:
    """Gives the tombstones of rows new feed numbers: the device that had not heard of the deletion hears of it with its next pull.

    They are as good as new, and kept as long: were one of a high number let go of soon, every device would have to begin at 0.
    """
    if numbers:
        execute_values(
            cursor,
            "UPDATE tombstones AS t SET feed_no = n.feed_no, deleted_at_ms = n.now_ms"
            " FROM (VALUES %s) AS n (school_id, table_name, row_id, feed_no, now_ms)"
            " WHERE t.school_id = n.school_id AND t.table_name = n.table_name AND t.row_id = n.row_id",
            [(school_id, table, row_id, number, now_ms) for row_id, number in numbers.items()],
            template="(%s::uuid, %s, %s::uuid, %s::bigint, %s::bigint)",
        )
