"""The wheel, installed as a school's server would: into an environment of its own, away from the repository."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import sysconfig
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("domain", "daemon", "cloud_api", "migrations")
COMMAND_TIMEOUT_S = 100


def run(*command: str | Path, cwd: Path, **settings: str) -> str:
    """Run a command as a stranger to this repository would; its output. A failure shows all it said."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), "LC_ALL": "C.UTF-8"} | settings
    result = subprocess.run(command, check=False, cwd=cwd, env=environment, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy so that the working tree stays as it is."""
    source = tmp_path_factory.mktemp("source")
    for package in (*PACKAGES, "devstack"):
        if (ROOT / package).is_dir():
            shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, source)
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", source / "dist", cwd=source)
    [built] = (source / "dist").glob("*.whl")
    return built


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
    assert {top for top in tops if not top.endswith(".dist-info")} <= {*PACKAGES, "devstack"}


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


def test_the_device_database_is_migrated_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    file = tmp_path / "device.sqlite3"
    url = f"sqlite:///{file}"
    run(installed / "carrel-migrate", "--db", "device", "upgrade", "head", cwd=tmp_path, SQLITE_DATABASE_URL=url)
    with closing(sqlite3.connect(file)) as database:
        assert database.execute("SELECT count(*) FROM question_attempts").fetchone() == (0,)
    [report] = json.loads(run(installed / "carrel-migrate", "--db", "device", "current", "--json", cwd=tmp_path, SQLITE_DATABASE_URL=url))
    assert report["pending"] == []


def test_the_cloud_database_is_migrated_from_the_wheel(installed: Path, tmp_path: Path, fresh_database: str) -> None:
    run(installed / "carrel-migrate", "--db", "cloud", "upgrade", "head", cwd=tmp_path, DATABASE_URL=fresh_database)
    [report] = json.loads(
        run(installed / "carrel-migrate", "--db", "cloud", "current", "--json", cwd=tmp_path, DATABASE_URL=fresh_database)
    )
    assert report["current"]
    assert report["pending"] == []
