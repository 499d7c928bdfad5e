"""A database made straight from the models is what all migrations make."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from domain.errors import OperatorError, SchemaError
from migrations.files import shipped_files
from migrations.runner import open_migrations
from migrations.schema.description import differences
from migrations.schema.models import MODELS, load_models
from tests.migration.conftest import Target

ROOT = Path(__file__).resolve().parents[2]


def init_db(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "init_db.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


def contents(target: Target) -> dict[str, int]:
    """Table -> number of rows."""
    return {table: target.sql(f"SELECT count(*) FROM {table}")[0][0] for table in sorted(target.tables())}


def test_the_result_equals_replaying_all_migrations(target: Target) -> None:
    with target.scratch() as url:
        replayed = Target(target.kind, url, target.folder)
        with open_migrations(target.kind, url) as migrations:
            migrations.upgrade()
            schema = migrations.schema()
        rows = contents(replayed)
    with open_migrations(target.kind, target.url) as migrations:
        migrations.init(load_models(MODELS[target.kind]))
        assert [str(difference) for difference in differences(schema, migrations.schema())] == []
        assert migrations.pending() == []
        assert [(row.name, row.checksum) for row in migrations.applied()] == [(f.name, f.checksum) for f in shipped_files(target.kind)]
    assert contents(target) == rows


def test_both_databases_are_made_by_one_call(device: Target, cloud: Target) -> None:
    done = init_db("--sqlite", device.url.removeprefix("sqlite:///"), "--url", cloud.url, "--json")
    heads = {kind: shipped_files(kind)[-1].name for kind in ("device", "cloud")}
    assert json.loads(done.stdout) == [{"db": kind, "current": head} for kind, head in heads.items()]
    assert device.sql("SELECT count(*) FROM sync_operations") == [(0,)]
    assert cloud.sql("SELECT count(*) FROM server_state") == [(1,)]


def test_a_database_that_is_not_empty_is_refused_and_left_alone(target: Target) -> None:
    target.folder.add_tables(1)
    target.upgrade()
    option = ("--sqlite", target.url.removeprefix("sqlite:///")) if target.kind == "device" else ("--url", target.url)
    done = init_db("--db", target.kind, *option)
    assert done.returncode == SchemaError.exit_code
    assert "not empty" in done.stderr
    assert target.tables() == {"table_1"}


def test_models_that_do_not_make_a_schema_leave_nothing_behind(target: Target) -> None:
    target.folder.add_tables(1)
    shipped: Any = load_models(MODELS[target.kind])
    broken = type(shipped)(shipped.models, ("NOT SQL",))
    with target.open() as migrations, pytest.raises(OperatorError, match="models do not make a schema"):
        migrations.init(broken)
    assert target.tables() == set()
