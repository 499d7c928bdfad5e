"""What a peer of a later version says besides what this version understands."""

from __future__ import annotations

import json
from typing import Any

# Nobody knows them: a field of a message, a column of every table, a table.
FIELD, COLUMN, TABLE = "told_later", "later_column", "later_table"


def said_later(body: bytes) -> bytes:
    """The answer as a later server gives it: with a field, a column in every block of rows, and a table that this version does not know."""
    message: dict[str, Any] = json.loads(body)
    message[FIELD] = {"mood": [1, None]}
    for verdict in message.get("verdicts", ()):
        verdict[FIELD] = 1
    tables = message.get("tables")
    if isinstance(tables, dict):
        for block in tables.values():
            block["columns"][COLUMN] = {"c": "?"}
        tables[TABLE] = {"n": 1, "columns": {"id": {"c": "0" * 32}, "feed_no": {"c": 1}}}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
