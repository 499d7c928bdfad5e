"""The table `concept_mastery`: a cache of the fold over a student's attempts (domain/learning/mastery.py), filled again when it is stale."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from daemon.database import DeviceDatabase
from daemon.learning.attempts import Extent, extent_of
from daemon.learning.histories import Histories
from daemon.models.study import ConceptMastery
from domain.clock import Clock
from domain.errors import NotFound, StorageFull
from domain.ids import Id
from domain.learning.explanation import Explanation, explain_score
from domain.learning.mastery import ConceptMastery as FoldedMastery
from domain.learning.mastery import mastery_rows

# Scores fall as time passes, within an hour by at most 0.004; a cache older than that is filled again.
AGE_MAX_MS = 60 * 60 * 1000


@dataclass(frozen=True, slots=True)
class _Folded:
    """The rows of one student, and what they were made from."""

    rows: list[FoldedMastery]
    model_version: str
    extent: Extent
    mark: int
    at_ms: int


def refresh(database: DeviceDatabase, student_id: Id, clock: Clock, histories: Histories | None = None) -> None:
    """Replaces the student's rows by those of now. What changes meanwhile leaves the student stale."""
    folded = _folded(histories or Histories(database), student_id, clock.now_ms())
    database.write(lambda conn: _replace(conn, student_id, folded))


def refresh_stale(database: DeviceDatabase, clock: Clock, histories: Histories | None = None) -> int:
    """Refreshes every student whose attempts changed since, or whose rows another model made. Returns how many."""
    histories = histories or Histories(database)
    histories.let_go(clock.now_ms())
    with database.read() as conn:
        query = "SELECT student_id FROM mastery_stale UNION SELECT student_id FROM concept_mastery WHERE model_version <> ? ORDER BY 1"
        stale = [Id(row[0]) for row in conn.execute(query, (histories.model(conn).version,))]
    for student_id in stale:
        refresh(database, student_id, clock, histories)
    return len(stale)


def mastery_of(
    database: DeviceDatabase, student_id: Id, clock: Clock, after: str, limit: int, histories: Histories | None = None
) -> Sequence[ConceptMastery]:
    """At most `limit` rows of a student by concept id, beginning behind the concept `after`; refreshed first when they are stale."""
    histories = histories or Histories(database)
    with database.read() as conn:
        stale = _is_stale(conn, student_id, clock.now_ms(), histories.model(conn).version)
    if stale:
        with suppress(StorageFull):  # older rows say how old they are, and reading goes on
            refresh(database, student_id, clock, histories)
    query = ConceptMastery.select().where((ConceptMastery.student_id == student_id) & (ConceptMastery.concept_id > after))
    with database.read():
        return list(query.order_by(ConceptMastery.concept_id).limit(limit))


def explained(histories: Histories, student_id: Id, concept_id: Id, now_ms: int) -> Explanation:
    """Why the student's score of a concept is what it is now. Raises NotFound for a concept that was never met."""
    with histories.lock:
        state = histories.up_to_date(student_id, now_ms).state
        if concept_id not in state.concepts:
            raise NotFound("This student has answered nothing about this concept.")
        return explain_score(state, concept_id, now_ms)


def _folded(histories: Histories, student_id: Id, now_ms: int) -> _Folded:
    with histories.lock:
        student = histories.passing(student_id, now_ms)
        return _Folded(mastery_rows(student.state, now_ms), student.model.version, student.extent, student.mark, now_ms)


def _is_stale(conn: sqlite3.Connection, student_id: Id, now_ms: int, model_version: str) -> bool:
    if conn.execute("SELECT 1 FROM mastery_stale WHERE student_id = ?", (student_id,)).fetchone():
        return True
    computed = conn.execute(
        "SELECT computed_at_ms, model_version FROM concept_mastery WHERE student_id = ? ORDER BY computed_at_ms LIMIT 1", (student_id,)
    ).fetchone()
    if computed is None:
        return conn.execute("SELECT 1 FROM question_attempts WHERE student_id = ? LIMIT 1", (student_id,)).fetchone() is not None
    return not 0 <= now_ms - computed[0] <= AGE_MAX_MS or computed[1] != model_version


def _replace(conn: sqlite3.Connection, student_id: Id, folded: _Folded) -> None:
    """Writes the rows, none for a student who has left meanwhile. The student stays marked as stale unless the rows are made of all that is here."""
    conn.execute("DELETE FROM concept_mastery WHERE student_id = ?", (student_id,))
    extent = extent_of(conn, student_id)
    conn.executemany(
        "INSERT INTO concept_mastery (student_id, concept_id, score, evidence, attempts, correct_attempts, last_attempt_at_ms, level,"
        " model_version, computed_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                student_id, r.concept_id, r.score, r.evidence, r.attempts, r.right, r.last_attempt_at_ms, r.level.value,
                folded.model_version, folded.at_ms,
            )
            for r in folded.rows
            if extent.attempts
        ],
    )  # fmt: skip
    if extent == folded.extent:
        conn.execute("DELETE FROM mastery_stale WHERE student_id = ? AND mark IN (0, ?)", (student_id, folded.mark))
