"""Limits of what callers send: those of the registry's columns, attached to the fields of request types.

A field says whose limits it keeps with `Annotated[int | None, limited("question_attempts", "active_ms")]`. `keeps_limits` looks at a decoded
value, quickly; `broken` says what is wrong with a single one. Both judge with domain/validation.py, so no limit is written twice.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Iterator
from functools import cache
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from domain.ids import parse_id
from domain.registry import TABLES, Column, Kind
from domain.validation import problem_in

ID_PATTERN = "^([0-9a-fA-F]{32}|[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})$"
DATE_PATTERN = r"^\d{4}-\d{2}-\d{2}$"
_COLUMN = "column"

Check = Callable[[Any], bool]


def limits_schema(column: Column) -> dict[str, Any]:
    """The limits of a column in the words of JSON Schema."""
    if column.kind is Kind.ID:
        return {"pattern": ID_PATTERN}
    if column.kind is Kind.DATE:
        return {"pattern": DATE_PATTERN, "format": "date"}
    limits: dict[str, Any] = {}
    if column.kind in (Kind.INTEGER, Kind.REAL):
        limits |= {"minimum": column.minimum, "maximum": column.maximum}
    if column.kind is Kind.TEXT:
        limits["maxLength"] = column.length_max
    if column.choices:
        limits["enum"] = list(column.choices)
    return {name: limit for name, limit in limits.items() if limit is not None}


def _keeping(column: Column) -> msgspec.Meta:
    return msgspec.Meta(extra={_COLUMN: column}, extra_json_schema=limits_schema(column))


def limited(table: str, column: str) -> msgspec.Meta:
    """The mark of a field that keeps to the limits of a registry column; also documents them in the field's schema."""
    return _keeping(TABLES[table].column(column))


def one_of(*choices: str) -> msgspec.Meta:
    """The mark of a text that is one of these."""
    return _keeping(Column("choice", Kind.TEXT, choices=tuple(map(str, choices))))


# Ids and days that are no column of one table.
RowId = Annotated[str, _keeping(Column("id", Kind.ID))]
Day = Annotated[str, _keeping(Column("day", Kind.DATE))]


def broken(column: Column, value: Any) -> str | None:
    """Which limit a value of the right type breaks. Null says "not given" wherever a field's type allows it."""
    if value is None:
        return None
    if column.kind is not Kind.ID:
        return problem_in(column, value)
    try:
        parse_id(value)
    except ValueError:
        return "must be a UUID"
    return None


def keeps_limits(value: Any) -> bool:
    """Whether a decoded value (a struct, a list, anything without limits) keeps all its limits."""
    if isinstance(value, list):
        return all(map(keeps_limits, value))
    return not isinstance(value, msgspec.Struct) or all(check(getattr(value, name)) for name, check in _checks(type(value)))


@cache
def _checks(struct: type[msgspec.Struct]) -> tuple[tuple[str, Check], ...]:
    """(field, its check) of the fields that have limits, or hold what has."""
    found = ((info.name, _check_of(info.type)) for info in msgspec.structs.fields(struct))
    return tuple((name, check) for name, check in found if check is not None)


def _check_of(type_: Any) -> Check | None:
    column, item = column_of(type_), item_of(type_)
    if column is not None:
        return lambda value: value is msgspec.UNSET or broken(column, value) is None
    if item is not None and (check := _check_of(item)) is not None:
        return lambda values: not values or all(map(check, values))
    return keeps_limits if struct_of(type_) is not None else None


# --- looking into types


def column_of(type_: Any) -> Column | None:
    """The column whose limits a type is marked with."""
    if get_origin(type_) is Annotated:
        inner, *marks = get_args(type_)
        for mark in marks:
            if isinstance(mark, msgspec.Meta) and mark.extra and _COLUMN in mark.extra:
                return typing.cast(Column, mark.extra[_COLUMN])
        return column_of(inner)
    if _is_union(type_):
        return next((c for c in map(column_of, get_args(type_)) if c is not None), None)
    return None


def struct_of(type_: Any) -> type[msgspec.Struct] | None:
    """The struct that a type is, or may be."""
    return next((part for part in _parts(type_) if isinstance(part, type) and issubclass(part, msgspec.Struct)), None)


def item_of(type_: Any) -> Any:
    """The type of a list's items; None for what is no list."""
    return next((get_args(part)[0] for part in _parts(type_) if get_origin(part) is list), None)


def with_any_items(type_: Any) -> Any:
    """A type of which one part is a list, without demands on the list's items; its limits of length stay."""
    if get_origin(type_) is Annotated:
        inner, *marks = get_args(type_)
        return Annotated[(with_any_items(inner), *marks)]
    if _is_union(type_):
        return Union[tuple(map(with_any_items, get_args(type_)))]  # noqa: UP007  # made of parts
    return list[Any] if get_origin(type_) is list else type_


def _parts(type_: Any) -> Iterator[Any]:
    """The plain types that a type is made of: annotations and unions opened."""
    if get_origin(type_) is Annotated:
        yield from _parts(get_args(type_)[0])
    elif _is_union(type_):
        for part in get_args(type_):
            yield from _parts(part)
    else:
        yield type_


def _is_union(type_: Any) -> bool:
    return get_origin(type_) in (Union, types.UnionType)
