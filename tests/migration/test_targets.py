"""Where `upgrade` and `downgrade` go, and where they refuse to go; on both databases."""

from __future__ import annotations

import pytest

from domain.errors import SchemaError
from tests.migration.conftest import Target


def test_upgrade_head_applies_every_file_in_order_and_once(target: Target) -> None:
    target.folder.add_tables(1, 2, 3)
    assert target.upgrade() == ["0001_table_1", "0002_table_2", "0003_table_3"]
    assert target.tables() == {"table_1", "table_2", "table_3"}
    assert target.upgrade() == []


def test_upgrade_plus_n_applies_the_next_n_files(target: Target) -> None:
    target.folder.add_tables(1, 2, 3)
    assert target.upgrade("+1") == ["0001_table_1"]
    assert target.upgrade("+2") == ["0002_table_2", "0003_table_3"]


def test_upgrade_to_a_name_ends_there(target: Target) -> None:
    target.folder.add_tables(1, 2, 3)
    assert target.upgrade("0002_table_2") == ["0001_table_1", "0002_table_2"]
    assert target.tables() == {"table_1", "table_2"}


def test_upgrade_to_where_the_database_stands_does_nothing(target: Target) -> None:
    target.folder.add_tables(1, 2)
    target.upgrade("+1")
    assert target.upgrade("0001_table_1") == []


@pytest.mark.parametrize("name", ["0009_unknown", "table_2", "", "+", "-1", "+0", "+4", "0001_table_1"])
def test_upgrade_refuses_a_target_that_is_unknown_out_of_reach_or_behind_and_changes_nothing(device: Target, name: str) -> None:
    device.folder.add_tables(1, 2, 3, 4, 5)
    device.upgrade("+2")
    with pytest.raises(SchemaError):
        device.upgrade(name)
    assert device.tables() == {"table_1", "table_2"}


def test_upgrade_to_a_name_behind_points_at_downgrade(device: Target) -> None:
    device.folder.add_tables(1, 2)
    device.upgrade()
    with pytest.raises(SchemaError, match=r"^0001_table_1 is already applied, .* use downgrade\.$"):
        device.upgrade("0001_table_1")


def test_downgrade_minus_n_takes_back_the_newest_n(target: Target) -> None:
    target.folder.add_tables(1, 2, 3)
    target.upgrade()
    assert target.downgrade("-2") == ["0003_table_3", "0002_table_2"]
    assert target.tables() == {"table_1"}
    assert target.downgrade("-1") == ["0001_table_1"]
    assert target.current() is None


def test_downgrade_to_a_name_ends_there(target: Target) -> None:
    target.folder.add_tables(1, 2, 3)
    target.upgrade()
    assert target.downgrade("0001_table_1") == ["0003_table_3", "0002_table_2"]
    assert target.current() == "0001_table_1"
    assert target.downgrade("0001_table_1") == []


@pytest.mark.parametrize("name", ["-3", "-0", "0003_table_3", "head", ""])
def test_downgrade_refuses_a_target_that_is_not_applied_and_changes_nothing(device: Target, name: str) -> None:
    device.folder.add_tables(1, 2, 3)
    device.upgrade("+2")
    with pytest.raises(SchemaError):
        device.downgrade(name)
    assert device.tables() == {"table_1", "table_2"}


def test_a_file_without_rollback_is_refused_before_any_other_is_taken_back(target: Target) -> None:
    target.folder.add_tables(1, 3)
    target.folder.add("0002_no_way_back", ["CREATE TABLE table_2 (id INTEGER PRIMARY KEY)"], down=None)
    target.upgrade()
    with pytest.raises(SchemaError, match=r"^0002_no_way_back cannot be taken back: it has no rollback"):
        target.downgrade("-2")
    assert target.current() == "0003_table_3"
    assert target.tables() == {"table_1", "table_2", "table_3"}


def test_a_file_that_calls_itself_irreversible_is_refused_with_its_reason(device: Target) -> None:
    device.folder.add("0001_drop", ["CREATE TABLE t (id INTEGER)"], extra="IRREVERSIBLE = 'answers would be lost'")
    device.upgrade()
    with pytest.raises(SchemaError, match="answers would be lost"):
        device.downgrade("-1")
    assert device.current() == "0001_drop"


def test_downgrade_of_a_database_that_does_not_exist_creates_none(device: Target) -> None:
    device.folder.add_tables(1)
    with pytest.raises(SchemaError, match="no database"):
        device.downgrade("-1")
    assert [path.name for path in device.folder.path.parent.iterdir()] == ["files"]
