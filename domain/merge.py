"""Merging concurrent changes of one row: per field, the last writer wins, and nothing is lost in silence.

Pure decisions; who stores them is `cloud_api/sync/merge.py` and `daemon/inbox.py`. A field's clock is the pair (hybrid clock value, writer
id): the value is clamped to the server's time (domain/clock.py), the id breaks ties the same way everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

from domain.ids import Id, derived_id
from domain.registry import Table

# The writer id under which the server's own changes (teachers, imports) are kept. It sorts behind every device id.
SERVER_WRITER = "z"

FieldClock = tuple[int, str]

# The clock of a value that came with its row, before anybody changed the field.
FIRST_CLOCK: FieldClock = (0, SERVER_WRITER)


class Rule(StrEnum):
    """Which rule decided a field. The values are public (docs/protocol.md, "Conflicts")."""

    LATER = "later_clock"
    TEACHER_FIRST = "teacher_first"  # a field the school owns, and the school has set it
    DELETED = "deleted"  # the row was deleted; deletion beats a change


class Seen(NamedTuple):
    """What the writer of a change had before its eyes: a value, and its clock if anybody has ever changed the field."""

    value: Any
    clock: FieldClock | None


# What was seen in each field of a change; a field that is missing was not looked at.
Base = Mapping[str, Seen]


@dataclass(frozen=True, slots=True)
class Loser:
    """A value that lost: kept in `sync_conflicts`, readable and restorable.

    `base` is what the writer of the arriving change had seen, if that is known. `arrived` says whose value lost: that of the arriving change, or
    the one that it has overwritten.
    """

    field: str
    kept: Any
    kept_clock: FieldClock | None
    lost: Any
    lost_clock: FieldClock
    rule: Rule
    base: Seen | None = None
    arrived: bool = True


@dataclass(frozen=True, slots=True)
class Merged:
    """The row after the merge: the fields that changed, every field's clock, and the values that lost."""

    changed: Mapping[str, Any]
    clocks: Mapping[str, FieldClock]
    losers: tuple[Loser, ...]


def merge_fields(
    table: Table,
    row: Mapping[str, Any],
    clocks: Mapping[str, FieldClock],
    fields: Mapping[str, Any],
    clock: FieldClock,
    base: Base | None = None,
) -> Merged:
    """Merges a change of `fields`, written at `clock` in sight of `base`, into `row`, whose fields were last written at `clocks`.

    A value that does not come through is a loser. So is one that is overwritten by somebody who had another value before the eyes; without
    `base` (None, an older peer) that cannot be told, and only the former are kept. Equal values never make a conflict.
    """
    changed: dict[str, Any] = {}
    new_clocks = dict(clocks)
    losers: list[Loser] = []
    for name, value in fields.items():
        held, present = clocks.get(name), row.get(name)
        seen = base.get(name) if base is not None else None
        if _wins(table, name, clock, held):
            changed[name], new_clocks[name] = value, clock
            nobodys = held is None and present is None
            if base is not None and value != present and not nobodys and not _saw(seen, present):
                losers.append(Loser(name, value, clock, present, held or FIRST_CLOCK, Rule.LATER, seen, arrived=False))
        elif value != present:
            rule = Rule.TEACHER_FIRST if _school_holds(table, name, held) else Rule.LATER
            losers.append(Loser(name, present, held, value, clock, rule, seen))
    return Merged(changed, new_clocks, tuple(losers))


def merge_into_deleted(fields: Mapping[str, Any], clock: FieldClock, base: Base | None = None) -> tuple[Loser, ...]:
    """What is left of a change of a row that was deleted: every value of it is a loser."""
    seen = base or {}
    return tuple(Loser(name, None, None, value, clock, Rule.DELETED, seen.get(name)) for name, value in fields.items())


def _wins(table: Table, field: str, clock: FieldClock, held: FieldClock | None) -> bool:
    if held is None:
        return True
    return clock > held and (clock[1] == SERVER_WRITER or not _school_holds(table, field, held))


def _school_holds(table: Table, field: str, held: FieldClock | None) -> bool:
    return held is not None and table.column(field).teacher_owned and held[1] == SERVER_WRITER


def _saw(seen: Seen | None, present: Any) -> bool:
    """Whether the writer had the present value before its eyes.

    Told by the value and not by clocks: those of a device's own queued changes are not clamped yet, and two copies of one device write under
    one name.
    """
    return seen is not None and seen.value == present


def value_key(table: str, row_id: str, field: str, clock: FieldClock, value: Any) -> Id:
    """A name for one value as it was once written: by it a value that is sent again is known, whatever became of the field meanwhile.

    `clock` is the writer's own, not clamped: what it is clamped to depends on when it is sent.
    """
    return derived_id("value", table, row_id, field, str(clock[0]), clock[1], json.dumps(value, sort_keys=True))


class QueuedChange(NamedTuple):
    """A change that is still queued on a device: its fields, and the hybrid clock value of all of them."""

    fields: Mapping[str, Any]
    hlc: int


def visible_row(server_row: Mapping[str, Any], queued: Sequence[QueuedChange]) -> dict[str, Any]:
    """What the device shows: the server's version with the field changes that are still queued, oldest first, laid over it."""
    row = dict(server_row)
    for change in queued:
        row.update(change.fields)
    return row


def visible_clocks(clocks: Mapping[str, FieldClock], queued: Sequence[QueuedChange], writer: str) -> dict[str, FieldClock]:
    """The clocks of what the device shows, `writer` being the device: what a next change has before its eyes is told by them."""
    return dict(clocks) | {name: (change.hlc, writer) for change in queued for name in change.fields}
