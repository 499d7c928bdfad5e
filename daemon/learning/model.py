"""The mastery model in force on this device: the newest table and weights that came from the school."""

from __future__ import annotations

import sqlite3
import threading

from domain.learning.mastery import MODEL_VERSION
from domain.learning.model import MasteryModel, mastery_model, newest_snapshot, newest_weights

_SNAPSHOTS = "FROM difficulty_snapshots ORDER BY published_at_ms DESC, id DESC"
_WEIGHTS = "FROM model_weights WHERE model = ? ORDER BY published_at_ms DESC, id DESC"


class ModelSource:
    """Reads the model once, and again when the school has published another one. For any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._token: object = None
        self._model: MasteryModel | None = None

    def current(self, conn: sqlite3.Connection) -> MasteryModel:
        """The model in force; inside the caller's read or write."""
        token = (conn.execute(f"SELECT id {_SNAPSHOTS}").fetchall(), conn.execute(f"SELECT id {_WEIGHTS}", (MODEL_VERSION,)).fetchall())
        with self._lock:
            if self._model is None or token != self._token:
                self._model, self._token = current_model(conn), token
            return self._model


def current_model(conn: sqlite3.Connection) -> MasteryModel:
    """The same, read anew."""
    snapshots = conn.execute(f"SELECT content {_SNAPSHOTS}")
    weights = conn.execute(f"SELECT content {_WEIGHTS}", (MODEL_VERSION,))
    return mastery_model(newest_snapshot(row[0] for row in snapshots), newest_weights(row[0] for row in weights))
