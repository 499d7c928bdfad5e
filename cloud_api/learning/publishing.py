"""Publishing what the mastery model of a school reads: rows that devices pull like the course, the newest of which counts."""

from __future__ import annotations

from typing import Any

from cloud_api.database import Cursor
from cloud_api.publication import Publication
from domain.ids import derived_id

# The newest one counts; the one before stays until the next, so that a device is never without.
VERSIONS_KEPT = 2


def publish_newest(cursor: Cursor, school_id: str, table: str, fields: dict[str, Any], now_ms: int) -> None:
    """Adds a row to `difficulty_snapshots` or `model_weights`, deletes those that are of no use any more. The last change of its transaction,
    which holds the school's edit lock.
    """
    cursor.execute(f"SELECT id, published_at_ms FROM {table} WHERE school_id = %s ORDER BY published_at_ms DESC, id DESC", (school_id,))
    stored = cursor.fetchall()
    # Later than all others, whatever the clock says: the newest counts.
    published_at_ms = max(now_ms, stored[0][1] + 1) if stored else now_ms
    publication = Publication(school_id)
    id_ = derived_id(table, school_id, str(published_at_ms))
    publication.put(table, {"id": id_, "published_at_ms": published_at_ms, **fields})
    for row_id, _ in stored[VERSIONS_KEPT - 1 :]:
        publication.delete(table, row_id)
    publication.write(cursor, now_ms)
