"""The memory of merges: which field values were dealt with already.

A device sends its log again when it cannot know what the server still has. A value that was merged before and replaced since, by somebody who saw
it, is neither the later one nor a loser: it is known here by `domain.merge.value_key`, and passed over. Forgetting one costs no more than
a conflict that is none.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from psycopg2.extras import execute_values

from cloud_api.sync.base import read_base
from cloud_api.sync.batch import DecodedRun
from domain.merge import value_key
from domain.registry import Table

# Twice as long as devices keep their settled operations (daemon/queue/outbox.py, KEEP_SYNCED_MS).
KEEP_MS = 120 * 24 * 3600 * 1000
# Old values forgotten for each one remembered, so that the table does not grow for good and no batch pays for a whole year.
FORGET_RATIO = 4


def forget(cursor: Any, school_id: str, now_ms: int, rows_max: int) -> int:
    """Forgets values that were dealt with long ago, at most so many; returns how many."""
    cursor.execute(
        "DELETE FROM settled_values WHERE school_id = %(school)s AND key IN (SELECT key FROM settled_values"
        " WHERE school_id = %(school)s AND settled_at_ms < %(before)s ORDER BY settled_at_ms LIMIT %(most)s)",
        {"school": school_id, "before": now_ms - KEEP_MS, "most": rows_max},
    )
    return int(cursor.rowcount)


class Memory:
    """What is remembered of one run's values. `recall` first, then `fresh` operation by operation, `remember` once they are applied."""

    def __init__(self, cursor: Any, school_id: str, device_id: str, table: Table, run: DecodedRun) -> None:
        self._cursor, self._school_id, self._device_id, self._table, self._run = cursor, school_id, device_id, table, run
        self._settled: set[str] = set()

    def recall(self, places: Iterable[int]) -> None:
        """Looks up the values of the operations at these places; one statement."""
        keys = {key for place in places for key in self._keys(place)}
        if keys:
            self._cursor.execute(
                "SELECT key FROM settled_values WHERE school_id = %s AND key = ANY(%s::uuid[])", (self._school_id, list(keys))
            )
            self._settled.update(row[0] for row in self._cursor.fetchall())

    def fresh(self, place: int) -> dict[str, Any]:
        """The payload of one operation without the values that were dealt with before."""
        payload = self._run.payload(place)
        keys = self._keys(place)
        fresh = {name: payload[name] for name, key in zip(payload, keys, strict=True) if key not in self._settled}
        self._settled.update(keys)
        return fresh

    def remember(self, places: Iterable[int], now_ms: int) -> None:
        """Remembers that the operations at these places are dealt with, and forgets as many old values as is cheap."""
        keys = {key for place in places for key in (*self._keys(place), *self._seen_keys(place))}
        if not keys:
            return
        execute_values(
            self._cursor,
            "INSERT INTO settled_values (school_id, key, settled_at_ms) VALUES %s"
            " ON CONFLICT (school_id, key) DO UPDATE SET settled_at_ms = excluded.settled_at_ms",
            [(self._school_id, key, now_ms) for key in sorted(keys)],
            page_size=len(keys),
        )
        forget(self._cursor, self._school_id, now_ms, FORGET_RATIO * len(keys))

    def _keys(self, place: int) -> list[str]:
        """The names of the values of one operation, in the order of its payload."""
        clock = self._run.hlcs[place], self._device_id
        row_id = self._run.row_ids[place]
        return [value_key(self._table.name, row_id, name, clock, value) for name, value in self._run.payload(place).items()]

    def _seen_keys(self, place: int) -> list[str]:
        """The names of the values that the writer saw and replaced: should they arrive later, they are no news."""
        base = read_base(self._table, self._run.bases[place]) if self._run.bases else None
        row_id = self._run.row_ids[place]
        return [value_key(self._table.name, row_id, n, s.clock, s.value) for n, s in (base or {}).items() if s.clock is not None]
