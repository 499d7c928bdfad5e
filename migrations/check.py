"""Drift: whether a database is what its history says, and whether files, models and registry say the same.

    history    migrations that are pending, altered after they were applied, or not shipped any more
    database   the real schema against the one that the files make, up to the newest that is applied
    models     the models against what all files make
    registry   the columns that travel against what all files make

The files' and the models' schemas are made in scratch databases of the same engine, so that nothing is compared that the engine did not spell
itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources.abc import Traversable
from typing import Literal, NamedTuple

from domain import registry
from migrations.files import Kind
from migrations.history import HistoryEntry
from migrations.runner import Migrations
from migrations.schema.description import Difference, Schema, differences
from migrations.schema.models import ModelSet
from migrations.scratch import Scratch, schema_of_files, schema_of_models

Source = Literal["history", "database", "models", "registry"]

_INTEGERS = {"bigint", "integer", "smallint"}
_TYPES: dict[Kind, dict[registry.Kind, set[str]]] = {
    "device": {
        registry.Kind.ID: {"TEXT"},
        registry.Kind.INTEGER: {"INTEGER"},
        registry.Kind.REAL: {"REAL"},
        registry.Kind.BOOLEAN: {"INTEGER"},
        registry.Kind.TEXT: {"TEXT"},
        registry.Kind.DATE: {"TEXT"},
        registry.Kind.JSON: {"TEXT"},
    },
    "cloud": {
        registry.Kind.ID: {"uuid"},
        registry.Kind.INTEGER: _INTEGERS,
        registry.Kind.REAL: {"double precision"},
        registry.Kind.BOOLEAN: {"boolean"},
        registry.Kind.TEXT: {"text"},
        registry.Kind.DATE: {"text"},
        registry.Kind.JSON: {"jsonb"},
    },
}
_HISTORY = {
    "pending": "is pending: run upgrade",
    "altered": "was edited after it was applied",
    "missing": "is applied, and this version does not have it",
}


class Finding(NamedTuple):
    """One thing that does not agree. `place`: a migration, or `table: column name`; `expected` and `found` are SQL, None for nothing."""

    source: Source
    place: str
    text: str
    expected: str | None = None
    found: str | None = None


def check(kind: Kind, migrations: Migrations, models: ModelSet, scratch: Scratch, folder: Traversable | None = None) -> list[Finding]:
    """Everything that does not agree; nothing for a database as it should be. Changes nothing in it.

    `folder` is the one that `migrations` was opened with. Raises SchemaError when there is no database, OperatorError when it, or a scratch
    database, cannot be used.
    """
    real = migrations.schema()
    entries = migrations.history()
    shipped = schema_of_files(kind, scratch, folder=folder)
    findings = list(_in_history(entries))
    findings += _findings("database", differences(_expected(kind, entries, scratch, folder, shipped), real))
    findings += _findings("models", differences(schema_of_models(kind, models, scratch), shipped))
    return findings + list(in_registry(kind, shipped))


def in_registry(kind: Kind, schema: Schema) -> Iterator[Finding]:
    """Where the travelling tables and columns of the registry are missing from a schema, or of another type."""
    for table in registry.TABLES.values():
        if table.name not in schema.tables:
            yield Finding("registry", f"table {table.name}", f"table {table.name} is missing")
            continue
        there = schema.tables[table.name].columns
        for column in table.columns:
            place = f"{table.name}: column {column.name}"
            types = _TYPES[kind][column.kind]
            expected = f"{' or '.join(sorted(types))}{'' if column.nullable else ' NOT NULL'}"
            real = there.get(column.name)
            if real is None:
                yield Finding("registry", place, f"{place} is missing: {expected}", expected)
            elif real.type not in types or real.nullable != column.nullable:
                yield Finding(
                    "registry", place, f"{place} differs: expected {expected}, found {real.definition}", expected, real.definition
                )


def _expected(kind: Kind, entries: list[HistoryEntry], scratch: Scratch, folder: Traversable | None, shipped: Schema) -> Schema:
    """What the files make that are applied and shipped, in their present text."""
    names = [entry.name for entry in entries if entry.state in ("applied", "altered")]
    if not names:
        return Schema()
    if not any(entry.state == "pending" for entry in entries):
        return shipped
    return schema_of_files(kind, scratch, target=max(names), folder=folder)


def _in_history(entries: list[HistoryEntry]) -> Iterator[Finding]:
    for entry in entries:
        if text := _HISTORY.get(entry.state):
            yield Finding("history", entry.name, f"{entry.name} {text}")


def _findings(source: Source, found: list[Difference]) -> Iterator[Finding]:
    for difference in found:
        yield Finding(source, difference.place, str(difference), difference.wanted, difference.found)
