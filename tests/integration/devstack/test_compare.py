"""The comparison of both databases finds a single altered value, on either side."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from cloud_api.database import CloudDatabase
from cloud_api.embedded import DatabaseServer
from cloud_api.publication import read_rows
from cloud_api.sync.rows import upsert_rows
from devstack.compare import cloud_rows, compare, device_rows
from domain.ids import IdSource
from domain.registry import TABLES
from migrations.runner import upgrade_device
from tests.support.cloud import SchoolBuilder
from tests.support.postgres import temporary_database

IDS = IdSource(lambda: 1_700_000_000_000)


@dataclass(frozen=True)
class Both:
    """A school's database, and a device that holds all of it."""

    database: CloudDatabase
    school_id: str
    device: Path

    def differing(self) -> dict[str, tuple[str, ...]]:
        found = compare(device_rows(self.device), cloud_rows(self.database, self.school_id))
        return {t.table: t.differing for t in found if t.differing}


@pytest.fixture(scope="module")
def original(postgres: DatabaseServer, cloud_template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """Both sides with a course, a student and two attempts; nobody is connected to them."""
    with temporary_database(postgres, cloud_template) as url:
        database, path = CloudDatabase(url), tmp_path_factory.mktemp("original") / "device.sqlite3"
        school = SchoolBuilder.build(database)
        school.import_course()
        student = school.add_user("ada").id
        with database.transaction() as cursor:
            question = next(iter(read_rows(cursor, TABLES["questions"], school.id)))
            upsert_rows(cursor, TABLES["question_attempts"], school.id, [_attempt(student, question, correct) for correct in (True, False)])
        _write_device(path, database, school.id)
        database.close()
        yield Both(database, school.id, path)


@pytest.fixture
def both(original: Both, postgres: DatabaseServer, tmp_path: Path) -> Iterator[Both]:
    """A copy of both sides, to be altered."""
    path = shutil.copy(original.device, tmp_path)
    with temporary_database(postgres, urlsplit(original.database.url).path.removeprefix("/")) as url:
        database = CloudDatabase(url)
        yield Both(database, original.school_id, Path(path))
        database.close()


def test_equal_databases_have_no_differing_row(both: Both) -> None:
    found = {t.table: t for t in compare(device_rows(both.device), cloud_rows(both.database, both.school_id))}
    assert set(found) == set(TABLES)
    assert not any(t.differing for t in found.values())
    assert (found["questions"].on_device, found["questions"].in_cloud) == (544, 544)
    assert (found["question_attempts"].on_device, found["question_attempts"].in_cloud) == (2, 2)


@pytest.mark.parametrize(
    ("table", "change"),
    [
        ("question_attempts", "correct = 1 - correct"),
        ("question_attempts", "answered_at_ms = answered_at_ms + 1"),
        ("question_attempts", "corrected_at_ms = answered_at_ms"),
        ("question_attempts", "feed_no = feed_no + 1"),
        ("question_attempts", "_extra = NULL"),
        ("questions", "choices = '[]'"),
        ("users", "display_name = 'Ada L.'"),
    ],
)
def test_one_altered_value_on_the_device_is_found(both: Both, table: str, change: str) -> None:
    with closing(sqlite3.connect(both.device)) as conn, conn:
        row_id = conn.execute(f"SELECT min(id) FROM {table}").fetchone()[0]
        conn.execute(f"UPDATE {table} SET {change} WHERE id = ?", (row_id,))
    assert both.differing() == {table: (row_id,)}


@pytest.mark.parametrize("change", ["correct = NOT correct", "answer = NULL", "active_ms = active_ms + 1"])
def test_one_altered_value_at_school_is_found(both: Both, change: str) -> None:
    with both.database.transaction() as cursor:
        row_id = min(read_rows(cursor, TABLES["question_attempts"], both.school_id))
        cursor.execute(f"UPDATE question_attempts SET {change} WHERE id = %s", (row_id,))
    assert both.differing() == {"question_attempts": (row_id,)}


def test_a_row_that_is_missing_on_one_side_is_found(both: Both) -> None:
    with both.database.transaction() as cursor:
        here_only, there_only = sorted(read_rows(cursor, TABLES["question_attempts"], both.school_id))
        cursor.execute("DELETE FROM question_attempts WHERE id = %s", (here_only,))
    with closing(sqlite3.connect(both.device)) as conn, conn:
        conn.execute("DELETE FROM question_attempts WHERE id = ?", (there_only,))
    assert both.differing() == {"question_attempts": (here_only, there_only)}


def _write_device(path: Path, database: CloudDatabase, school_id: str) -> None:
    """A device's file with every row of the school, as pulls leave it."""
    upgrade_device(path)
    with closing(sqlite3.connect(path)) as conn, conn, database.transaction(read_only=True) as cursor:
        for table in TABLES.values():
            for row in read_rows(cursor, table, school_id).values():
                marks = ", ".join("?" * len(row))
                conn.execute(f"INSERT INTO {table.name} ({', '.join(row)}) VALUES ({marks})", [_stored(v) for v in row.values()])


def _attempt(student: str, question: str, correct: bool) -> dict[str, Any]:
    return {
        "id": IDS.new(), "student_id": student, "question_id": question, "answer": "7", "correct": correct,
        "answered_at_ms": 1_700_000_000_000, "active_ms": 900, "confidence": None, "purpose": "free", "device_id": IDS.new(),
        "corrected_at_ms": None, "feed_no": 9_000, "origin_no": 0, "_extra": {"mood": "fine"},
    }  # fmt: skip


def _stored(value: Any) -> Any:
    """A value of PostgreSQL as a device stores it."""
    if isinstance(value, bool):
        return int(value)
    return json.dumps(value) if isinstance(value, list | dict) else value
