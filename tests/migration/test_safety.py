"""A migration that fails leaves nothing, one that succeeds loses no row, and one that only declares is the only one accepted."""

from __future__ import annotations

import stat
import threading
from pathlib import Path
from typing import Any

import peewee as pw
import pytest

from domain.errors import InvalidConfig, OperatorError, PostgresUnavailable, SchemaError
from migrations.runner import Progress, open_migrations
from tests.migration.conftest import Target

FAMILY = [
    "CREATE TABLE parent (id INTEGER PRIMARY KEY, name TEXT)",
    "CREATE TABLE child (id INTEGER PRIMARY KEY, parent_id INTEGER NOT NULL REFERENCES parent (id) ON DELETE CASCADE)",
    "INSERT INTO parent VALUES (1, 'a'), (2, 'b')",
    "INSERT INTO child VALUES (10, 1), (20, 2)",
]
REBUILD = [
    "CREATE TABLE parent_new (id INTEGER PRIMARY KEY, name TEXT NOT NULL, grade INTEGER NOT NULL DEFAULT 0)",
    "INSERT INTO parent_new (id, name) SELECT id, name FROM parent",
    "DROP TABLE parent",
    "ALTER TABLE parent_new RENAME TO parent",
]


def test_a_failed_migration_leaves_nothing_behind_and_the_earlier_ones_stay(target: Target) -> None:
    target.folder.add_tables(1)
    target.folder.add("0002_fails", ["CREATE TABLE half (id INTEGER)", "INSERT INTO table_1 VALUES (5)", "NOT SQL"])
    with pytest.raises(SchemaError, match=r"^0002_fails failed, nothing of it was kept: [^\n]*$"):
        target.upgrade()
    assert target.tables() == {"table_1"}
    assert target.sql("SELECT * FROM table_1") == []
    assert target.current() == "0001_table_1"


def test_after_a_failure_the_corrected_file_applies_in_the_same_process(target: Target) -> None:
    target.folder.add("0001_a", ["CREATE TABLE a (id INTEGER)", "NOT SQL"])
    with pytest.raises(SchemaError):
        target.upgrade()
    target.folder.add("0001_a", ["CREATE TABLE a (id INTEGER)"])
    assert target.upgrade() == ["0001_a"]


def test_a_failed_rollback_leaves_the_migration_applied(target: Target) -> None:
    target.folder.add("0001_a", ["CREATE TABLE a (id INTEGER)"], ["DROP TABLE a", "NOT SQL"])
    target.upgrade()
    with pytest.raises(SchemaError, match="0001_a failed"):
        target.downgrade("-1")
    assert target.tables() == {"a"}
    assert target.current() == "0001_a"


def test_child_rows_survive_the_rebuild_of_their_parent_table(device: Target) -> None:
    device.folder.add("0001_family", FAMILY)
    device.folder.add("0002_rebuild", REBUILD)
    device.upgrade()
    assert device.sql("SELECT id, parent_id FROM child ORDER BY id") == [(10, 1), (20, 2)]
    assert device.sql("SELECT id, name, grade FROM parent ORDER BY id") == [(1, "a", 0), (2, "b", 0)]
    with pytest.raises(pw.IntegrityError):
        device.sql("INSERT INTO child VALUES (30, 9)")


def test_child_rows_survive_a_rebuild_by_peewee_migrates_own_operations(device: Target) -> None:
    device.folder.write(
        "0001_models",
        "import peewee as pw\n"
        "def migrate(migrator, database, *, fake=False):\n"
        "    @migrator.create_model\n"
        "    class Parent(pw.Model):\n"
        "        name = pw.CharField(null=True)\n"
        "    @migrator.create_model\n"
        "    class Child(pw.Model):\n"
        "        parent = pw.ForeignKeyField(Parent, on_delete='CASCADE')\n",
    )
    device.upgrade()
    device.sql("INSERT INTO parent VALUES (1, 'a')")
    device.sql("INSERT INTO child VALUES (10, 1)")
    device.folder.write(
        "0002_grade",
        "import peewee as pw\n"
        "def migrate(migrator, database, *, fake=False):\n"
        "    migrator.add_fields('parent', grade=pw.IntegerField(default=3))\n"
        "    migrator.add_not_null('parent', 'name')\n",
    )
    device.upgrade()
    assert device.sql("SELECT * FROM child") == [(10, 1)]
    assert device.sql("SELECT name, grade FROM parent") == [("a", 3)]


def test_orphans_abort_the_migration_and_the_database_is_as_before(device: Target) -> None:
    device.folder.add("0001_family", FAMILY)
    device.upgrade()
    before = device.sql("SELECT * FROM sqlite_master")
    device.folder.add("0002_orphans", [*REBUILD, "DELETE FROM parent WHERE id = 2"])
    with pytest.raises(SchemaError, match=r"0002_orphans failed.* 1 rows would be left without .* in child, which refers to parent"):
        device.upgrade()
    assert device.sql("SELECT * FROM sqlite_master") == before
    assert device.sql("SELECT id FROM parent ORDER BY id") == [(1,), (2,)]
    assert device.current() == "0001_family"


