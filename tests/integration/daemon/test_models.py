"""The peewee models against the schema that the migrations make, and against the registry."""

from __future__ import annotations

from pathlib import Path

from playhouse.schema_diff import diff_models

from daemon.database import DeviceDatabase
from daemon.models import MODELS
from domain.registry import TABLES
from migrations.runner import upgrade_device


def test_the_models_have_the_tables_columns_and_indexes_of_the_migrations(tmp_path: Path) -> None:
    path = tmp_path / "device.sqlite3"
    upgrade_device(path)
    database = DeviceDatabase(path)
    database.open(MODELS)
    try:
        with database.read() as conn:
            assert not diff_models(database.connections, list(MODELS))
            for model in MODELS:
                declared = {f.column_name: f.null for f in model._meta.sorted_fields}
                real = {
                    name: not (not_null or key)
                    for _, name, _, not_null, _, key in conn.execute(f"PRAGMA table_info({model._meta.table_name})")
                }
                assert declared == real, model
    finally:
        database.close()


def test_every_synced_table_has_a_model_with_the_columns_of_the_registry() -> None:
    by_table = {model._meta.table_name: model for model in MODELS}
    for table in TABLES.values():
        columns = {f.column_name for f in by_table[table.name]._meta.sorted_fields}
        assert columns == {*table.column_names, "feed_no", "_extra"}
