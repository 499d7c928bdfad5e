"""Whether values keep to the limits that the registry sets for their column.

The same rules judge one value typed into the localhost API and a column of two thousand from the wire: `problem_in` looks at one value,
`bad_places` at a whole column with set operations first, and only at single values when those say that something is wrong.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Sequence
from typing import Any

from domain.registry import DAY_MINUTES, Column, Kind, Shape

# NUL cannot be stored in PostgreSQL text, and lone surrogates not be written as UTF-8.
_NUL = "\x00"


def bad_places(column: Column, values: Sequence[Any]) -> list[int]:
    """Places of the values (already of the column's JSON type, or None) that break the column's limits; mostly empty, and then cheap."""
    if _plainly_good(column, values):
        return []
    return [i for i, value in enumerate(values) if problem_in(column, value)]


def _plainly_good(column: Column, values: Sequence[Any]) -> bool:
    """True when set operations alone show that every value is good; False means 'look closer'."""
    if None in values:
        if not column.nullable:
            return False
        values = [v for v in values if v is not None]
    if not values or column.kind in (Kind.ID, Kind.BOOLEAN):
        return True
    if column.choices:
        return set(values) <= set(column.choices)
    if column.kind in (Kind.INTEGER, Kind.REAL):
        return _in_range(column, min(values)) and _in_range(column, max(values))
    if column.kind is Kind.TEXT:
        longest = max(map(len, values))
        return longest <= (column.length_max or longest) and _NUL not in "".join(values)
    return False


def problem_in(column: Column, value: Any) -> str | None:
    """What is wrong with one value (of the column's JSON type, or None), in words that never repeat the value; None if it is good."""
    if value is None:
        return None if column.nullable else "must be given"
    if column.kind in (Kind.INTEGER, Kind.REAL) and not _in_range(column, value):
        return f"must lie between {column.minimum:.16g} and {column.maximum:.16g}"
    if column.choices and value not in column.choices:
        return f"must be one of {', '.join(column.choices)}"
    if column.kind is Kind.TEXT:
        return _problem_in_text(column, value)
    if column.kind is Kind.DATE:
        return None if _is_date_text(value) else "must be a date like 2026-01-31"
    if column.kind is Kind.JSON and column.length_max is not None:
        return _problem_in_json(column, value, column.length_max)
    return None


def _problem_in_json(column: Column, value: Any, bytes_max: int) -> str | None:
    text = json.dumps(value, ensure_ascii=False)
    if len(text.encode("utf-8", "surrogatepass")) > bytes_max:
        return f"must be at most {bytes_max} bytes as JSON"
    if "\\u0000" in text and _holds_nul(value):  # the text alone might be about the six characters \u0000
        return "must not contain the character NUL"
    if _LONG_NUMBER.search(text) and _holds_large_integer(value):
        return "must not contain an integer of more than 64 bits"
    if column.shape is Shape.WEEK_OF_MINUTES and not _is_week_of_minutes(value):
        return f"must be seven whole numbers from 0 to {DAY_MINUTES}, Monday first"
    if column.shape is Shape.DATES and not _is_list_of_dates(value):
        return "must be a list of dates like 2026-01-31"
    return "must be an object" if column.shape is Shape.OBJECT and not isinstance(value, dict) else None


# So many digits may be too many.
_LONG_NUMBER = re.compile(r"[0-9]{19}")


def _holds_large_integer(value: Any) -> bool:
    match value:
        case dict():
            return any(map(_holds_large_integer, value.values()))
        case list():
            return any(map(_holds_large_integer, value))
    return isinstance(value, int) and not -(2**63) <= value < 2**63


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return _NUL in value
    if isinstance(value, dict):
        return any(_holds_nul(part) for item in value.items() for part in item)
    return isinstance(value, list) and any(map(_holds_nul, value))


def _is_week_of_minutes(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 7 and all(type(m) is int and 0 <= m <= DAY_MINUTES for m in value)


def _is_list_of_dates(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(day, str) and _is_date_text(day) for day in value)


def _problem_in_text(column: Column, value: str) -> str | None:
    if column.length_max is not None and len(value) > column.length_max:
        return f"must be at most {column.length_max} characters"
    if _NUL in value:
        return "must not contain the character NUL"
    return None


def _in_range(column: Column, value: float) -> bool:
    low, high = column.minimum, column.maximum
    return (low is None or value >= low) and (high is None or value <= high)


def _is_date_text(value: str) -> bool:
    try:
        return datetime.date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False
