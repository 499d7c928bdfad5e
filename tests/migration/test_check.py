"""`check` finds every kind of drift, and none where there is none."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import psycopg2
import pytest
from click.testing import CliRunner, Result

from cloud_api.embedded import DatabaseServer
from migrations import cli
from migrations.check import Finding, check, in_registry
from migrations.engines import Limits, PostgresEngine
from migrations.partitioning import Partitioning
from migrations.runner import open_migrations, upgrade_cloud, upgrade_device
from migrations.schema import postgres, sqlite
from migrations.schema.description import Execute, Schema, differences
from migrations.schema.models import MODELS, ModelSet, load_models
from tests.migration.conftest import Target
from tests.support.postgres import temporary_database

# --- reading: each drift is made in a transaction that is undone, on one database for all


@pytest.fixture(scope="module")
def migrated_cloud(request: pytest.FixtureRequest) -> Iterator[str]:
    server: DatabaseServer = request.getfixturevalue("postgres")  # here `postgres` is a module of ours
    with temporary_database(server) as url:
        upgrade_cloud(url)
        yield url


@pytest.fixture(scope="module")
def migrated_device(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("device") / "carrel.db"
    upgrade_device(path)
    return path


@contextmanager
def in_cloud(url: str) -> Iterator[Execute]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:

        def execute(sql: str, parameters: tuple[object, ...] | None = None) -> object:
            cursor.execute(sql, parameters)
            return cursor

        yield execute
        connection.rollback()


@contextmanager
def in_device(path: Path) -> Iterator[Execute]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN")
        yield connection.execute
        connection.execute("ROLLBACK")


CLOUD_DRIFTS = [
    ("CREATE TABLE stray (id INTEGER)", "table stray is not expected"),
    ("DROP TABLE tombstones", "table tombstones is missing"),
    ("ALTER TABLE users ADD COLUMN nickname text", "users: column nickname is not expected: nickname text"),
    ("ALTER TABLE users DROP COLUMN display_name", "users: column display_name is missing: display_name text NOT NULL"),
    ("DROP INDEX idx_classes_feed", "classes: index idx_classes_feed is missing: CREATE INDEX idx_classes_feed ON classes (school_id, feed_no)"),
    ("ALTER TABLE users ALTER COLUMN display_name TYPE varchar(10)", "users: column display_name differs: expected display_name text NOT NULL, found display_name character varying(10) NOT NULL"),
    ("ALTER TABLE users ALTER COLUMN username DROP NOT NULL", "users: column username differs: expected username text NOT NULL, found username text"),
    ("ALTER TABLE users ALTER COLUMN origin_no SET DEFAULT 1", "users: column origin_no differs: expected origin_no integer NOT NULL DEFAULT 0, found origin_no integer NOT NULL DEFAULT 1"),
    (
        "DROP INDEX idx_device_grants_open; CREATE UNIQUE INDEX idx_device_grants_open ON device_grants (school_id, device_id, kind, subject_id)",
        "device_grants: index idx_device_grants_open differs: expected CREATE UNIQUE INDEX idx_device_grants_open ON device_grants (school_id, device_id, kind, subject_id) WHERE (ended_at_ms IS NULL), found CREATE UNIQUE INDEX idx_device_grants_open ON device_grants (school_id, device_id, kind, subject_id)",
    ),
    (
        "DROP INDEX idx_users_username; CREATE INDEX idx_users_username ON users (school_id, lower(username))",
        "users: index idx_users_username differs: expected CREATE UNIQUE INDEX idx_users_username ON users (school_id, lower(username)), found CREATE INDEX idx_users_username ON users (school_id, lower(username))",
    ),
    ("ALTER TABLE topics DROP CONSTRAINT topics_school_id_parent_id_fkey", "topics: constraint topics_school_id_parent_id_fkey is missing: FOREIGN KEY (school_id, parent_id) REFERENCES topics(school_id, id)"),
    ("ALTER TABLE schools DROP CONSTRAINT schools_name_key", "schools: constraint schools_name_key is missing: UNIQUE (name)"),
    ("ALTER TABLE question_attempts DROP CONSTRAINT question_attempts_active_ms_check", "question_attempts: constraint question_attempts_active_ms_check is missing: CHECK ((active_ms >= 0))"),
    ("ALTER TABLE schools RESET (fillfactor)", "schools: options differs: expected WITH (fillfactor=50) ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY, found ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"),
    ("ALTER TABLE question_attempts DISABLE TRIGGER attempts_refer_to_rows", "question_attempts: trigger attempts_refer_to_rows differs: "),
    ("DROP TRIGGER attempts_refer_to_rows ON question_attempts", "question_attempts: trigger attempts_refer_to_rows is missing: "),
    ("ALTER TABLE users DISABLE ROW LEVEL SECURITY", "users: options differs: expected ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY, found FORCE ROW LEVEL SECURITY"),
    ("ALTER TABLE users NO FORCE ROW LEVEL SECURITY", "users: options differs: expected ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY, found ROW LEVEL SECURITY"),
    ("CREATE POLICY another ON users USING (true)", "users: policy another is not expected: CREATE POLICY another ON users AS PERMISSIVE FOR ALL TO PUBLIC USING (true)"),
    (
        "CREATE POLICY another ON users AS RESTRICTIVE FOR UPDATE TO pg_monitor USING (role = 'student') WITH CHECK (origin_no = 0)",
        "users: policy another is not expected: CREATE POLICY another ON users AS RESTRICTIVE FOR UPDATE TO pg_monitor USING ((role = 'student'::text)) WITH CHECK ((origin_no = 0))",
    ),
    ("CREATE OR REPLACE FUNCTION check_attempt_references() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", "routine function check_attempt_references() differs: "),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "sentence"), CLOUD_DRIFTS, ids=[statement[:60] for statement, _ in CLOUD_DRIFTS])
def test_every_drift_of_a_cloud_database_is_one_difference(migrated_cloud: str, statement: str, sentence: str) -> None:
    with in_cloud(migrated_cloud) as execute:
        before = postgres.read_schema(execute)
        execute(statement)
        after = [str(difference) for difference in differences(before, postgres.read_schema(execute))]
    assert [text.startswith(sentence) for text in after] == [True], after


def test_a_policy_that_was_changed_is_a_difference(migrated_cloud: str) -> None:
    with in_cloud(migrated_cloud) as execute:
        execute("CREATE POLICY another ON users FOR SELECT USING (school_id IS NOT NULL)")
        before = postgres.read_schema(execute)
        execute("ALTER POLICY another ON users USING (true)")
        (difference,) = differences(before, postgres.read_schema(execute))
    expected = "CREATE POLICY another ON users AS PERMISSIVE FOR SELECT TO PUBLIC USING"
    assert str(difference) == f"users: policy another differs: expected {expected} ((school_id IS NOT NULL)), found {expected} (true)"


def test_an_index_whose_building_failed_is_a_difference(cloud: Target) -> None:
    cloud.folder.add(
        "0001_rows",
        ["CREATE TABLE t (a INTEGER)", "CREATE UNIQUE INDEX idx_t ON t (a)", "DROP INDEX idx_t", "INSERT INTO t VALUES (1), (1)"],
    )
    cloud.upgrade()
    with pytest.raises(Exception, match="idx_t"):
        cloud.sql("CREATE UNIQUE INDEX CONCURRENTLY idx_t ON t (a)")
    assert cloud.schema().tables["t"].indexes == {"idx_t": "CREATE UNIQUE INDEX idx_t ON t (a) (INVALID: the building of it failed)"}


DEVICE_STATEMENTS = [
    ("CREATE TABLE stray (id INTEGER)", "table stray is not expected"),
    ("DROP TABLE cursors", "table cursors is missing"),
    ("ALTER TABLE users ADD COLUMN nickname TEXT", "users: column nickname is not expected: nickname TEXT"),
    ("ALTER TABLE users DROP COLUMN role", "users: column role is missing: role TEXT NOT NULL"),
    ("DROP INDEX idx_sync_pending", "sync_operations: index idx_sync_pending is missing: CREATE INDEX idx_sync_pending ON sync_operations (row_id) WHERE state = 'pending'"),
    ("CREATE TRIGGER stray AFTER INSERT ON users BEGIN SELECT 1; END", "users: trigger stray is not expected: "),
    ("CREATE VIEW stray AS SELECT id FROM users", "routine view stray is not expected: "),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "sentence"), DEVICE_STATEMENTS, ids=[statement[:60] for statement, _ in DEVICE_STATEMENTS])
def test_every_drift_of_a_device_is_one_difference(migrated_device: Path, statement: str, sentence: str) -> None:
    with in_device(migrated_device) as execute:
        before = sqlite.read_schema(execute)
        execute(statement)
        after = [str(difference) for difference in differences(before, sqlite.read_schema(execute))]
    assert [text.startswith(sentence) for text in after] == [True], after


REBUILT = [
    ("users", "role TEXT NOT NULL", "role BLOB NOT NULL", "column role differs: expected role TEXT NOT NULL, found role BLOB NOT NULL"),
    ("users", "role TEXT NOT NULL", "role TEXT", "column role differs: expected role TEXT NOT NULL, found role TEXT"),
    ("users", "role TEXT", "role TEXT COLLATE NOCASE", "column role differs: expected role TEXT NOT NULL, found role TEXT NOT NULL COLLATE NOCASE"),
    ("users", "feed_no INTEGER NOT NULL DEFAULT 0", "feed_no INTEGER NOT NULL DEFAULT 1", "column feed_no differs: expected feed_no INTEGER NOT NULL DEFAULT 0, found feed_no INTEGER NOT NULL DEFAULT 1"),
    ("users", ") STRICT", ")", "options differs: expected STRICT, found none"),
    ("users", "NOT NULL PRIMARY KEY", "NOT NULL", "constraint PRIMARY KEY (id) is missing"),
    ("cursors", "STRICT, WITHOUT ROWID", "STRICT", "options differs: expected STRICT, WITHOUT ROWID, found STRICT"),
    ("question_attempts", "CHECK (correct IN (0, 1))", "", "constraint CHECK (correct IN (0, 1)) is missing"),
    ("boots", "UNIQUE", "", "constraint UNIQUE (boot_id) is missing"),
    ("boots", "TEXT NOT NULL UNIQUE", "TEXT NOT NULL UNIQUE ON CONFLICT IGNORE", "options differs: expected STRICT, found STRICT CONFLICT"),
    ("shadows", "PRIMARY KEY (table_name, row_id)", "PRIMARY KEY (row_id, table_name)", None),
    ("identity", "CHECK (one = 1)", "CHECK ((one = 2))", None),
]  # fmt: skip


@pytest.mark.parametrize(("table", "old", "new", "sentence"), REBUILT)
def test_every_change_of_a_rebuilt_table_is_found(migrated_device: Path, table: str, old: str, new: str, sentence: str | None) -> None:
    with in_device(migrated_device) as execute:
        before = sqlite.read_schema(execute)
        ((sql,),) = execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchall()
        assert old in sql
        execute(f"DROP TABLE {table}")
        execute(sql.replace(old, new, 1))
        for index in before.tables[table].indexes.values():
            execute(index)
        after = [str(difference) for difference in differences(before, sqlite.read_schema(execute))]
    if sentence is None:  # one constraint for another
        assert len(after) == 2
        assert after[0].startswith(f"{table}: constraint ")
    else:
        assert [text.startswith(f"{table}: {sentence}") for text in after] == [True], after


def test_what_a_foreign_key_does_on_delete_is_part_of_the_schema() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(
            "CREATE TABLE a (id INTEGER PRIMARY KEY); CREATE TABLE b (x INTEGER REFERENCES a ON DELETE CASCADE, y REFERENCES a (id))"
        )
        constraints = list(sqlite.read_schema(connection.execute).tables["b"].constraints)
    assert constraints == ["FOREIGN KEY (x) REFERENCES a ON DELETE CASCADE", "FOREIGN KEY (y) REFERENCES a (id)"]


def test_two_spellings_of_one_device_schema_are_equal() -> None:
    one = (
        "CREATE TABLE t (id INTEGER PRIMARY KEY, a TEXT NOT NULL DEFAULT 'x' CHECK (a <> 'it''s'));"
        "CREATE INDEX i ON t (a) WHERE a > 'a'; CREATE UNIQUE INDEX j ON t (lower(a) DESC)"
    )
    other = (
        'create table "t" ("id" integer not null primary key, -- the key\n "a" text not null default \'x\', check ("a" <> \'it\'\'s\'));'
        'create index if not exists "i" on "t" ("a") where ("a" > \'a\'); create unique index j on [t] (lower("a") desc)'
    )
    schemas = []
    for spelling in (one, other):
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(spelling)
            schemas.append(sqlite.read_schema(connection.execute))
    assert differences(*schemas) == []


# --- the command


@pytest.fixture
def shipped(target: Target) -> Target:
    """A database at head of the files that are shipped."""
    with open_migrations(target.kind, target.url) as migrations:
        migrations.upgrade()
    return target


def invoke(target: Target, *arguments: str) -> Result:
    option = ("--sqlite", target.url.removeprefix("sqlite:///")) if target.kind == "device" else ("--url", target.url)
    result = CliRunner().invoke(cli.main, ("--db", target.kind, *option, "check", *arguments))
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


def test_what_the_shipped_files_make_has_no_drift(shipped: Target) -> None:
    result = invoke(shipped)
    assert (result.exit_code, result.stdout) == (0, f"{shipped.kind}: database, history, files, models and registry agree\n")


def test_partitioning_is_no_drift(cloud: Target) -> None:
    upgrade_cloud(cloud.url)
    engine = PostgresEngine(cloud.url, Limits())
    engine.connect()
    try:
        before = engine.schema()
        assert Partitioning(engine).run()
        engine.connect()
        assert [str(difference) for difference in differences(before, engine.schema())] == []
    finally:
        engine.close()


def test_a_drift_ends_with_1_and_can_be_read_by_people_and_programs(shipped: Target) -> None:
    shipped.sql("DROP INDEX idx_attempts_student_timestamp")
    shipped.sql("ALTER TABLE users ADD COLUMN nickname text")
    result = invoke(shipped)
    assert result.exit_code == 1
    assert f"{shipped.kind}: database: question_attempts: index idx_attempts_student_timestamp is missing" in result.stdout
    (report,) = json.loads(invoke(shipped, "--json").stdout)
    by_place = {entry["place"]: entry for entry in report["differences"]}
    assert by_place["users: column nickname"]["source"] == "database"
    assert by_place["users: column nickname"]["expected"] is None
    assert by_place["users: column nickname"]["found"].lower() == "nickname text"


def test_pending_altered_and_missing_migrations_are_drift(target: Target) -> None:
    target.folder.add_tables(1, 2, 3)
    target.upgrade("+2")
    target.folder.add("0001_table_1", ["CREATE TABLE table_1 (id INTEGER PRIMARY KEY, edited INTEGER)"])
    found = [(f.source, f.text) for f in findings(target) if f.source in ("history", "database")]
    assert found == [
        ("history", "0001_table_1 was edited after it was applied"),
        ("history", "0003_table_3 is pending: run upgrade"),
        (
            "database",
            "table_1: column edited is missing: edited INTEGER".replace("INTEGER", "INTEGER" if target.kind == "device" else "integer"),
        ),
    ]
    target.folder.add_tables(1)
    (target.folder.path / "0003_table_3.py").unlink()
    (target.folder.path / "0002_table_2.py").unlink()
    assert ("history", "0002_table_2 is applied, and this version does not have it") in [(f.source, f.text) for f in findings(target)]


def findings(target: Target) -> list[Finding]:
    with target.open() as migrations:
        return check(target.kind, migrations, ModelSet(()), target.scratch, folder=target.folder.path)


def test_models_that_say_something_else_than_the_files_are_drift(shipped: Target) -> None:
    models = load_models(MODELS[shipped.kind])
    with open_migrations(shipped.kind, shipped.url) as migrations:
        found = check(shipped.kind, migrations, replace(models, models=models.models[:-1]), shipped.scratch)
    assert [(f.source, f.expected) for f in found if f.source != "models"] == []
    assert [f.text for f in found] == [f"table {models.models[-1]._meta.table_name} is not expected"]


def test_what_travels_but_has_no_column_or_another_type_is_drift(shipped: Target) -> None:
    with open_migrations(shipped.kind, shipped.url) as migrations:
        schema = migrations.schema()
    users = schema.tables["users"]
    columns = {name: column for name, column in users.columns.items() if name != "username"}
    columns["role"] = replace(columns["role"], nullable=True)
    broken = Schema({**schema.tables, "users": replace(users, columns=columns)})
    assert [finding.place for finding in in_registry(shipped.kind, broken)] == ["users: column role", "users: column username"]
    del broken.tables["topics"]  # type: ignore[attr-defined]
    assert "table topics is missing" in [finding.text for finding in in_registry(shipped.kind, broken)]


def test_a_database_that_does_not_exist_is_not_made(device: Target) -> None:
    result = invoke(device)
    assert result.exit_code == 4
    assert "no database" in result.stderr
    assert [path.name for path in device.folder.path.parent.iterdir()] == ["files"]


def test_checking_leaves_no_scratch_database_behind(cloud: Target) -> None:
    upgrade_cloud(cloud.url)
    assert invoke(cloud).exit_code == 0
    assert cloud.sql("SELECT datname FROM pg_database WHERE datname LIKE 'carrel_scratch_%%'") == []
