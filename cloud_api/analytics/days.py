"""Days, counted from 1970-01-01, as they are told: YYYY-MM-DD."""

from __future__ import annotations

from datetime import date, timedelta

_EPOCH = date(1970, 1, 1)


def day_text(day: int) -> str:
    """YYYY-MM-DD of a day."""
    return (_EPOCH + timedelta(days=day)).isoformat()


def day_number(text: str) -> int:
    """The day that YYYY-MM-DD names. Raises ValueError."""
    return (date.fromisoformat(text) - _EPOCH).days
