"""Rows as PostgreSQL takes them in bulk: columns as arrays, and upserts of whole sets. COPY is closed to tables with row-level security.

Table and column names come from the registry, never from a payload.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2.extras import execute_values

from domain.registry import Kind, Table

UPSERT_PAGE_ROWS = 500

# What PostgreSQL reads an array's elements as; it narrows them to the column's own type.
_TYPE_OF = {
    Kind.ID: "uuid",
    Kind.INTEGER: "bigint",
    Kind.REAL: "double precision",
    Kind.BOOLEAN: "boolean",
    Kind.TEXT: "text",
    Kind.DATE: "text",
    Kind.JSON: "jsonb",
}


@dataclass(frozen=True, slots=True)
class ColumnValues:
    """One column of rows to be inserted: its name, the kind of its values, and a value a row."""

    name: str
    kind: Kind
    values: Sequence[Any]


def insert_columns(cursor: Any, table: str, shared: Mapping[str, Any], columns: Sequence[ColumnValues]) -> None:
    """Inserts rows with one statement: `shared` maps the names of columns to the value that all rows have there."""
    names = ", ".join([*shared, *(column.name for column in columns)])
    arrays = ", ".join(f"%s::{_TYPE_OF[column.kind]}[]" for column in columns)
    cursor.execute(
        f"INSERT INTO {table} ({names}) SELECT {'%s, ' * len(shared)}row.* FROM unnest({arrays}) AS row",
        [*shared.values(), *(_array(column) for column in columns)],
    )


def _array(column: ColumnValues) -> str:
    """A column as the text of a PostgreSQL array."""
    if None not in column.values:
        return f"{{{','.join(_ELEMENTS_OF[column.kind](column.values))}}}"
    present = iter(_ELEMENTS_OF[column.kind]([value for value in column.values if value is not None]))
    return f"{{{','.join('NULL' if value is None else next(present) for value in column.values)}}}"


def _quoted(values: Sequence[str]) -> Sequence[str]:
    joined = "".join(values)
    if '"' in joined or "\\" in joined:
        values = [value.replace("\\", "\\\\").replace('"', '\\"') for value in values]
    return [f'"{value}"' for value in values]


def _json_text(values: Sequence[Any]) -> Sequence[str]:
    return _quoted([json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in values])


_ELEMENTS_OF: dict[Kind, Callable[[Sequence[Any]], Sequence[str]]] = {
    Kind.ID: lambda values: values,
    Kind.INTEGER: lambda values: list(map(str, values)),
    Kind.REAL: lambda values: list(map(repr, values)),
    Kind.BOOLEAN: lambda values: ["t" if value else "f" for value in values],
    Kind.TEXT: _quoted,
    Kind.DATE: _quoted,
    Kind.JSON: _json_text,
}


def upsert_rows(cursor: Any, table: Table, school_id: str, rows: Sequence[dict[str, Any]]) -> None:
    """Writes whole rows (registry columns, `feed_no`, `origin_no`, `_extra`), replacing those that exist."""
    names = [*table.column_names, "feed_no", "origin_no", "_extra"]
    json_names = {c.name for c in table.columns if c.kind is Kind.JSON} | {"_extra"}
    replaced = ", ".join(f"{n} = excluded.{n}" for n in names[1:])
    execute_values(
        cursor,
        f"INSERT INTO {table.name} (school_id, {', '.join(names)}) VALUES %s ON CONFLICT (school_id, id) DO UPDATE SET {replaced}",
        [(school_id, *(_parameter(row.get(n), n in json_names) for n in names)) for row in rows],
        page_size=UPSERT_PAGE_ROWS,
    )


def _parameter(value: Any, is_json: bool) -> Any:
    return json.dumps(value) if is_json and value is not None else value


def fetch_rows(cursor: Any, table: Table, school_id: str, ids: Sequence[str], *, lock: bool = False) -> dict[str, dict[str, Any]]:
    """Those of the rows that exist, by id: registry columns, `feed_no` and `_extra`."""
    names = [*table.column_names, "feed_no", "_extra"]
    cursor.execute(
        f"SELECT {', '.join(names)} FROM {table.name} WHERE school_id = %s AND id = ANY(%s::uuid[]){' FOR UPDATE' if lock else ''}",
        (school_id, list(ids)),
    )
    return {row[0]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}


def existing_ids(cursor: Any, table: str, school_id: str, ids: Sequence[str]) -> set[str]:
    """Those of the ids that exist in a table of the school."""
    cursor.execute(f"SELECT id FROM {table} WHERE school_id = %s AND id = ANY(%s::uuid[])", (school_id, list(ids)))
    return {row[0] for row in cursor.fetchall()}
