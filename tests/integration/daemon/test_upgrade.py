from __future__ import annotations

import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from daemon.upgrade import upgrade_if_needed
from domain.errors import CarrelError, SchemaError
from migrations.current import device_is_current


def test_a_missing_database_is_made_with_the_whole_schema(tmp_path: Path) -> None:
    path = tmp_path / "carrel.sqlite3"
    upgrade_if_needed(path)
    assert device_is_current(path)


def test_a_current_database_starts_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "carrel.sqlite3"
    upgrade_if_needed(path)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    upgrade_if_needed(path)


def test_a_database_that_cannot_be_migrated_is_refused_with_the_runners_sentence(tmp_path: Path) -> None:
    path = tmp_path / "carrel.sqlite3"
    upgrade_if_needed(path)
    with closing(sqlite3.connect(path)) as conn, conn:
        name = next(
            table
            for (table,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")
            if "migrat" in table or "history" in table
        )
        conn.execute(f"INSERT INTO {name} (name, checksum, applied_at_ms, duration_ms, app_version) VALUES ('0999_newer', '', 0, 0, '9.9')")
    with pytest.raises(SchemaError) as caught:
        upgrade_if_needed(path)
    assert "0999_newer" in caught.value.message


def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "carrel.sqlite3"
    path.write_text("not a database, but somebody's notes " * 100)
    with pytest.raises(CarrelError):
        upgrade_if_needed(path)
    assert path.read_text().startswith("not a database")
