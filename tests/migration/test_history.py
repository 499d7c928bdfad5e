"""The history is a prefix of the files, unaltered; anything else is refused in one sentence. On both databases."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.errors import SchemaError
from migrations.current import device_is_current
from migrations.files import files_in
from tests.migration.conftest import Folder, Target


def test_an_edited_file_is_refused_and_shown_as_altered(target: Target) -> None:
    target.folder.add_tables(1, 2)
    target.upgrade("+1")
    target.folder.add("0001_table_1", ["CREATE TABLE other (id INTEGER PRIMARY KEY)"])
    with pytest.raises(SchemaError, match=r"^0001_table_1 was edited after it was applied: [^\n]*$"):
        target.upgrade()
    with target.open() as migrations:
        assert [(entry.name, entry.state) for entry in migrations.history()] == [("0001_table_1", "altered"), ("0002_table_2", "pending")]
    assert target.tables() == {"table_1"}


def test_an_edited_file_is_not_taken_back_either(device: Target) -> None:
    device.folder.add_tables(1)
    device.upgrade()
    device.folder.add("0001_table_1", [], ["DROP TABLE something_else"])
    with pytest.raises(SchemaError, match="edited"):
        device.downgrade("-1")
    assert device.tables() == {"table_1"}


def test_a_database_newer_than_the_program_names_the_version_to_install(target: Target) -> None:
    target.folder.add_tables(1, 2, 3)
    target.upgrade()
    target.sql("UPDATE migration_history SET app_version = '7.8.9' WHERE name = '0003_table_3'")
    for name in ("0002_table_2", "0003_table_3"):
        (target.folder.path / f"{name}.py").unlink()
    with pytest.raises(SchemaError, match=r"newer than the program: it is at 0003_table_3.*end at 0001_table_1; install Carrel 7\.8\.9"):
        target.upgrade()
    with target.open() as migrations:
        assert [entry.state for entry in migrations.history()] == ["applied", "missing", "missing"]


def test_a_file_missing_from_the_middle_is_refused(device: Target) -> None:
    device.folder.add_tables(1, 2, 3)
    device.upgrade()
    (device.folder.path / "0002_table_2.py").unlink()
    with pytest.raises(SchemaError, match="had 0002_table_2 applied"):
        device.upgrade()


def test_a_late_file_with_a_lower_number_is_refused(device: Target) -> None:
    device.folder.add_tables(1, 3)
    device.upgrade()
    device.folder.add_tables(2)
    with pytest.raises(SchemaError, match="0002_table_2 comes before 0003_table_3"):
        device.upgrade()
    assert device.tables() == {"table_1", "table_3"}


def test_the_history_keeps_checksum_version_and_times(target: Target) -> None:
    target.folder.add_tables(1)
    target.upgrade()
    (row,) = target.sql("SELECT name, checksum, applied_at_ms, duration_ms, app_version FROM migration_history")
    assert row[:2] == ("0001_table_1", files_in(target.folder.path)[0].checksum)
    assert row[2] > 1_700_000_000_000  # milliseconds, not seconds
    assert row[3] >= 0
    assert row[4]


def test_two_databases_opened_together_keep_their_histories_apart(device: Target, cloud: Target, tmp_path: Path) -> None:
    device.folder.add_tables(1)
    cloud.folder = Folder(tmp_path / "cloud_files")
    cloud.folder.path.mkdir()
    cloud.folder.add_tables(7)
    with device.open() as of_device, cloud.open() as of_cloud:
        of_device.upgrade()
        of_cloud.upgrade()
        assert (of_device.current(), of_cloud.current()) == ("0001_table_1", "0007_table_7")


def test_asking_creates_no_database(device: Target) -> None:
    device.folder.add_tables(1)
    with device.open() as migrations:
        assert migrations.current() is None
        assert migrations.pending() == ["0001_table_1"]
        assert [entry.state for entry in migrations.history()] == ["pending"]
    assert [path.name for path in device.folder.path.parent.iterdir()] == ["files"]


def test_device_is_current_only_when_every_file_is_applied_unaltered(device: Target) -> None:
    path = Path(device.url.removeprefix("sqlite:///"))
    device.folder.add_tables(1, 2)

    def is_current() -> bool:
        return device_is_current(path, files_in(device.folder.path))

    assert not is_current()
    assert not path.exists()
    device.upgrade("+1")
    assert not is_current()
    device.upgrade()
    assert is_current()
    device.folder.add("0002_table_2", ["CREATE TABLE other (id INTEGER)"])
    assert not is_current()
    (device.folder.path / "0002_table_2.py").unlink()
    assert not is_current()


def test_device_is_current_says_no_to_a_file_that_is_no_database(tmp_path: Path, folder: Folder) -> None:
    folder.add_tables(1)
    garbage = tmp_path / "garbage.db"
    garbage.write_bytes(b"not a database" * 100)
    assert not device_is_current(garbage, files_in(folder.path))
    assert garbage.read_bytes() == b"not a database" * 100


@pytest.mark.parametrize("name", ["1_short", "0001_Upper", "helpers"])
def test_a_python_file_that_is_no_migration_is_refused(folder: Folder, name: str) -> None:
    folder.write(name, "")
    with pytest.raises(SchemaError, match=name):
        files_in(folder.path)


def test_two_files_of_one_number_are_refused(folder: Folder) -> None:
    folder.add("0001_a", [])
    folder.add("0001_b", [])
    with pytest.raises(SchemaError, match="0001_a and 0001_b"):
        files_in(folder.path)


def test_a_folder_that_is_missing_or_empty_is_refused_and_not_created(folder: Folder) -> None:
    with pytest.raises(SchemaError, match="no migration file"):
        files_in(folder.path)
    with pytest.raises(SchemaError, match="does not exist"):
        files_in(folder.path / "absent")
    assert not (folder.path / "absent").exists()
