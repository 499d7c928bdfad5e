"""Feed numbers: every school counts its changes in its own row, which stays locked until commit.

Whoever sees number k therefore sees all below k; sequences and timestamps lose rows under concurrent writers (docs/decisions/0005).
Lock order everywhere: device, school, rows.
"""

from __future__ import annotations

from typing import Any


def take(cursor: Any, school_id: str, count: int) -> int:
    """Takes `count` numbers and returns the first. Call it as late as possible: it lets no other writer of the school past until commit."""
    cursor.execute("UPDATE schools SET head = head + %s WHERE id = %s RETURNING head", (count, school_id))
    return int(cursor.fetchone()[0]) - count + 1
