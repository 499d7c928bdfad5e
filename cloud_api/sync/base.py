"""What the writer of an update had before its eyes, as it came from a device: read with mistrust."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from domain.blocks import BlockError, decode_column
from domain.ids import is_id
from domain.merge import SERVER_WRITER, Base, FieldClock, Seen
from domain.registry import INT64_MAX, Table
from domain.validation import problem_in


def read_base(table: Table, told: Any) -> Base | None:
    """`{field: [value, [clock, writer] or null]}` as a base; None where a device told nothing, as older ones do.

    What cannot be true is left out: then the writer counts as one who has not seen the field, and whatever it replaces is kept.
    """
    if told is None:
        return None
    return dict(_entries(table, told)) if isinstance(told, dict) else {}


def _entries(table: Table, told: dict[Any, Any]) -> Iterator[tuple[str, Seen]]:
    for name, entry in told.items():
        if name not in table.updatable or not isinstance(entry, list) or len(entry) != 2:
            continue
        value, clock = entry
        if _is_possible(table, name, value) and (clock is None or _is_clock(clock)):
            yield name, Seen(value, None if clock is None else _clock(clock))


def _is_possible(table: Table, name: str, value: Any) -> bool:
    """Whether the field can ever have had this value."""
    column = table.column(name)
    try:
        decode_column(column.kind, [value], 1)
    except BlockError:
        return False
    return problem_in(column, value) is None


def _is_clock(clock: Any) -> bool:
    match clock:
        case [int(value), str(writer)]:
            return not isinstance(value, bool) and abs(value) <= INT64_MAX and (writer == SERVER_WRITER or is_id(writer))
    return False


def _clock(clock: list[Any]) -> FieldClock:
    return clock[0], clock[1]
