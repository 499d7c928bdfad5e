"""The mastery model in force in a school: the newest published table and weights, by the same rule as on devices (domain/learning/model.py)."""

from __future__ import annotations

from cloud_api.database import Cursor
from domain.learning.features import Weights
from domain.learning.mastery import MODEL_VERSION
from domain.learning.model import MasteryModel, mastery_model, newest_snapshot, newest_weights


def current_model(cursor: Cursor, school_id: str) -> MasteryModel:
    """The model in force, in the caller's transaction; some 1 ms for 500 questions, 30 ms for 20,000."""
    cursor.execute("SELECT content FROM difficulty_snapshots WHERE school_id = %s ORDER BY published_at_ms DESC, id DESC", (school_id,))
    snapshot = newest_snapshot(row[0] for row in cursor.fetchall())
    return mastery_model(snapshot, current_weights(cursor, school_id))


def current_weights(cursor: Cursor, school_id: str) -> Weights | None:
    """The weights in force; None while they are the shipped ones for want of others."""
    cursor.execute(
        "SELECT content FROM model_weights WHERE school_id = %s AND model = %s ORDER BY published_at_ms DESC, id DESC",
        (school_id, MODEL_VERSION),
    )
    return newest_weights(row[0] for row in cursor.fetchall())