def test_foreign_keys_are_enforced_again_for_what_follows_in_the_same_connection(device: Target) -> None:
    device.folder.add("0001_family", [*FAMILY, "NOT SQL"])
    with device.open() as migrations:
        with pytest.raises(SchemaError):
            migrations.upgrade()
        assert migrations._engine.database.execute_sql("PRAGMA foreign_keys").fetchone() == (1,)  # what no later statement could show


def test_migrator_run_sees_the_database_in_the_same_transaction(target: Target) -> None:
    target.folder.write(
        "0001_rows",
        "def fill(database):\n"
        "    for number in range(3):\n"
        "        database.execute_sql('INSERT INTO t VALUES (%d)' % number)\n"
        "def migrate(migrator, database, *, fake=False):\n"
        "    migrator.sql('CREATE TABLE t (id INTEGER)')\n"
        "    migrator.run(fill, database)\n",
    )
    target.upgrade()
    assert target.sql("SELECT count(*) FROM t") == [(3,)]


def test_a_body_that_queries_is_refused(target: Target) -> None:
    target.folder.write(
        "0001_queries", "def migrate(migrator, database, *, fake=False):\n    database.execute_sql('CREATE TABLE t (id INTEGER)')\n"
    )
    with pytest.raises(SchemaError, match="0001_queries queries the database"):
        target.upgrade()
    assert target.tables() == set()


def test_replaying_applied_files_leaves_other_threads_queries_alone(device: Target, tmp_path: Path) -> None:
    bystander: Any = pw.SqliteDatabase(str(tmp_path / "other.db"))
    seen: list[object] = []

    def query() -> None:
        seen.append(bystander.execute_sql("SELECT 42").fetchone())
        bystander.close()

    device.folder.add_tables(1)
    device.upgrade()
    # The replay of the first file waits until another thread has queried another database.
    device.folder.add_tables(2)
    text = "def migrate(migrator, database, *, fake=False):\n    import builtins\n    builtins.carrel_test_hook()\n"
    device.folder.write("0003_hook", text)
    device.folder.add_tables(4)

    def hook() -> None:
        thread = threading.Thread(target=query)
        thread.start()
        thread.join()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.carrel_test_hook", hook, raising=False)
        device.upgrade()
    assert seen == [(42,), (42,)]  # run once, replayed once for the fourth file


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no migrate"),
        ("def migrate(:", "failed"),
        ("def migrate(migrator, database, *, fake=False):\n    1 / 0\n", "division by zero"),
    ],
)
def test_a_broken_file_is_refused_in_one_sentence(device: Target, text: str, sentence: str) -> None:
    device.folder.write("0001_broken", text)
    with pytest.raises(SchemaError, match=rf"^0001_broken[^\n]*{sentence}[^\n]*$"):
        device.upgrade()
    assert device.current() is None


def test_progress_is_told_before_and_after_each_file(device: Target) -> None:
    device.folder.add_tables(1, 2)
    told: list[Progress] = []
    with device.open() as migrations:
        applied = migrations.upgrade(progress=told.append)
    assert [(step.name, step.position, step.total, step.done) for step in told] == [
        ("0001_table_1", 1, 2, None),
        ("0001_table_1", 1, 2, applied[0]),
        ("0002_table_2", 2, 2, None),
        ("0002_table_2", 2, 2, applied[1]),
    ]


def test_a_new_device_database_is_private_and_in_wal_mode(device: Target) -> None:
    device.folder.add_tables(1)
    device.upgrade()
    folder = device.folder.path.parent
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir() if path.is_file()}
    assert modes == {"carrel.db": 0o600, "carrel.db.migrate.lock": 0o600}
    assert device.sql("PRAGMA journal_mode") == [("wal",)]


def test_a_database_that_is_none_is_refused_and_left_alone(device: Target) -> None:
    path = Path(device.url.removeprefix("sqlite:///"))
    path.write_bytes(b"not a database" * 100)
    device.folder.add_tables(1)
    with pytest.raises(OperatorError):
        device.upgrade()
    assert path.read_bytes() == b"not a database" * 100


@pytest.mark.parametrize(
    ("kind", "url"),
    [("device", "postgresql://h/d"), ("device", "sqlite:///"), ("device", "sqlite:///:memory:"), ("cloud", "sqlite:////tmp/x.db")],
)
def test_an_address_of_the_wrong_kind_is_refused(device: Target, kind: str, url: str) -> None:
    device.folder.add_tables(1)
    with pytest.raises(InvalidConfig), open_migrations(kind, url, folder=device.folder.path):  # type: ignore[arg-type]
        pass


@pytest.mark.parametrize("url", ["postgresql://u:hidden@127.0.0.1:1/d", "postgresql://u:hid den@127.0.0.1:x/d"])
def test_an_unreachable_server_is_reported_without_the_password(device: Target, url: str) -> None:
    device.folder.add_tables(1)
    with open_migrations("cloud", url, folder=device.folder.path) as migrations, pytest.raises(PostgresUnavailable) as caught:
        migrations.upgrade()
    assert "hid" not in caught.value.message
