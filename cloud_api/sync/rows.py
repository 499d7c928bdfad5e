"""Rows as PostgreSQL takes them in bulk: COPY text from columns, and upserts of whole sets.

Table and column names come from the registry, never from a payload.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from psycopg2.extras import execute_values

from domain.registry import Kind, Table

NULL = "\\N"
COPY_CHUNK_BYTES = 256 * 1024
UPSERT_PAGE_ROWS = 500

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copy_rows(cursor: Any, table: str, names: Sequence[str], columns: Sequence[Sequence[str]]) -> None:
    """Loads rows given as columns of COPY text with one COPY."""
    text = "\n".join(map("\t".join, zip(*columns, strict=True)))
    cursor.copy_expert(f"COPY {table} ({', '.join(names)}) FROM STDIN", io.BytesIO(text.encode()), COPY_CHUNK_BYTES)


def copy_text(kind: Kind, values: Sequence[Any]) -> Sequence[str]:
    """A column's values as COPY text."""
    if None in values:
        present = iter(copy_text(kind, [v for v in values if v is not None]))
        return [NULL if v is None else next(present) for v in values]
    return _TEXT_OF[kind](values)


def _escaped(values: Sequence[str]) -> Sequence[str]:
    joined = "".join(values)
    if "\\" in joined or "\t" in joined or "\n" in joined or "\r" in joined:
        return [value.translate(_ESCAPES) for value in values]
    return values


def _json_text(values: Sequence[Any]) -> Sequence[str]:
    return _escaped([json.dumps(value, ensure_ascii=False, separators=(",", ":")) for value in values])


_TEXT_OF: dict[Kind, Callable[[Sequence[Any]], Sequence[str]]] = {
    Kind.ID: lambda values: values,
    Kind.INTEGER: lambda values: list(map(str, values)),
    Kind.REAL: lambda values: list(map(repr, values)),
    Kind.BOOLEAN: lambda values: ["t" if value else "f" for value in values],
    Kind.TEXT: _escaped,
    Kind.DATE: _escaped,
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
