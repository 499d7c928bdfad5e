"""Rows on the wire: how columns of like rows become small JSON, and come back checked.

Rows travel as column arrays, because attempts dominate and their columns repeat. Each column takes the first of these forms that fits;
all of them are plain JSON (docs/protocol.md, "Blocks"):

    {"c": v}             every row has v
    {"x": "0192…"}       ids, 32 hex digits each, joined
    {"d": [a, b, …]}     integers, each but the first the difference from the one before
    {"v": [...], "i": []}  a dictionary of the distinct values and, for every row, its place in it
    [...]                the values

Measured on real study records (docs/benchmarks.md): joined hex compresses as well as base64, and one id a row costs 10 bytes after zstd, all
the rest 11.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from operator import sub
from typing import Any

import msgspec

from domain.registry import INT64_MAX, Kind, Table

# What a column holds, row by row. None, bool, int, float, str, or a JSON value (list, dict) for Kind.JSON.
Value = Any
Encoded = Any  # one of the five forms above

# Values of these types that Python calls equal are the same text in JSON.
_PLAINLY_EQUAL = (str, int, type(None))  # bool is an int

_HEX = re.compile(r"[0-9a-f]*\Z")
_ID_LENGTH = 32
# A dictionary pays when values repeat at least this often on average.
_DICTIONARY_REPEATS_MIN = 2


class BlockError(ValueError):
    """A column does not have the form, the length or the type it must."""


class TableBlock(msgspec.Struct, frozen=True):
    """`n` rows of one table as encoded columns: those of the registry, and `feed_no`."""

    n: int
    columns: dict[str, Encoded]


_ABSENT: Encoded = {"c": None}


def encode_block(table: Table, rows: Mapping[str, list[Any]], count: int) -> TableBlock:
    """The block of `count` rows given as columns: `rows` maps every registry column of `table`, and `feed_no`, to its values.

    `_extra`, where it is given, holds a mapping or None a row; its fields become columns of their own.
    """
    columns = {c.name: encode_column(c.kind, rows[c.name]) for c in table.columns}
    columns["feed_no"] = encode_column(Kind.INTEGER, rows["feed_no"])
    extras: list[Mapping[str, Any] | None] = rows.get("_extra", [])
    for name in sorted({name for extra in extras if extra for name in extra} - columns.keys()):
        columns[name] = [extra.get(name) if extra else None for extra in extras]
    return TableBlock(count, columns)


def decode_block(table: Table, block: TableBlock) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    """The columns of a block, type-checked: those that this version knows, and the unknown ones of a newer peer.

    Raises BlockError. A column of the registry that an older peer did not send comes as None throughout.
    """
    known: dict[str, list[Any]] = {}
    for column in table.columns:
        encoded = block.columns.get(column.name, _ABSENT)
        known[column.name] = decode_column(column.kind, encoded, block.n)
    known["feed_no"] = decode_column(Kind.INTEGER, block.columns.get("feed_no", _ABSENT), block.n)
    unknown = {name: decode_column(Kind.JSON, encoded, block.n) for name, encoded in block.columns.items() if name not in known}
    return known, unknown


def encode_column(kind: Kind, values: Sequence[Value]) -> Encoded:
    """The smallest form for a column of `values` (never empty), all of type `kind` or None."""
    first = values[0]
    if _are_one(values):
        return {"c": first}
    if kind is Kind.INTEGER and _all_of(values, {int}):
        return {"d": [first, *map(sub, values[1:], values)]}
    if kind in (Kind.ID, Kind.TEXT, Kind.DATE) and _all_of(values, {str, _NONE}):
        return _encode_strings(kind, values)
    return list(values)


def _are_one(values: Sequence[Value]) -> bool:
    """Whether all values are the same *as JSON*: Python also calls 1, 1.0 and True equal, 0.0 and -0.0, and objects in another order."""
    if values.count(values[0]) < len(values) or len(set(map(type, values))) > 1:
        return False
    return isinstance(values[0], _PLAINLY_EQUAL) or len(set(map(json.dumps, values))) == 1


def _encode_strings(kind: Kind, values: Sequence[str | None]) -> Encoded:
    places: dict[str | None, int] = {}
    indexes = [places.setdefault(value, len(places)) for value in values]
    if len(values) >= len(places) * _DICTIONARY_REPEATS_MIN:
        return {"v": list(places), "i": indexes}
    if kind is Kind.ID and None not in places and _are_ids(values):
        return {"x": "".join(values)}  # type: ignore[arg-type]  # no None among them
    return list(values)


def decode_column(kind: Kind, encoded: Encoded, count: int) -> list[Value]:
    """The `count` values of an encoded column, their JSON type checked against `kind`; None is let through.

    Raises BlockError. Limits of the column (range, length, choices, null) are for `problems_in`.
    """
    values = _expand(encoded, count)
    if len(values) != count:
        raise BlockError(f"{len(values)} values for {count} rows")
    if not _TYPE_CHECKS[kind](values):
        raise BlockError(f"not all values are {kind.value}")
    return values


def _expand(encoded: Encoded, count: int) -> list[Value]:
    if isinstance(encoded, list):
        return encoded
    if not isinstance(encoded, dict):
        raise BlockError("neither a list nor one of the column forms")
    match encoded:
        case {"c": value} if len(encoded) == 1:
            return [value] * count
        case {"x": str(joined)} if len(encoded) == 1:
            return _split_ids(joined)
        case {"d": list(steps)} if len(encoded) == 1:
            return _sum_up(steps)
        case {"v": list(values), "i": list(indexes)} if len(encoded) == 2:
            return _look_up(values, indexes)
    raise BlockError("not one of the column forms")


def _split_ids(joined: str) -> list[Value]:
    if len(joined) % _ID_LENGTH or not _HEX.match(joined):
        raise BlockError("ids are 32 lowercase hex digits each")
    return [joined[i : i + _ID_LENGTH] for i in range(0, len(joined), _ID_LENGTH)]


def _sum_up(steps: list[Any]) -> list[Value]:
    if not _all_of(steps, {int}):
        raise BlockError("differences are integers")
    return list(accumulate(steps))


def _look_up(values: list[Any], indexes: list[Any]) -> list[Value]:
    if not _all_of(indexes, {int}) or (indexes and not 0 <= min(indexes) <= max(indexes) < len(values)):
        raise BlockError("a place outside the dictionary")
    return [values[i] for i in indexes]


def _all_of(values: Sequence[Any], types: set[type]) -> bool:
    return set(map(type, values)) <= types


_NONE = type(None)


def _are_ids(values: Sequence[Any]) -> bool:
    present = [v for v in values if v is not None] if None in values else values
    if not _all_of(present, {str}):
        return False
    joined = "".join(present)
    return len(joined) == _ID_LENGTH * len(present) and set(map(len, present)) <= {_ID_LENGTH} and bool(_HEX.match(joined))


def _are_integers(values: Sequence[Any]) -> bool:
    if not _all_of(values, {int, _NONE}):
        return False
    present = [v for v in values if v is not None] if None in values else values
    return not present or (min(present) >= -INT64_MAX - 1 and max(present) <= INT64_MAX)


_TYPE_CHECKS: dict[Kind, Callable[[Sequence[Any]], bool]] = {
    Kind.ID: _are_ids,
    Kind.INTEGER: _are_integers,
    Kind.REAL: lambda values: _all_of(values, {int, float, _NONE}),
    Kind.BOOLEAN: lambda values: _all_of(values, {bool, _NONE}),
    Kind.TEXT: lambda values: _all_of(values, {str, _NONE}),
    Kind.DATE: lambda values: _all_of(values, {str, _NONE}),
    Kind.JSON: lambda values: True,
}
