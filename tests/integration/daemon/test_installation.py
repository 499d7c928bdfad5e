"""The environments of an installation, in a folder instead of the machine; the whole of it is tried in tests/system/test_booted_unit.py."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from cloud_api.config import erasures_path
from cloud_api.config import load_config as load_cloud_config
from daemon.config import load_config as load_device_config
from daemon.installation import environment
from daemon.installation.environment import MARKER, Source
from daemon.installation.installing import _place_settings
from daemon.installation.layout import DEVICE, ROLES, SERVER, Layout
from domain.errors import OperatorError

ROOT = Path(__file__).parents[3]


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path)


def made(layout: Layout, name: str) -> Path:
    """A complete environment with a command that says its name."""
    folder = layout.versions / name
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "carrel").write_text(f"#!/bin/sh\necho {name}\n")
    (folder / "bin" / "carrel").chmod(0o755)
    (folder / MARKER).touch()
    return folder


def said(layout: Layout) -> str:
    return subprocess.run([layout.program("carrel")], capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def test_the_commands_are_those_of_the_environment_in_use_and_the_one_before_is_known(layout: Layout) -> None:
    first, second, third = (made(layout, f"0.{number}.0-abc") for number in (1, 2, 3))
    assert environment.present(layout) is None
    environment.use(layout, first)
    assert (said(layout), environment.before(layout)) == ("0.1.0-abc", None)
    environment.use(layout, second)
    assert (said(layout), environment.before(layout)) == ("0.2.0-abc", first)
    environment.use(layout, second)
    assert environment.before(layout) == first, "what is in use already is not before itself"
    environment.use(layout, third)
    assert environment.forget_older(layout) == [first]
    assert environment.version_of(third) == "0.3.0"


def test_an_environment_that_was_not_finished_does_not_count(layout: Layout) -> None:
    first, second = made(layout, "0.1.0-abc"), made(layout, "0.2.0-abc")
    environment.use(layout, first)
    environment.use(layout, second)
    (first / MARKER).unlink()
    assert environment.before(layout) is None


def test_a_damaged_wheel_is_refused(layout: Layout, tmp_path: Path) -> None:
    wheel = wheel_with(tmp_path, device_lock="")
    wheel.write_bytes(wheel.read_bytes()[:-30])
    with pytest.raises(OperatorError, match="damaged"):
        environment.make_environment(layout, Source(wheel), "")


@pytest.mark.parametrize("name", ["carrel-0.1.0.tar.gz", "other-0.1.0-py3-none-any.whl", "carrel-0.1.0-py3-none-any.whl"])
def test_what_is_no_wheel_of_carrel_is_refused(layout: Layout, tmp_path: Path, name: str) -> None:
    with pytest.raises(OperatorError, match="not a wheel of Carrel"):
        environment.make_environment(layout, Source(tmp_path / name), "")


def wheel_with(folder: Path, *, device_lock: str, requires: str = "") -> Path:
    """A wheel of the name, with nothing in it but what pip asks for and the list of what it goes with."""
    path = folder / "carrel-0.1.0-py3-none-any.whl"
    about = {
        "carrel-0.1.0.dist-info/METADATA": f"Metadata-Version: 2.1\nName: carrel\nVersion: 0.1.0\n{requires}",
        "carrel-0.1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "carrel-0.1.0.data/data/share/carrel/device.lock": device_lock,
    }
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in about.items():
            wheel.writestr(name, text)
        wheel.writestr("carrel-0.1.0.dist-info/RECORD", "".join(f"{name},,\n" for name in (*about, "carrel-0.1.0.dist-info/RECORD")))
    return path


def a_package(folder: Path, content: str) -> str:
    """Lays the wheel of a package there. Returns the line of a lock that names it."""
    path = folder / "something-1.0-py3-none-any.whl"
    about = "something-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("something.py", content)
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: something\nVersion: 1.0\n")
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", f"something.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return f"something==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def test_an_environment_takes_the_files_that_its_wheel_knows_and_no_others(layout: Layout, tmp_path: Path) -> None:
    line = a_package(tmp_path, "answer = 42")
    wheel = wheel_with(tmp_path, device_lock=line, requires="Requires-Dist: something\n")
    source = Source(wheel, Path(sys.executable), tmp_path)
    folder = environment.make_environment(layout, source, "")
    assert list(folder.rglob("something.py"))
    python = folder / "bin" / "python"
    python.unlink()
    python.symlink_to("/usr/bin/python3.0")  # the system has another by now
    assert environment.make_environment(layout, source, "") == folder
    assert python.exists()
    shutil.rmtree(folder)
    a_package(tmp_path, "answer = 43")
    with pytest.raises(OperatorError, match="DO NOT MATCH THE HASHES"):
        environment.make_environment(layout, source, "")
    wheel_with(tmp_path, device_lock="", requires="Requires-Dist: something\n")
    with pytest.raises(OperatorError, match="require-hashes"):
        environment.make_environment(layout, source, "")
    assert os.listdir(layout.versions) == []


def test_commands_that_a_killed_installation_has_not_linked_are_linked_by_the_next(layout: Layout) -> None:
    first = made(layout, "0.1.0-abc")
    environment.use(layout, first)
    shutil.rmtree(layout.prefix / "bin")
    environment.use(layout, first)
    assert said(layout) == "0.1.0-abc"


def test_a_python_in_somebodys_home_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_base_executable", "/home/ada/python3.11")
    with pytest.raises(OperatorError, match="--python"):
        environment.own_python()
    monkeypatch.setattr(sys, "_base_executable", "/nowhere/python3.11")
    assert environment.own_python() == Path("/nowhere/python3.11")


def test_commands_that_a_person_runs_find_the_state_and_the_registers_of_the_services(layout: Layout) -> None:
    """They have the settings, and not what the units say besides."""
    shipped = made(layout, "0.1.0-abc") / "share" / "carrel"
    shipped.mkdir(parents=True)
    shutil.copy(ROOT / "config.toml", shipped)
    _place_settings(layout, SERVER, layout.versions / "0.1.0-abc")
    settings = {"CARREL_CONFIG": str(layout.config)}
    assert load_device_config(layout.config, settings).state_dir == Path("/") / DEVICE.state
    for unit in ("carrel-cloud.service", "carrel-cloud-tidy.service", "carrel-cloud-backup.service"):
        said = re.findall(r"CARREL_CLOUD_ERASURES_FILE=%S/(\S+)", (ROOT / "systemd" / unit).read_text())
        assert [Path("/var/lib") / path for path in said] == [erasures_path(load_cloud_config(None, settings))]


def test_everything_that_a_role_needs_is_shipped() -> None:
    for role in ROLES.values():
        for name in (*role.units, role.sysusers):
            assert (ROOT / "systemd" / name).is_file()
