"""The floors: the least that the same work costs with the same databases, without Carrel. All SQL of the benchmarks that is measured is here."""

from __future__ import annotations

import csv
import io
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import psycopg2

from daemon.config import DATABASE_NAME
from daemon.identity.boot import boot_id
from domain.ids import Id, IdSource

# Those of daemon/database.py that bear on speed.
_PRAGMAS = ("journal_mode = wal", "synchronous = full", "foreign_keys = 1", "cache_size = -2000", "mmap_size = 0", "cell_size_check = 1")

# Columns of question_attempts as both sides have them, in the order of the floors' statements.
_SHARED = "id, student_id, question_id, answer, correct, answered_at_ms, active_ms, confidence, purpose, device_id, corrected_at_ms"
_PLAIN_IDS = ", ".join(
    f"replace({name}::text, '-', '')" if name == "id" or name.endswith("_id") else "correct::int" if name == "correct" else name
    for name in _SHARED.split(", ")
)

_INSERT_ATTEMPT = (
    "INSERT INTO question_attempts (id, student_id, question_id, answer, correct, answered_at_ms, active_ms, confidence, purpose, device_id)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_OPERATION = (
    "INSERT INTO sync_operations (op_id, table_name, row_id, kind, schema_version, hlc, wall_ms, mono_ms, boot_no, payload)"
    " VALUES (?, 'question_attempts', ?, 'insert', 1, 0, ?, ?, ?, ?)"
)


def open_file(folder: Path) -> sqlite3.Connection:
    """A device's database with the pragmas that the daemon sets."""
    conn = sqlite3.connect(folder / DATABASE_NAME, isolation_level=None)
    for pragma in _PRAGMAS:
        conn.execute(f"PRAGMA {pragma}")
    return conn


class BareWriter:
    """Writes an attempt and its operation to a device's file with nothing in between."""

    def __init__(self, conn: sqlite3.Connection, student_id: str, question_id: str, payload: str) -> None:
        self._conn, self._student_id, self._question_id, self._payload = conn, student_id, question_id, payload
        self._ids = IdSource(lambda: time.time_ns() // 1_000_000)
        conn.execute("INSERT OR IGNORE INTO boots (boot_id) VALUES (?)", (boot_id(),))
        self._boot_no = conn.execute("SELECT boot_no FROM boots WHERE boot_id = ?", (boot_id(),)).fetchone()[0]

    def write(self) -> float:
        """One transaction of the two rows; its seconds."""
        id_, now_ms = self._ids.new(), time.time_ns() // 1_000_000
        started_s = time.perf_counter()
        self._conn.execute("BEGIN IMMEDIATE")
        self._conn.execute(
            _INSERT_ATTEMPT, (id_, self._student_id, self._question_id, "7", 1, now_ms, 5_000, None, "free", self._student_id)
        )
        self._conn.execute(_INSERT_OPERATION, (id_, id_, now_ms, now_ms, self._boot_no, self._payload))
        self._conn.execute("COMMIT")
        return time.perf_counter() - started_s


def load_by_copy(folder: Path, database_url: str, school_id: str) -> float:
    """Reads every attempt of a device's file and loads it into question_attempts with one COPY, committed; the seconds.

    The table is the product's own in a copy of the same database: the same columns, indexes and trigger.
    """
    with closing(open_file(folder)) as conn, closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        started_s = time.perf_counter()
        rows = conn.execute(f"SELECT ?, {_SHARED}, row_number() OVER (), 1 FROM question_attempts", (school_id,))
        text = io.StringIO()
        csv.writer(text).writerows(rows)
        text.seek(0)
        cursor.copy_expert(f"COPY question_attempts (school_id, {_SHARED}, feed_no, origin_no) FROM STDIN (FORMAT csv)", text, 256 * 1024)
        connection.commit()
        return time.perf_counter() - started_s


def fetch_by_copy(database_url: str, folder: Path) -> float:
    """Reads every attempt of the server with one COPY and writes it to an empty device's file with one executemany, committed; the seconds."""
    with closing(open_file(folder)) as conn, closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        started_s = time.perf_counter()
        text = io.StringIO()
        cursor.copy_expert(f"COPY (SELECT {_PLAIN_IDS}, feed_no FROM question_attempts) TO STDOUT (FORMAT csv)", text, 256 * 1024)
        text.seek(0)
        conn.execute("BEGIN IMMEDIATE")
        conn.executemany(
            f"INSERT INTO question_attempts ({_SHARED}, feed_no)"
            # CSV knows no NULL but the empty field.
            " VALUES (?, ?, ?, nullif(?, ''), ?, ?, nullif(?, ''), nullif(?, ''), ?, ?, nullif(?, ''), ?)",
            csv.reader(text),
        )
        conn.execute("COMMIT")
        return time.perf_counter() - started_s


def attempt_ids(conn: sqlite3.Connection) -> set[Id]:
    """The ids of the attempts in a device's file."""
    return {Id(row[0]) for row in conn.execute("SELECT id FROM question_attempts")}
