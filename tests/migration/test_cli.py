"""`carrel-migrate` as a person and as a program use it."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from domain.errors import OperatorError
from migrations import cli, preview, runner, waiting
from migrations.files import Kind, files_in
from tests.migration.conftest import Folder, Target

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def shipped(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A folder that stands for the files shipped, of both kinds; and no address in the environment."""

    def shipped_files(kind: Kind) -> Any:
        return files_in(folder.path)

    for module in (runner, preview):
        monkeypatch.setattr(module, "shipped_files", shipped_files)
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


def test_on_a_terminal_nobody_takes_back_everything_by_mistake(shipped: Folder, tmp_path: Path) -> None:
    """With a real terminal, at which somebody types n, and then y."""
    shipped.add_tables(1, 2)
    at = ("--db", "device", "--sqlite", str(tmp_path / "d.db"))
    invoke(*at, "upgrade")
    assert on_terminal(shipped, *at, "downgrade", typed="") == 0  # one of two: nobody is asked
    assert on_terminal(shipped, *at, "downgrade", typed="n\n") == OperatorError.exit_code
    assert json.loads(invoke(*at, "current", "--json").stdout)[0]["current"] == "0001_table_1"
    assert on_terminal(shipped, *at, "downgrade", typed="y\n") == 0
    invoke(*at, "upgrade", "+1")
    assert on_terminal(shipped, *at, "downgrade", "--yes", typed="") == 0
    assert json.loads(invoke(*at, "current", "--json").stdout)[0]["current"] is None


ON_FILES = (
    "import pathlib, sys; from migrations import cli, files, runner\n"
    "folder = pathlib.Path(sys.argv.pop(1))\n"
    "runner.shipped_files = lambda kind: files.files_in(folder)\n"
    "cli.main()"
)


def on_terminal(files: Folder, *arguments: str, typed: str) -> int:
    """The exit code of the command at a terminal of its own."""
    ours, its = pty.openpty()
    try:
        os.write(ours, typed.encode())
        command = [sys.executable, "-c", ON_FILES, str(files.path), *arguments]
        return subprocess.run(command, cwd=ROOT, stdin=its, capture_output=True, check=False, timeout=60).returncode
    finally:
        os.close(ours)
        os.close(its)


def test_an_upgrade_goes_on_when_nobody_reads_what_it_says(shipped: Folder, tmp_path: Path) -> None:
    """As behind `| head -1`: a device's file would be put back otherwise, and a server's left between two files."""
    shipped.add("0001_row", ["CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1)"])
    at = ("--db", "device", "--sqlite", str(tmp_path / "d.db"))
    invoke(*at, "upgrade")
    shipped.add_tables(2, 3)
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-c", ON_FILES, str(shipped.path), *at, "upgrade"]
        done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(invoke(*at, "current", "--json").stdout)[0]["current"] == "0003_table_3"


def test_history_and_current_as_json(shipped: Folder, tmp_path: Path) -> None:
    shipped.add_tables(1, 2)
    at = ("--db", "device", "--sqlite", str(tmp_path / "d.db"))
    invoke(*at, "upgrade", "+1")
    (current,) = json.loads(invoke(*at, "current", "--json").stdout)
    assert (current["db"], current["current"], current["pending"]) == ("device", "0001_table_1", ["0002_table_2"])
    assert current["applied"]["checksum"] == files_in(shipped.path)[0].checksum
    assert set(current["applied"]) == {"name", "checksum", "applied_at_ms", "duration_ms", "app_version"}
    (history,) = json.loads(invoke(*at, "history", "--json").stdout)
    assert [(entry["name"], entry["state"], entry["applied_at_ms"] is None) for entry in history["migrations"]] == [
        ("0001_table_1", "applied", False),
        ("0002_table_2", "pending", True),
    ]
    assert "pending  0002_table_2" in invoke(*at, "history").stdout


def test_current_and_history_say_when_by_which_version_how_long_and_the_checksum(shipped: Folder, tmp_path: Path) -> None:
    shipped.add_tables(1)
    at = ("--db", "device", "--sqlite", str(tmp_path / "d.db"))
    invoke(*at, "upgrade")
    details = re.compile(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC, by \S+, in \d+ ms, checksum {files_in(shipped.path)[0].checksum}")
    assert details.search(invoke(*at, "current").stdout)
    assert details.search(invoke(*at, "history").stdout)


def test_history_marks_altered_missing_and_pending_files(shipped: Folder, tmp_path: Path) -> None:
    shipped.add_tables(1, 2)
    at = ("--db", "device", "--sqlite", str(tmp_path / "d.db"))
    invoke(*at, "upgrade")
    shipped.add("0001_table_1", ["CREATE TABLE edited (id INTEGER)"])
    (shipped.path / "0002_table_2.py").rename(shipped.path / "0003_other.py")
    (history,) = json.loads(invoke(*at, "history", "--json").stdout)
    assert [entry["state"] for entry in history["migrations"]] == ["altered", "missing", "pending"]


def test_a_migration_that_takes_long_says_that_it_goes_on_and_a_quick_one_does_not(
    shipped: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = "SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600000) SELECT i FROM n)"
    shipped.add("0001_long", [count])
    at = ("--db", "device", "--sqlite", str(tmp_path / "d.db"))
    monkeypatch.setattr(waiting.Waiting.__init__, "__kwdefaults__", {"first_s": 60, "clock": None})  # quick, however slow this machine is
    assert invoke(*at, "upgrade").stderr == ""
    invoke(*at, "downgrade")
    monkeypatch.setattr(waiting.Waiting.__init__, "__kwdefaults__", {"first_s": 0.001, "clock": None})
    assert re.search(r"^device: 0001_long \(1 of 1\) … \d+ s$", invoke(*at, "upgrade").stderr, re.MULTILINE)
    invoke(*at, "downgrade")
    assert invoke(*at, "upgrade", "--json").stderr == ""


def test_upgrade_and_downgrade_print_their_sql_and_run_nothing(shipped: Folder, tmp_path: Path) -> None:
    shipped.add_tables(1, 2)
    at = ("--db", "device", "--sqlite", str(tmp_path / "d.db"))
    invoke(*at, "upgrade", "+1")
    assert "CREATE TABLE table_2" in invoke(*at, "upgrade", "--sql").stdout
    assert "DROP TABLE table_1" in invoke(*at, "downgrade", "-1", "--sql").stdout
    (report,) = json.loads(invoke(*at, "upgrade", "head", "--sql", "--json").stdout)
    assert any("CREATE TABLE table_2" in line for line in report["sql"])
    assert json.loads(invoke(*at, "current", "--json").stdout)[0]["current"] == "0001_table_1"


def test_the_path_of_the_backup_is_printed(shipped: Folder, tmp_path: Path) -> None:
    shipped.add("0001_row", ["CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1)"])
    at = ("--db", "device", "--sqlite", str(tmp_path / "d.db"))
    invoke(*at, "upgrade")
    shipped.add_tables(2)
    printed = invoke(*at, "upgrade").stdout
    (path,) = re.findall(r"backed up to (\S+)", printed)
    assert Path(path).is_file()


def test_backup_asks_for_a_dump_of_a_cloud_database(shipped: Folder, cloud: Target, tmp_path: Path) -> None:
    shipped.add_tables(1)
    dumps = tmp_path / "dumps"
    dumps.mkdir()
    (report,) = json.loads(invoke("--db", "cloud", "--url", cloud.url, "upgrade", "--backup", str(dumps), "--json").stdout)
    assert [str(path) for path in dumps.iterdir()] == [report["backup"]["path"]]


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
