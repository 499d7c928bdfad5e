"""Both databases, row by row: every synced table, every column that both sides have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cloud_api.database import CloudDatabase
from cloud_api.publication import read_rows
from devstack.device_file import snapshot
from domain.registry import TABLES, Kind, Table

# What both sides keep of a row beside the columns of the registry.
BOOKKEEPING = ("feed_no", "_extra")

# Table -> id -> values: of the registry's columns in their order, then those of BOOKKEEPING; JSON as what it means.
Rows = Mapping[str, Mapping[str, tuple[Any, ...]]]


@dataclass(frozen=True, slots=True)
class TableComparison:
    """One table on both sides. `differing` holds the ids of rows that are on one side alone or not the same on both."""

    table: str
    on_device: int
    in_cloud: int
    differing: tuple[str, ...]


def compare(device: Rows, cloud: Rows) -> list[TableComparison]:
    """Every synced table, in the order of the registry."""
    return [_compared(table, device[table], cloud[table]) for table in TABLES]


def device_rows(path: Path) -> Rows:
    """What the device's SQLite file holds at one moment. Raises Unavailable."""
    with snapshot(path) as conn:
        return {
            table.name: _by_id(table, conn.execute(f"SELECT {', '.join(_names(table))} FROM {table.name}")) for table in TABLES.values()
        }


def cloud_rows(database: CloudDatabase, school_id: str) -> Rows:
    """What PostgreSQL holds of a school at one moment. Raises Unavailable."""
    with database.transaction(snapshot=True) as cursor:
        return {
            table.name: {row_id: tuple(row[name] for name in _names(table)) for row_id, row in read_rows(cursor, table, school_id).items()}
            for table in TABLES.values()
        }


def _compared(table: str, device: Mapping[str, tuple[Any, ...]], cloud: Mapping[str, tuple[Any, ...]]) -> TableComparison:
    differing = sorted(row_id for row_id in device.keys() | cloud.keys() if device.get(row_id) != cloud.get(row_id))
    return TableComparison(table, len(device), len(cloud), tuple(differing))


def _names(table: Table) -> tuple[str, ...]:
    return (*table.column_names, *BOOKKEEPING)


def _by_id(table: Table, rows: Any) -> dict[str, tuple[Any, ...]]:
    """SQLite's rows with their values as PostgreSQL gives them: it has neither truth values nor JSON."""
    kinds = [column.kind for column in table.columns] + [Kind.INTEGER, Kind.JSON]
    return {row[0]: tuple(_meant(kind, value) for kind, value in zip(kinds, row, strict=True)) for row in rows}


def _meant(kind: Kind, value: Any) -> Any:
    if value is None:
        return None
    if kind is Kind.JSON:
        return json.loads(value)
    return bool(value) if kind is Kind.BOOLEAN else value
