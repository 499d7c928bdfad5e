"""What a verification found to differ, kept for whoever looks into it: both versions of each row, in one private file beside the database.

The file holds what the rows hold, answers among them, as the database beside it does. There is one, of the last verification that found
something, and it is bounded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from daemon.durable_file import replace_durably
from daemon.sync.agreement import StoredRow
from domain.agreement import Differences
from domain.blocks import decode_block
from domain.registry import TABLES
from domain.wire import Place, VerifyAnswer

FILE_NAME = "verify-report.json"
# Rows that are kept in both versions, and how large the file may grow.
ROWS_MAX = 200
BYTES_MAX = 2 * 1024 * 1024


class Report:
    """One verification's report, gathered in memory and written at its end."""

    def __init__(self, folder: Path, at_ms: int, content: bool) -> None:
        self._path = folder / FILE_NAME
        self._about = {"verified_at_ms": at_ms, "content": content}
        self._differing: list[dict[str, Any]] = []
        self.rows: list[dict[str, Any]] = []
        self._bytes = 0

    def count(self, place: Place, found: Differences) -> None:
        """Notes how many rows of a place differ in which way."""
        counts = {"missing": len(found.missing), "stale": len(found.stale), "extra": len(found.extra)}
        self._differing.append({"scope": place.scope, "table": place.table, "cursor": place.cursor, **counts})

    def keep(self, place: Place, ids: Sequence[str], ours: Mapping[str, StoredRow], answer: VerifyAnswer) -> None:
        """Keeps both versions of rows of a place, while there is room. Raises BlockError for an answer that cannot be read."""
        theirs = _rows_of(place, answer)
        for row_id in ids:
            row = {"table": place.table, "scope": place.scope, "id": row_id, "device": ours.get(row_id), "server": theirs.get(row_id)}
            size = len(msgspec.json.encode(row))
            if len(self.rows) < ROWS_MAX and self._bytes + size <= BYTES_MAX:
                self.rows.append(row)
                self._bytes += size

    def write(self) -> None:
        """Replaces the file. What cannot be written is let go: the comparison itself is what counts."""
        text = msgspec.json.format(msgspec.json.encode({**self._about, "places": self._differing, "rows": self.rows}), indent=1)
        with suppress(OSError):
            replace_durably(self._path, text)


def _rows_of(place: Place, answer: VerifyAnswer) -> dict[str, dict[str, Any]]:
    block = answer.tables.get(place.table)
    if block is None:
        return {}
    known, _ = decode_block(TABLES[place.table], block)
    return {row_id: {name: values[at] for name, values in known.items()} for at, row_id in enumerate(known["id"])}
