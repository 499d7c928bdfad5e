"""Merging concurrent changes of one row: per field, the last writer wins, and nothing is lost in silence.

Pure decisions; who stores them is `cloud_api/sync` and `daemon/inbox`. A field's clock is the pair (hybrid clock value, writer id): the
value is clamped to the server's time (domain/clock.py), the id breaks ties the same way everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from domain.registry import Table

# The writer id under which the server's own changes (teachers, imports) are kept. It sorts behind every device id.
SERVER_WRITER = "z"

FieldClock = tuple[int, str]


class Rule(StrEnum):
    """Which rule decided a field."""

    LATER = "later_clock"
    TEACHER_FIRST = "teacher_first"  # a field the school owns, and the school has set it


@dataclass(frozen=True, slots=True)
class Loser:
    """A value that lost: kept in `sync_conflicts`, readable and restorable."""

    field: str
    kept: Any
    kept_clock: FieldClock | None
    lost: Any
    lost_clock: FieldClock
    rule: Rule


@dataclass(frozen=True, slots=True)
class Merged:
    """The row after the merge: the fields that changed, every field's clock, and the values that lost."""

    changed: Mapping[str, Any]
    clocks: Mapping[str, FieldClock]
    losers: tuple[Loser, ...]


def merge_fields(
    table: Table, row: Mapping[str, Any], clocks: Mapping[str, FieldClock], fields: Mapping[str, Any], clock: FieldClock
) -> Merged:
    """Merges one device's change of `fields`, written at `clock`, into `row`, whose fields were last written at `clocks`.

    An equal value never makes a conflict. A value that is overwritten by a later one was seen and replaced, which is no loss unless the two
    were concurrent; that cannot be told from clocks alone, so only the value that does not come through is kept as a loser.
    """
    changed: dict[str, Any] = {}
    new_clocks = dict(clocks)
    losers: list[Loser] = []
    for name, value in fields.items():
        held = clocks.get(name)
        if held is None or (clock > held and not _school_holds(table, name, held)):
            changed[name], new_clocks[name] = value, clock
        elif value != row.get(name) and clock != held:
            rule = Rule.TEACHER_FIRST if _school_holds(table, name, held) else Rule.LATER
            losers.append(Loser(name, row.get(name), held, value, clock, rule))
    return Merged(changed, new_clocks, tuple(losers))


def _school_holds(table: Table, field: str, held: FieldClock) -> bool:
    return table.column(field).teacher_owned and held[1] == SERVER_WRITER


def visible_row(server_row: Mapping[str, Any], pending: list[Mapping[str, Any]]) -> dict[str, Any]:
    """What the device shows: the server's version with the field changes that are still queued, oldest first, laid over it."""
    row = dict(server_row)
    for fields in pending:
        row.update(fields)
    return row
