"""Rows that refer to other rows: what PostgreSQL would refuse as a set is told apart operation by operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cloud_api.sync.batch import Batch, DecodedRun
from cloud_api.sync.rows import existing_ids
from domain.operations import Rejection

# Which table a column of a table that devices write refers to; the foreign keys of the first migration, by column.
REFERENCES: dict[str, dict[str, str]] = {
    "question_attempts": {"student_id": "users", "question_id": "questions"},
    "study_plans": {"student_id": "users"},
    "study_plan_items": {"plan_id": "study_plans", "concept_id": "concepts"},
    "student_profiles": {"id": "users"},
}


def judge_by_references(cursor: Any, school_id: str, batch: Batch, run: DecodedRun, places: Sequence[int]) -> list[int]:
    """The places of `places` whose row refers only to rows that exist; the others are refused.

    A row that builds on one that was itself refused, now or earlier, is refused as `depends_on`.
    """
    left = list(places)
    for column, referred in REFERENCES.get(run.table_name, {}).items():
        wanted = {_value(run, column, i) for i in left}
        missing = wanted - existing_ids(cursor, referred, school_id, list(wanted)) if wanted else set()
        if not missing:
            continue
        refused_before = refused_rows(cursor, school_id, batch, missing)
        for place in left:
            target = _value(run, column, place)
            if target in refused_before:
                batch.refuse(run.first_seq + place, Rejection.DEPENDS_ON, f"{column} names a row that was rejected.")
            elif target in missing:
                batch.refuse(run.first_seq + place, Rejection.UNKNOWN_REFERENCE, f"{column} names a row that does not exist.")
        left = [i for i in left if _value(run, column, i) not in missing]
    return left


def _value(run: DecodedRun, column: str, place: int) -> str:
    return str(run.row_ids[place] if column == "id" else run.fields[column][place])


def refused_rows(cursor: Any, school_id: str, batch: Batch, row_ids: set[str]) -> set[str]:
    """Those of the rows whose operations were refused in this batch or are dead letters."""
    refused = {
        run.row_ids[seq - run.first_seq] for run in batch.runs for seq in batch.refusals if run.first_seq <= seq < run.first_seq + run.count
    } & row_ids
    cursor.execute("SELECT DISTINCT row_id FROM dead_letters WHERE school_id = %s AND row_id = ANY(%s::uuid[])", (school_id, list(row_ids)))
    return refused | {row[0] for row in cursor.fetchall()}
