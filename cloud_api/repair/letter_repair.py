"""Correcting what a refused operation holds: within the registry, like everything that is written."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from domain.errors import InvalidInput, Problem
from domain.ids import parse_id
from domain.operations import OperationKind
from domain.registry import TABLES, Column, Kind
from domain.validation import problem_in

_NUMBERS: Mapping[Kind, type] = {Kind.INTEGER: int, Kind.REAL: float}


@dataclass(frozen=True, slots=True)
class Repair:
    """What to change in a letter's payload: values by field, as typed; fields to make null; fields to leave out."""

    values: Mapping[str, str] = field(default_factory=dict)
    null: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()

    @property
    def field_names(self) -> list[str]:
        return sorted({*self.values, *self.null, *self.dropped})


def repaired(table: str, kind: str, payload: Mapping[str, Any], repair: Repair) -> dict[str, Any]:
    """The payload of an operation of that kind, changed. Raises InvalidInput with every problem."""
    if problems := list(_problems(table, kind, payload, repair)):
        raise InvalidInput(problems)
    typed = {name: _read(_column(table, kind, name), text) for name, text in repair.values.items()}
    kept = {name: value for name, value in payload.items() if name not in repair.dropped}
    return kept | typed | dict.fromkeys(repair.null)


def _problems(table: str, kind: str, payload: Mapping[str, Any], repair: Repair) -> Iterator[Problem]:
    if not repair.field_names:
        yield Problem("--set", "missing_field", "Say which field to change.")
    for name in repair.dropped:
        if name not in payload:
            yield Problem(name, "unknown_field", "The operation has no such field.")
    for name in (*repair.values, *repair.null):
        try:
            column = _column(table, kind, name)
        except KeyError:
            yield Problem(name, "invalid_value", f"{name} is not a field that such an operation may have.")
            continue
        if problem := _problem(column, repair.values.get(name)):
            yield Problem(name, "invalid_value", f"{name} {problem}.")


def _problem(column: Column, text: str | None) -> str | None:
    try:
        return problem_in(column, None if text is None else _read(column, text))
    except ValueError:
        return f"must be of type {column.kind.value}"


def _column(table: str, kind: str, name: str) -> Column:
    """A column that an operation may set. Raises KeyError for any other."""
    column = TABLES[table].column(name)
    if column.set_by_server or name == "id" or (kind == OperationKind.UPDATE and not column.updatable):
        raise KeyError(name)
    return column


def _read(column: Column, text: str) -> Any:
    """A value as it is typed at a terminal. Raises ValueError."""
    match column.kind:
        case Kind.TEXT | Kind.DATE:
            return text
        case Kind.ID:
            return parse_id(text)
        case Kind.BOOLEAN:
            return ("false", "true").index(text) == 1
        case Kind.JSON:
            return json.loads(text)
    return _NUMBERS[column.kind](text)
