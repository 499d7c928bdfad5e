"""The peewee models against the migrated database and the registry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from cloud_api.database import CloudDatabase
from cloud_api.embedded import DatabaseServer
from cloud_api.models import MODELS
from cloud_api.models.base import SyncedRow
from domain.registry import TABLES, Kind
from tests.support.postgres import temporary_database

_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, NULL), NOT a.attnotnull
  FROM pg_attribute a WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped
"""
_NAMED_INDEXES = """
SELECT indexname, indexdef LIKE 'CREATE UNIQUE%%', indexdef LIKE '%% WHERE %%'
  FROM pg_indexes WHERE tablename = %s AND indexname LIKE 'idx_%%'
"""
_TYPES = {
    "UUID": "uuid",
    "TEXT": "text",
    "BIGINT": "bigint",
    "INT": "integer",
    "SMALLINT": "smallint",
    "BOOL": "boolean",
    "DOUBLE": "double precision",
    "BLOB": "bytea",
    "JSON": "jsonb",
    "json": "json",
}
_KINDS = {
    Kind.ID: {"uuid"},
    Kind.INTEGER: {"bigint", "integer", "smallint"},
    Kind.REAL: {"double precision"},
    Kind.BOOLEAN: {"boolean"},
    Kind.TEXT: {"text"},
    Kind.DATE: {"text"},
    Kind.JSON: {"jsonb"},
}


@pytest.fixture(scope="module")
def database(postgres: DatabaseServer, cloud_template: str) -> Iterator[CloudDatabase]:
    """One migrated database for all tests here, which only look at it."""
    with temporary_database(postgres, cloud_template) as url:
        opened = CloudDatabase(url)
        yield opened
        opened.close()


def _columns(database: CloudDatabase, table: str) -> dict[str, tuple[str, bool]]:
    with database.transaction(read_only=True) as cursor:
        cursor.execute(_COLUMNS, (table,))
        return {name: (type_, nullable) for name, type_, nullable in cursor.fetchall()}


def test_every_table_of_the_database_has_a_model(database: CloudDatabase) -> None:
    with database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename <> 'migration_history'")
        assert {row[0] for row in cursor.fetchall()} == {model._meta.table_name for model in MODELS}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_a_model_has_the_columns_the_key_and_the_indexes_of_its_table(database: CloudDatabase, model: Any) -> None:
    table = model._meta.table_name
    described = {field.column_name: (_TYPES[field.field_type], field.null) for field in model._meta.sorted_fields}
    assert described == _columns(database, table)
    with database.transaction(read_only=True) as cursor:
        cursor.execute(_NAMED_INDEXES, (table,))
        stored = {tuple(row) for row in cursor.fetchall()}
        cursor.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'p'", (table,))
        keys = [row[0] for row in cursor.fetchall()]
    named = [index for index in model._meta.fields_to_index() if index._name.startswith("idx_")]
    assert {(i._name, bool(i._unique), i._where is not None) for i in named} == stored
    assert keys == ([f"PRIMARY KEY ({', '.join(_key_columns(model))})"] if model._meta.primary_key else [])


def _key_columns(model: Any) -> list[str]:
    key = model._meta.primary_key
    names = getattr(key, "field_names", None) or [key.name]
    return [model._meta.fields[name].column_name for name in names]


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_the_server_has_every_column_that_travels_with_its_type(database: CloudDatabase, table: Any) -> None:
    stored = _columns(database, table.name)
    for column in table.columns:
        type_, nullable = stored[column.name]
        assert type_ in _KINDS[column.kind], column.name
        assert nullable == column.nullable, column.name
    model = next(model for model in MODELS if model._meta.table_name == table.name)
    assert issubclass(model, SyncedRow)
