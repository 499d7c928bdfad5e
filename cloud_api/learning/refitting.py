"""Weights of a school's own: fitted on its attempts, published only while they foretell its last month better than the shipped ones."""

from __future__ import annotations

from dataclasses import dataclass

from cloud_api import audit
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.learning.attempts import attempts_of
from cloud_api.learning.model import current_model, current_weights
from cloud_api.learning.publishing import publish_newest
from cloud_api.publication import lock_for_editing
from domain.clock import Clock
from domain.ids import IdSource
from domain.learning.attempts import FoldedAttempt
from domain.learning.features import WEIGHTS
from domain.learning.mastery import MODEL_VERSION
from domain.learning.model import encode_weights
from domain.learning.refit import Refit, refit

# Attempts that a refit looks at, of whole students: some 60 µs and 500 bytes each.
REFIT_ATTEMPTS_MAX = 100_000

# A share of the students that does not depend on who they are, but always the same one.
_STUDENTS = """
SELECT student_id, count(*) FROM question_attempts WHERE school_id = %s GROUP BY student_id ORDER BY md5(student_id::text)
"""


@dataclass(frozen=True, slots=True)
class Refitted:
    """What came of it: `outcome` is `too_few` answers, `kept` the weights in force, `adopted` new ones, or `shipped`: back to those. Losses are mean log
    losses on the last month, None where there was nothing to compare. `model_version` is the one in force afterwards."""

    outcome: str
    attempts: int
    attempts_judged: int
    shipped_loss: float | None
    fitted_loss: float | None
    model_version: str


def refit_school(database: CloudDatabase, clock: Clock, ids: IdSource, school_id: str) -> Refitted:
    """Reads, fits outside of any transaction, and publishes what is better."""
    with database.transaction(read_only=True) as cursor:
        students = _attempts(cursor, school_id)
    attempts = sum(map(len, students.values()))
    result = refit(students)

    def publish(cursor: Cursor) -> Refitted:
        lock_for_editing(cursor, school_id)
        outcome = "too_few" if result is None else _publish(cursor, ids, school_id, result, clock.now_ms())
        judged, shipped, fitted = (result.attempts_judged, result.shipped_loss, result.fitted_loss) if result else (0, None, None)
        return Refitted(outcome, attempts, judged, shipped, fitted, current_model(cursor, school_id).version)

    return database.retrying(publish)


def _publish(cursor: Cursor, ids: IdSource, school_id: str, result: Refit, now_ms: int) -> str:
    in_force = current_weights(cursor, school_id) or WEIGHTS
    if result.weights == in_force:
        return "kept"
    detail = {
        "adopted": result.adopted,
        "judged": result.attempts_judged,
        "shipped_loss": result.shipped_loss,
        "fitted_loss": result.fitted_loss,
    }
    audit.record(cursor, school_id, ids.new(), now_ms, audit.OPERATOR, "weights.published", detail=detail)
    publish_newest(cursor, school_id, "model_weights", {"model": MODEL_VERSION, "content": encode_weights(result.weights)}, now_ms)
    return "adopted" if result.adopted else "shipped"


def _attempts(cursor: Cursor, school_id: str) -> dict[str, list[FoldedAttempt]]:
    """Attempts by student, of as many students as `REFIT_ATTEMPTS_MAX` allows."""
    cursor.execute(_STUDENTS, (school_id,))
    chosen, left = [], REFIT_ATTEMPTS_MAX
    for student_id, count in cursor.fetchall():
        if count <= left:
            chosen.append(student_id)
            left -= count
    return attempts_of(cursor, school_id, chosen)
