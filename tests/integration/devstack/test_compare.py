"""The comparison of both databases finds a single altered value, on either side."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from cloud_api.database import CloudDatabase
from cloud_api.publication import read_rows
from cloud_api.sync.rows import upsert_rows
from devstack.compare import cloud_rows, compare, device_rows
from domain.ids import IdSource
from domain.registry import TABLES, Kind
from migrations.runner import upgrade_device
from tests.support.cloud import SchoolBuilder

IDS = IdSource(lambda: 1_700_000_000_000)


@pytest.fixture
def filled(school: SchoolBuilder, database: CloudDatabase) -> SchoolBuilder:
    """A school with a course, a student, a profile and two attempts."""
    school.import_course()
    student = school.add_user("ada").id
    with database.transaction() as cursor:
        question = next(iter(read_rows(cursor, TABLES["questions"], school.id)))
        device = school.enrol_ids() if hasattr(school, "enrol_ids") else IDS.new()
        attempts = [_attempt(student, question, device, correct) for correct in (True, False)]
        upsert_rows(cursor, TABLES["question_attempts"], school.id, attempts)
    return school


@pytest.fixture
def device_file(filled: SchoolBuilder, database: CloudDatabase, tmp_path: Path) -> Iterator[Path]:
    """A device that holds all of the school, as a pull leaves it."""
    path = tmp_path / "device.sqlite3"
    upgrade_device(path)
    with closing(sqlite3.connect(path)) as conn, conn, database.transaction(read_only=True) as cursor:
        for table in TABLES.values():
            for row in read_rows(cursor, table, filled.id).values():
                marks = ", ".join("?" * len(row))
                conn.execute(f"INSERT INTO {table.name} ({', '.join(row)}) VALUES ({marks})", [_stored(v) for v in row.values()])
    yield path


def _attempt(student: str, question: str, device: str, correct: bool) -> dict[str, Any]:
    return {
        "id": IDS.new(), "student_id": student, "question_id": question, "answer": "7", "correct": correct,
        "answered_at_ms": 1_700_000_000_000, "active_ms": 900, "confidence": None, "purpose": "free", "device_id": device,
        "corrected_at_ms": None, "feed_no": 9_000, "origin_no": 0, "_extra": {"mood": "fine"},
    }  # fmt: skip
