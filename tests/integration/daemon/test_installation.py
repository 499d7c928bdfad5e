"""The environments of an installation, in a folder instead of the machine; the whole of it is tried in tests/system/test_booted_unit.py."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from daemon.installation import environment
from daemon.installation.environment import MARKER, Source
from daemon.installation.layout import ROLES, Layout, shipped
from domain.errors import OperatorError


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


@pytest.mark.parametrize("name", ["carrel-0.1.0.tar.gz", "other-0.1.0-py3-none-any.whl", "carrel-0.1.0-py3-none-any.whl"])
def test_what_is_no_wheel_of_carrel_is_refused(layout: Layout, tmp_path: Path, name: str) -> None:
    with pytest.raises(OperatorError, match="not a wheel of Carrel"):
        environment.make_environment(layout, Source(tmp_path / name), "")


def test_an_environment_that_fails_leaves_nothing(layout: Layout, tmp_path: Path) -> None:
    wheel = tmp_path / "carrel-0.1.0-py3-none-any.whl"
    wheel.write_text("no wheel")
    with pytest.raises(OperatorError, match="The packages cannot be installed"):
        environment.make_environment(layout, Source(wheel, Path(sys.executable), tmp_path), "")
    assert os.listdir(layout.versions) == []


def test_a_python_in_somebodys_home_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "_base_executable", "/home/ada/python3.11")
    with pytest.raises(OperatorError, match="--python"):
        environment.own_python()
    monkeypatch.setattr(sys, "_base_executable", "/nowhere/python3.11")
    assert environment.own_python() == Path("/nowhere/python3.11")


def test_everything_that_a_role_needs_is_shipped() -> None:
    for role in ROLES.values():
        for name in (*role.units, role.sysusers):
            assert shipped(f"systemd/{name}").is_file()
    with pytest.raises(OperatorError):
        shipped("systemd/nothing.service")
