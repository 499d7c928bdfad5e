"""`stamp`: the history follows what a person says, and nothing is executed. On both databases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from domain.errors import AlreadyRunning, OperatorError, SchemaError
from migrations import cli, runner
from migrations.files import Kind, files_in
from migrations.lock import owning
from tests.migration.conftest import Folder, Target


def stamp(target: Target, to: str, may_drop: tuple[str, ...] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
    with target.open() as migrations:
        plan = migrations.stamp(to, may_drop)
    return plan.drop, plan.record


def rows(target: Target) -> list[tuple[Any, ...]]:
    return target.sql("SELECT name, checksum FROM migration_history ORDER BY id")


def test_stamping_forward_records_the_files_without_running_them(target: Target) -> None:
    target.folder.add_tables(1, 2, 3)
    target.upgrade("+1")
    assert stamp(target, "head") == ((), ("0002_table_2", "0003_table_3"))
    assert target.tables() == {"table_1"}
    assert rows(target) == [(file.name, file.checksum) for file in files_in(target.folder.path)]
    assert target.upgrade() == []


def test_stamping_back_drops_the_rows_and_leaves_the_tables(target: Target) -> None:
    target.folder.add_tables(1, 2, 3)
    target.upgrade()
    assert stamp(target, "0001_table_1", ("0003_table_3", "0002_table_2")) == (("0003_table_3", "0002_table_2"), ())
    assert target.current() == "0001_table_1"
    assert target.tables() == {"table_1", "table_2", "table_3"}


def test_rows_that_nobody_agreed_to_lose_are_kept(target: Target) -> None:
    target.folder.add_tables(1, 2, 3)
    target.upgrade()
    with pytest.raises(SchemaError, match="take 0002_table_2 out of the history"):
        stamp(target, "0001_table_1", ("0003_table_3",))
    assert target.current() == "0003_table_3"


def test_stamping_repairs_a_history_with_altered_and_missing_files(target: Target) -> None:
    target.folder.add_tables(1, 2, 3)
    target.upgrade()
    target.folder.add("0002_table_2", ["CREATE TABLE other (id INTEGER)"])
    (target.folder.path / "0003_table_3.py").unlink()
    with target.open() as migrations:
        dropped = migrations.stamp_plan("head").drop
    assert stamp(target, "head", dropped) == (("0003_table_3", "0002_table_2"), ("0002_table_2",))
    assert target.upgrade() == []


def test_stamping_where_the_database_stands_changes_nothing(device: Target) -> None:
    device.folder.add_tables(1, 2)
    device.upgrade()
    before = device.sql("SELECT * FROM migration_history")
    assert stamp(device, "0002_table_2") == ((), ())
    assert device.sql("SELECT * FROM migration_history") == before


@pytest.mark.parametrize("name", ["0009_unknown", "+1", "-1", "", "Head"])
def test_an_unknown_name_is_refused(device: Target, name: str) -> None:
    device.folder.add_tables(1, 2)
    device.upgrade("+1")
    with pytest.raises(SchemaError, match="no migration"):
        stamp(device, name)
    assert device.current() == "0001_table_1"


def test_a_database_that_does_not_exist_is_not_made(device: Target) -> None:
    device.folder.add_tables(1)
    with pytest.raises(SchemaError, match="no database"):
        stamp(device, "head")
    assert [path.name for path in device.folder.path.parent.iterdir()] == ["files"]


# --- the command


@pytest.fixture
def at(device: Target, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The address of a device at the second of three shipped migrations."""
    folder: Folder = device.folder

    def shipped_files(kind: Kind) -> Any:
        return files_in(folder.path)

    monkeypatch.setattr(runner, "shipped_files", shipped_files)
    folder.add_tables(1, 2, 3)
    device.upgrade("+2")
    return ("--db", "device", "--sqlite", device.url.removeprefix("sqlite:///"))


def invoke(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(cli.main, arguments, input=answer)


def test_forward_nobody_is_asked(device: Target, at: tuple[str, ...]) -> None:
    result = invoke(*at, "stamp")
    assert (result.exit_code, result.stdout) == (0, "device: 0003_table_3 recorded in the history\ndevice: stamped at 0003_table_3\n")
    assert device.tables() == {"table_1", "table_2"}


@pytest.mark.parametrize(("answer", "current"), [("y\n", "0001_table_1"), ("n\n", "0002_table_2"), ("", "0002_table_2")])
def test_back_a_person_is_asked_and_only_yes_drops_rows(device: Target, at: tuple[str, ...], answer: str, current: str) -> None:
    result = invoke(*at, "stamp", "0001_table_1", answer=answer)
    assert "drop 0002_table_2 from the history?" in result.stderr
    assert device.current() == current
    assert (result.exit_code == 0) == (answer == "y\n")


def test_yes_and_json_ask_nobody(device: Target, at: tuple[str, ...]) -> None:
    refused = invoke(*at, "stamp", "0001_table_1", "--json")
    assert refused.exit_code == OperatorError.exit_code
    assert "--yes" in json.loads(refused.stdout)[0]["error"]["message"]
    (report,) = json.loads(invoke(*at, "stamp", "0001_table_1", "--yes", "--json").stdout)
    assert report == {"db": "device", "dropped": ["0002_table_2"], "recorded": [], "current": "0001_table_1"}


def test_nothing_is_stamped_while_a_daemon_works_on_the_file(device: Target, at: tuple[str, ...]) -> None:
    with owning(Path(device.url.removeprefix("sqlite:///"))), pytest.raises(AlreadyRunning):
        stamp(device, "head")
