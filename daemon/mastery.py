"""The table `concept_mastery`: a cache of the fold over a student's attempts (domain/mastery.py), filled again when it is stale."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress

from daemon.attempts import folded_attempts
from daemon.database import DeviceDatabase
from daemon.models import ConceptMastery
from domain.clock import Clock
from domain.errors import StorageFull
from domain.ids import Id
from domain.mastery import MODEL_VERSION, Rates, fold_ordered, mastery_rows

# Scores fall as time passes, within an hour by at most 0.004; a cache older than that is filled again.
AGE_MAX_MS = 60 * 60 * 1000
# The school's table of success rates does not travel to devices yet: every concept and question counts as average.
RATES = Rates.empty()


def refresh(database: DeviceDatabase, student_id: Id, clock: Clock) -> None:
    """Folds the student's attempts and replaces their rows in one transaction, some 15 µs an attempt on the writer."""
    database.write(lambda conn: _replace(conn, student_id, clock.now_ms()))


def refresh_stale(database: DeviceDatabase, clock: Clock) -> int:
    """Refreshes every student whose attempts changed since, each in a transaction of their own. Returns how many."""
    with database.read() as conn:
        stale = [Id(row[0]) for row in conn.execute("SELECT student_id FROM mastery_stale ORDER BY student_id")]
    for student_id in stale:
        refresh(database, student_id, clock)
    return len(stale)


def mastery_of(database: DeviceDatabase, student_id: Id, clock: Clock, after: str, limit: int) -> Sequence[ConceptMastery]:
    """At most `limit` rows of a student by concept id, beginning behind the concept `after`; refreshed first when they are stale."""
    with database.read() as conn:
        stale = _is_stale(conn, student_id, clock.now_ms())
    if stale:
        with suppress(StorageFull):  # older rows say how old they are, and reading goes on
            refresh(database, student_id, clock)
    query = ConceptMastery.select().where((ConceptMastery.student_id == student_id) & (ConceptMastery.concept_id > after))
    with database.read():
        return list(query.order_by(ConceptMastery.concept_id).limit(limit))


def _is_stale(conn: sqlite3.Connection, student_id: Id, now_ms: int) -> bool:
    if conn.execute("SELECT 1 FROM mastery_stale WHERE student_id = ?", (student_id,)).fetchone():
        return True
    computed = conn.execute(
        "SELECT computed_at_ms, model_version FROM concept_mastery WHERE student_id = ? ORDER BY computed_at_ms LIMIT 1", (student_id,)
    ).fetchone()
    if computed is None:
        return conn.execute("SELECT 1 FROM question_attempts WHERE student_id = ? LIMIT 1", (student_id,)).fetchone() is not None
    return not 0 <= now_ms - computed[0] <= AGE_MAX_MS or computed[1] != MODEL_VERSION


def _replace(conn: sqlite3.Connection, student_id: Id, now_ms: int) -> None:
    rows = mastery_rows(fold_ordered(folded_attempts(conn, student_id), RATES), now_ms)
    conn.execute("DELETE FROM concept_mastery WHERE student_id = ?", (student_id,))
    conn.executemany(
        "INSERT INTO concept_mastery (student_id, concept_id, score, evidence, attempts, correct_attempts, last_attempt_at_ms, level,"
        " model_version, computed_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (student_id, r.concept_id, r.score, r.evidence, r.attempts, r.right, r.last_attempt_at_ms, r.level.value, MODEL_VERSION, now_ms)
            for r in rows
        ],
    )
    conn.execute("DELETE FROM mastery_stale WHERE student_id = ?", (student_id,))
