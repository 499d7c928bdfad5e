"""Feed numbers: every school counts its changes in its own row, which stays locked until commit.

Whoever sees number k therefore sees all below k; sequences and timestamps lose rows under concurrent writers (docs/decisions/0005).
Lock order everywhere: device, school, rows.
"""

from __future__ import annotations

from typing import Any

DAY_MS = 24 * 3600 * 1000


def take(cursor: Any, school_id: str, count: int) -> int:
    """Takes `count` numbers and returns the first. Call it as late as possible: it lets no other writer of the school past until commit."""
    cursor.execute("UPDATE schools SET head = head + %s WHERE id = %s RETURNING head", (count, school_id))
    return int(cursor.fetchone()[0]) - count + 1


def note_day(cursor: Any, school_id: str, now_ms: int) -> None:
    """Notes where the feed stands, once a day: every number up to it has been given by now."""
    cursor.execute(
        "INSERT INTO feed_days (school_id, day_ms, noted_at_ms, head) SELECT id, %s, %s, head FROM schools WHERE id = %s ON CONFLICT DO NOTHING",
        (now_ms - now_ms % DAY_MS, now_ms, school_id),
    )


def number_of(cursor: Any, school_id: str, at_ms: int, now_ms: int) -> int:
    """The last number that is known to have been given by then; 0 where nothing is known of that time.

    A note that says so of a number which others deny, made between then and now, is of a server whose clock stood in the past (it was started
    without a battery, perhaps): it counts for nothing, and neither does one that says that it was made after now.
    """
    cursor.execute(
        "SELECT coalesce(max(head), 0) FROM feed_days WHERE school_id = %(school)s AND noted_at_ms <= %(at)s AND head <= ALL"
        " (SELECT later.head FROM feed_days later WHERE later.school_id = %(school)s AND later.noted_at_ms > %(at)s AND later.noted_at_ms <= %(now)s)",
        {"school": school_id, "at": at_ms, "now": now_ms},
    )
    return int(cursor.fetchone()[0])


def forget_days(cursor: Any, school_id: str, rows_max: int) -> int:
    """Deletes at most so many days of which the answers are let go of, but for the last; returns how many."""
    cursor.execute(
        "DELETE FROM feed_days WHERE (school_id, day_ms) IN (SELECT d.school_id, d.day_ms FROM feed_days d JOIN answers_let_go g USING (school_id)"
        " WHERE d.school_id = %s AND d.head < g.through_no LIMIT %s)",
        (school_id, rows_max),
    )
    return int(cursor.rowcount)
