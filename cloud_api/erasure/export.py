"""Everything that a server holds about one student, for the student: rows as JSON, and each table as CSV.

    <folder>/carrel-export-<student id>/    export.json    <table>.csv …

What is nobody's to carry away, hashes of passwords and tokens, is left out. A text that a spreadsheet would run as a formula has an apostrophe
before it in the CSV files; the JSON has it as it is.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_api.database import Cursor
from cloud_api.erasure.holdings import holdings, parameters_for
from cloud_api.learning.mastery import refresh
from domain.errors import OperatorError
from migrations.private_files import MODE, to_disk

FOLDER_MODE = 0o700
PARTIAL = ".partial"
JSON_NAME = "export.json"
_SECRET = ("password_hash", "token_hash")
# What is written about the student, by whomever; the student's own doings as well.
_AUDIT = "school_id = %(school)s AND (subject = %(student)s OR actor = 'user:' || %(student)s)"
# The classes by name, which class_members knows by id only.
_CLASSES = "school_id = %(school)s AND id IN (SELECT class_id FROM class_members WHERE school_id = %(school)s AND user_id = %(student)s)"
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

Rows = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Exported:
    """Where an export lies, and its rows by table."""

    path: Path
    rows: dict[str, int]


def gather(cursor: Cursor, school_id: str, student_id: str, now_ms: int) -> dict[str, Rows]:
    """Every row about the student by table, tables without any left out; in the caller's transaction, which brings mastery up to date first."""
    refresh(cursor, school_id, [student_id], now_ms)
    parameters = parameters_for(cursor, school_id, student_id)
    conditions = {holding.table: holding.condition for holding in holdings(cursor)} | {"audit_log": _AUDIT, "classes": _CLASSES}
    found = {table: _rows(cursor, table, condition, parameters) for table, condition in sorted(conditions.items())}
    return {table: rows for table, rows in found.items() if rows}


def _rows(cursor: Cursor, table: str, condition: str, parameters: Mapping[str, Any]) -> Rows:
    # As text, for a dead letter may hold what no jsonb can.
    cursor.execute(f"SELECT row_to_json(t)::text FROM {table} t WHERE {condition}", parameters)
    rows = [json.loads(text) for (text,) in cursor.fetchall()]
    return [{name: value for name, value in row.items() if name not in _SECRET} for row in rows]


def write(folder: Path, student_id: str, tables: Mapping[str, Rows], at_ms: int) -> Exported:
    """Writes an export into a folder of its own, whole or not at all, for this account alone. Raises OperatorError."""
    target = folder / f"carrel-export-{student_id}"
    if target.exists():
        raise OperatorError(f"{target} exists already.")
    partial = target.with_name(target.name + PARTIAL)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=FOLDER_MODE)
        document = {"student_id": student_id, "exported_at_ms": at_ms, "tables": tables}
        _write(partial / JSON_NAME, json.dumps(document, ensure_ascii=False, indent=1))
        for table, rows in tables.items():
            _write(partial / f"{table}.csv", _csv(rows))
        to_disk(partial)
        partial.rename(target)
        to_disk(folder)
    except OSError as error:
        raise OperatorError(f"{target} cannot be written: {error.strerror}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(target, {table: len(rows) for table, rows in tables.items()})


def _write(path: Path, text: str) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, MODE), "wb") as file:
        file.write(text.encode("utf-8", "surrogatepass"))
    to_disk(path)


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)
    return out.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
