"""The files shipped: up, all the way down, and up again gives the same schema."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.errors import SchemaError
from migrations.current import device_is_current
from migrations.files import Kind, MigrationFile, shipped_files
from migrations.runner import open_migrations, upgrade_cloud, upgrade_device
from tests.migration.conftest import Target

SCHEMA = {
    "device": "SELECT type, name, sql FROM sqlite_master ORDER BY 1, 2",
    "cloud": "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns"
    " WHERE table_schema = 'public' ORDER BY 1, 2",
}


def files_or_skip(kind: Kind) -> tuple[MigrationFile, ...]:
    try:
        return shipped_files(kind)
    except SchemaError:
        pytest.skip(f"no migration is shipped for the {kind} yet")


def test_the_shipped_files_go_up_down_and_up_again(target: Target) -> None:
    names = [file.name for file in files_or_skip(target.kind)]
    with open_migrations(target.kind, target.url) as migrations:
        assert [step.name for step in migrations.upgrade()] == names
        first = target.sql(SCHEMA[target.kind])
        assert [step.name for step in migrations.downgrade(f"-{len(names)}")] == names[::-1]
        assert target.tables() == set()
        migrations.upgrade()
        assert target.sql(SCHEMA[target.kind]) == first


def test_upgrade_device_makes_a_database_that_is_current(tmp_path: Path) -> None:
    files_or_skip("device")
    path = tmp_path / "carrel.db"
    assert not device_is_current(path)
    upgrade_device(path)
    assert device_is_current(path)


def test_upgrade_cloud_leaves_nothing_pending(cloud: Target) -> None:
    files_or_skip("cloud")
    upgrade_cloud(cloud.url)
    with open_migrations("cloud", cloud.url) as migrations:
        assert migrations.pending() == []
