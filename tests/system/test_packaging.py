"""The wheel, installed as a school's server would: into an environment of its own, away from the repository."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.migration.conftest import Folder, Target
from tests.migration.scripts import run_script
from tests.support.wheels import build_wheel

ROOT = Path(__file__).parents[2]
PACKAGES = ("domain", "loglines", "webpages", "daemon", "cloud_api", "migrations")
COMMAND_TIMEOUT_S = 100


def run(*command: str | Path, cwd: Path, exit_code: int = 0, **settings: str) -> str:
    """Run a command as a stranger to this repository would; its output. Another end than `exit_code` shows all it said."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LC_ALL": "C.UTF-8"} | settings
    result = subprocess.run(command, check=False, cwd=cwd, env=environment, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    assert result.returncode == exit_code, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the working tree stays as it is."""
    return build_wheel(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` folder of a new environment that holds the wheel. Only the libraries of others come from the environment of the tests."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    python = folder / "bin" / "python"
    site_packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    # A folder named in a .pth file is searched, but .pth files inside it are not followed: the repository itself stays out of sight.
    (site_packages / "libraries.pth").write_text(sysconfig.get_path("purelib"))
    # Offline, so that a requirement the environment of the tests does not meet is an error.
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--disable-pip-version-check")
    run(*pip, f"carrel[cloud] @ {wheel.as_uri()}", cwd=folder)
    return python.parent


def test_the_wheel_holds_the_packages_and_every_file_they_need(wheel: Path) -> None:
    shipped = set(zipfile.ZipFile(wheel).namelist())
    needed = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc"
    }
    assert not needed - shipped
    assert any(name.startswith("migrations/device/0001_") for name in shipped)
    assert any(name.startswith("migrations/cloud/0001_") for name in shipped)
    tops = {name.split("/")[0] for name in shipped}
    assert {top for top in tops if not top.endswith((".dist-info", ".data"))} <= {*PACKAGES, "devstack"}
    beside = {name.partition(".data/data/")[2] for name in shipped if ".data/data/" in name}
    units = {f"share/carrel/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "systemd").rglob("*") if path.is_file()}
    files = {f"share/carrel/{name}" for name in ("config.toml", "device.lock", "server.lock")}
    assert beside == files | units - {"share/carrel/systemd/README.md"}


def test_daemon_is_ours_and_lies_beside_domain(installed: Path, tmp_path: Path) -> None:
    # `daemon` is the import name of python-daemon, too.
    script = f"import importlib, json; print(json.dumps([importlib.import_module(name).__file__ for name in {PACKAGES!r}]))"
    files = [Path(file) for file in json.loads(run(installed / "python", "-c", script, cwd=tmp_path))]
    assert [file.parent.name for file in files] == list(PACKAGES)
    assert len({file.parents[1] for file in files}) == 1
    assert files[0].is_relative_to(installed.parent)


def test_the_version_is_the_one_of_setup_cfg(installed: Path, tmp_path: Path) -> None:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    version = run(installed / "python", "-c", "from importlib.metadata import version; print(version('carrel'))", cwd=tmp_path)
    assert version.strip() == settings["metadata"]["version"]


@pytest.mark.parametrize("command", ["carrel", "carrel-cloud", "carrel-migrate"])
def test_every_command_answers_help(installed: Path, tmp_path: Path, command: str) -> None:
    assert "Usage" in run(installed / command, "--help", cwd=tmp_path)


@dataclass(frozen=True)
class Database:
    """An empty database, and the installed commands to migrate it with."""

    target: Target
    bin: Path
    cwd: Path

    def migrate(self, *arguments: str, exit_code: int = 0) -> str:
        """What `carrel-migrate` says."""
        return self._run(self.bin / "carrel-migrate", "--db", self.target.kind, *arguments, exit_code=exit_code)

    def report(self, *arguments: str) -> dict[str, Any]:
        [report] = json.loads(self.migrate(*arguments, "--json"))
        assert isinstance(report, dict)
        return report

    def init(self) -> None:
        self._run(self.bin / "python", "-m", "migrations.commands.init", "--db", self.target.kind)

    def installed_files(self) -> list[Path]:
        return sorted(self.bin.parent.rglob("migrations/*/[0-9]*.py"))

    def _run(self, *command: str | Path, exit_code: int = 0) -> str:
        variable = "DATABASE_URL" if self.target.kind == "cloud" else "SQLITE_DATABASE_URL"
        return run(*command, cwd=self.cwd, exit_code=exit_code, **{variable: self.target.url})


@pytest.fixture(params=["device", "cloud"])
def database(request: pytest.FixtureRequest, installed: Path, tmp_path: Path) -> Database:
    url = request.getfixturevalue("fresh_database") if request.param == "cloud" else f"sqlite:///{tmp_path / 'device.sqlite3'}"
    return Database(Target(request.param, url, Folder(tmp_path)), installed, tmp_path)


def test_upgrade_and_downgrade_and_what_they_left_are_told_from_the_wheel(database: Database) -> None:
    names = [step["name"] for step in database.report("upgrade", "head")["steps"]]
    assert names
    assert database.report("current")["current"] == names[-1]
    assert [(entry["name"], entry["state"]) for entry in database.report("history")["migrations"]] == [(name, "applied") for name in names]
    assert database.target.sql("SELECT count(*) FROM question_attempts") == [(0,)]
    assert database.report("check")["differences"] == []
    taken_back = database.report("downgrade", f"-{len(names)}")
    assert [step["name"] for step in taken_back["steps"]] == names[::-1]
    assert database.report("current") == {"db": database.target.kind, "current": None, "applied": None, "pending": names}


def test_the_printed_sql_of_the_wheel_does_what_its_commands_do(database: Database) -> None:
    up = database.migrate("upgrade", "head", "--sql")
    assert database.report("current")["current"] is None
    run_script(database.target, up.splitlines())
    assert database.report("current")["pending"] == []
    assert database.report("check")["differences"] == []
    down = database.migrate("downgrade", f"-{len(database.report('history')['migrations'])}", "--sql")
    assert database.report("current")["pending"] == []
    run_script(database.target, down.splitlines())
    assert database.report("current")["current"] is None


def test_a_database_is_made_from_the_models_stamped_and_checked_from_the_wheel(database: Database) -> None:
    database.init()
    head = database.report("current")["current"]
    assert head
    database.target.sql("DELETE FROM migration_history")
    assert database.report("current")["current"] is None
    assert database.report("stamp", "head")["recorded"][-1] == head
    assert database.report("check")["differences"] == []
    database.target.sql("DROP INDEX idx_attempts_student_timestamp")
    assert "idx_attempts_student_timestamp is missing" in database.migrate("check", exit_code=1)


AN_INDEX_LESS = """
def migrate(migrator, database, *, fake=False):
    migrator.sql("DROP INDEX idx_attempts_student_timestamp")
"""


def test_new_files_are_made_in_a_folder_of_ones_own_and_never_among_those_installed(database: Database) -> None:
    folder = shutil.copytree(
        ROOT / "migrations" / database.target.kind, database.cwd / "files", ignore=shutil.ignore_patterns("__pycache__")
    )
    (folder / "0002_an_index_less.py").write_text(AN_INDEX_LESS)
    before = database.installed_files()
    database.migrate("create", "a change", exit_code=1)
    assert database.installed_files() == before
    drafted = Path(database.report("create", "the index again", "--auto", "--folder", str(folder))["path"])
    empty = Path(database.report("create", "a change", "--folder", str(folder))["path"])
    assert [drafted, empty] == [folder / "0003_the_index_again.py", folder / "0004_a_change.py"]
    assert "idx_attempts_student_timestamp" in drafted.read_text("utf-8")
    assert "def migrate" in empty.read_text("utf-8")


def test_the_repository_is_out_of_sight_of_what_is_installed(installed: Path, tmp_path: Path) -> None:
    searched = json.loads(run(installed / "python", "-c", "import json, sys; print(json.dumps(sys.path))", cwd=tmp_path))
    assert str(ROOT) not in searched


def test_the_commands_for_a_large_table_run_from_the_wheel(installed: Path, tmp_path: Path, fresh_database: str) -> None:
    run(installed / "carrel-migrate", "--db", "cloud", "upgrade", cwd=tmp_path, DATABASE_URL=fresh_database)
    assert run(installed / "python", "-m", "migrations.indexes", cwd=tmp_path, DATABASE_URL=fresh_database) == ""
    added = run(installed / "python", "-m", "migrations.partitioning", "--months", "1", cwd=tmp_path, DATABASE_URL=fresh_database)
    assert added.startswith("added question_attempts_")
