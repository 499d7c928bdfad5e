"""`carrel-migrate` as a person and as a program use it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from migrations import cli, runner
from migrations.files import Kind, files_in
from tests.migration.conftest import Folder, Target

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shipped(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A folder that stands for the files shipped, of both kinds; and no address in the environment."""

    def shipped_files(kind: Kind) -> Any:
        return files_in(folder.path)

    monkeypatch.setattr(runner, "shipped_files", shipped_files)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("SQLITE_DATABASE_URL", raising=False)
    return folder


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_upgrade_tells_what_was_applied_and_how_long_it_took(shipped: Folder, tmp_path: Path) -> None:
    shipped.add_tables(1, 2)
    database = str(tmp_path / "d.db")
    result = invoke("--db", "device", "--sqlite", database, "upgrade")
    lines = result.stdout.splitlines()
    assert result.exit_code == 0
    assert [line.rstrip("0123456789 ms") for line in lines[:2]] == ["device: 0001_table_1 applied in", "device: 0002_table_2 applied in"]
    assert lines[2] == "device: at 0002_table_2"
    assert invoke("--db", "device", "--sqlite", database, "upgrade").stdout == "device: nothing to do, at 0002_table_2\n"


def test_the_addresses_come_from_the_environment(shipped: Folder, device: Target, cloud: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped.add_tables(1)
    monkeypatch.setenv("SQLITE_DATABASE_URL", device.url)
    monkeypatch.setenv("DATABASE_URL", cloud.url)
    result = invoke("--db", "all", "upgrade", "--json")
    reports = json.loads(result.stdout)
    assert [(report["db"], report["current"]) for report in reports] == [("device", "0001_table_1"), ("cloud", "0001_table_1")]
    assert device.tables() == cloud.tables() == {"table_1"}


def test_without_an_address_it_says_which_ones_are_missing(shipped: Folder) -> None:
    shipped.add_tables(1)
    result = invoke("--db", "all", "current")
    assert result.exit_code == 2
    assert "SQLITE_DATABASE_URL" in result.stderr
    assert "DATABASE_URL" in result.stderr
    assert "Say which database" in invoke("current").stderr


def test_downgrade_takes_back_one_by_default_and_n_when_told(shipped: Folder, tmp_path: Path) -> None:
    shipped.add_tables(1, 2, 3)
    at = ("--db", "device", "--sqlite", str(tmp_path / "d.db"))
    invoke(*at, "upgrade")
    assert invoke(*at, "downgrade").stdout.endswith("device: at 0002_table_2\n")
    assert invoke(*at, "downgrade", "-2").stdout.endswith("device: at nothing\n")


def test_history_and_current_as_json(shipped: Folder, tmp_path: Path) -> None:
    shipped.add_tables(1, 2)
    at = ("--db", "device", "--sqlite", str(tmp_path / "d.db"))
    invoke(*at, "upgrade", "+1")
    (current,) = json.loads(invoke(*at, "current", "--json").stdout)
    assert current == {"db": "device", "current": "0001_table_1", "pending": ["0002_table_2"]}
    (history,) = json.loads(invoke(*at, "history", "--json").stdout)
    assert [(entry["name"], entry["state"], entry["applied_at_ms"] is None) for entry in history["migrations"]] == [
        ("0001_table_1", "applied", False),
        ("0002_table_2", "pending", True),
    ]
    assert "pending  0002_table_2" in invoke(*at, "history").stdout


def test_an_error_is_one_sentence_with_its_exit_code_and_keeps_what_was_applied_before(shipped: Folder, tmp_path: Path) -> None:
    shipped.add_tables(1)
    shipped.add("0002_fails", ["NOT SQL"])
    result = invoke("--db", "device", "--sqlite", str(tmp_path / "d.db"), "upgrade")
    assert result.exit_code == 4
    assert result.stdout.startswith("device: 0001_table_1 applied")
    assert result.stderr.startswith("carrel-migrate: 0002_fails failed")
    assert len(result.stderr.splitlines()) == 1

    result = invoke("--db", "device", "--sqlite", str(tmp_path / "e.db"), "upgrade", "--json")
    (report,) = json.loads(result.stdout)
    assert [step["name"] for step in report["steps"]] == ["0001_table_1"]
    assert report["error"]["code"] == "schema"


def test_help_imports_neither_peewee_nor_psycopg2() -> None:
    code = (
        "import sys; from migrations.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'peewee', 'psycopg2', 'peewee_migrate'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True).returncode == 0


def test_a_device_migrates_without_psycopg2(device: Target) -> None:
    device.folder.add_tables(1)
    code = (
        "import sys; sys.modules['psycopg2'] = None\n"
        "import pathlib; from migrations.runner import open_migrations\n"
        "with open_migrations('device', sys.argv[1], folder=pathlib.Path(sys.argv[2])) as m: m.upgrade()"
    )
    subprocess.run([sys.executable, "-c", code, device.url, str(device.folder.path)], cwd=ROOT, check=True)
    assert device.current() == "0001_table_1"


def test_asking_whether_a_device_is_current_imports_no_peewee() -> None:
    code = (
        "import sys, pathlib; from migrations.current import device_is_current\n"
        "device_is_current(pathlib.Path('absent'), ())\n"
        "sys.exit(bool({'peewee', 'peewee_migrate', 'unittest.mock', 'asyncio'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_the_script_at_the_top_is_the_same_command() -> None:
    result = subprocess.run([sys.executable, "migrate.py", "--help"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "upgrade" in result.stdout
