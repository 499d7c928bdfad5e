"""`create`: empty files, and files drafted from the models; what cannot be drafted is named and nothing is written. On both databases."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from domain.errors import OperatorError, SchemaError
from migrations import cli
from migrations.creation import Created, create_auto, create_empty
from migrations.files import files_in
from migrations.lint import cloud_findings
from migrations.schema.description import differences
from migrations.scratch import schema_of_models, server_scratch
from tests.migration.conftest import Target
from tests.migration.drafts import Col, Idx, Tab, models

ROOT = Path(__file__).resolve().parents[2]
USERS = Tab({"name": Col("text", default=True)}, {"idx_users_name": Idx(("name",))})
USERS_WITHOUT_INDEX = Tab({"name": Col("text", default=True)}, {})


def auto(target: Target, tables: dict[str, Tab], *after_tables: str, text: str = "a change") -> Created:
    return create_auto(target.kind, target.folder.path, text, models(target.kind, tables, after_tables), target.scratch)


def begin(target: Target, tables: dict[str, Tab], *after_tables: str) -> None:
    """The first file, made from models, and applied."""
    auto(target, tables, *after_tables, text="first")
    target.upgrade()


def written(created: Created) -> str:
    assert created.path is not None
    return created.path.read_text("utf-8")


def refused(target: Target, tables: dict[str, Tab], *after_tables: str) -> str:
    """The sentence with which a draft is refused; nothing is written."""
    before = sorted(target.folder.path.iterdir())
    with pytest.raises(SchemaError) as caught:
        auto(target, tables, *after_tables)
    assert sorted(target.folder.path.iterdir()) == before
    return caught.value.message


def demand_models(target: Target, tables: dict[str, Tab], *after_tables: str) -> None:
    """The real database has the schema of the models."""
    wanted = schema_of_models(target.kind, models(target.kind, tables, after_tables), target.scratch)
    assert [str(difference) for difference in differences(wanted, target.schema())] == []


# --- empty files


def test_an_empty_file_has_the_next_number_and_the_words_of_its_text(device: Target) -> None:
    device.folder.add_tables(1, 7)
    created = create_empty(device.folder.path, "Add nicknames, “café” & Co.!")
    assert created.path is not None
    assert created.path.name == "0008_add_nicknames_caf_co.py"
    assert written(created).startswith('"""Add nicknames, “café” & Co.!."""\n')


def test_an_empty_file_refuses_to_run_until_somebody_fills_it(device: Target) -> None:
    device.folder.add_tables(1)
    create_empty(device.folder.path, "to be filled")
    with pytest.raises(SchemaError, match="0002_to_be_filled failed"):
        device.upgrade()
    assert device.current() == "0001_table_1"


@pytest.mark.parametrize("text", ["", "  ", "…"])
def test_a_text_without_words_is_refused(device: Target, text: str) -> None:
    with pytest.raises(SchemaError, match="words"):
        create_empty(device.folder.path, text)


def test_a_folder_that_cannot_be_written_to_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="cannot be written"):
        create_empty(tmp_path / "absent", "text")


# --- drafted files


def test_the_first_file_makes_everything_and_is_written_as_by_hand(device: Target) -> None:
    created = auto(device, {"users": USERS}, text="The first schema.")
    assert (
        written(created)
        == '''"""The first schema."""

from __future__ import annotations

from typing import Any


def migrate(migrator: Any, database: Any, *, fake: bool = False) -> None:
    migrator.sql("""
CREATE TABLE users (
    id INTEGER NOT NULL,
    name TEXT NOT NULL DEFAULT 'it''s 100%',
    PRIMARY KEY (id)
)
""")
    migrator.sql("CREATE INDEX idx_users_name ON users (name)")


def rollback(migrator: Any, database: Any, *, fake: bool = False) -> None:
    migrator.sql("DROP TABLE users")
'''
    )


def test_a_drafted_file_passes_the_formatter_and_the_linter(target: Target) -> None:
    begin(target, {"users": USERS})
    long = Idx(
        ("name", "a_column_with_a_long_name", "another_column_with_a_long_name"), where="another_column_with_a_long_name IS NOT NULL"
    )
    columns = {"a_column_with_a_long_name": Col(), "another_column_with_a_long_name": Col()}
    auto(target, {"users": Tab({**USERS.columns, **columns}, {**USERS.indexes, "idx_users_with_a_long_name": long})})
    ruff = [str(Path(sys.executable).with_name("ruff"))]
    config = ["--config", str(ROOT / "pyproject.toml"), str(target.folder.path)]
    for command in (["format", "--check"], ["check", "--no-cache"]):
        done = subprocess.run([*ruff, *command, *config], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


NEW = {
    "a nullable column": Tab({**USERS.columns, "nick": Col("text")}, USERS.indexes),
    "a column with a default": Tab({**USERS.columns, "points": Col("integer", default=True)}, USERS.indexes),
    "a column with a check": Tab({**USERS.columns, "share": Col("real", default=True, check="share >= 0")}, USERS.indexes),
    "a plain index": Tab(USERS.columns, {**USERS.indexes, "idx_users_both": Idx(("name", "id"))}),
    "a unique index": Tab(USERS.columns, {**USERS.indexes, "idx_users_unique": Idx(("name",), unique=True)}),
    "a partial index": Tab(USERS.columns, {**USERS.indexes, "idx_users_some": Idx(("id",), where="name LIKE 'a%'")}),
    "another index of the same name": Tab(USERS.columns, {"idx_users_name": Idx(("name",), unique=True, where="id > 5")}),
    "no index": Tab(USERS.columns),
    "no column": Tab(),
}


@pytest.mark.parametrize("change", NEW)
def test_a_change_of_a_table_is_drafted_applied_and_taken_back_with_its_rows(target: Target, change: str) -> None:
    begin(target, {"users": USERS})
    target.sql("INSERT INTO users (id, name) VALUES (1, 'ada'), (2, 'bo')")
    before = target.schema()
    after = {"users": NEW[change]}
    assert auto(target, after).path is not None
    target.upgrade()
    demand_models(target, after)
    target.downgrade("-1")
    assert differences(before, target.schema()) == []
    assert [row[0] for row in target.sql("SELECT id FROM users ORDER BY id")] == [1, 2]
    target.upgrade()
    assert auto(target, after).path is None


def test_tables_are_made_parents_first_and_dropped_children_first(target: Target) -> None:
    begin(target, {"users": USERS})
    child = Tab({"user_id": Col("integer")}, constraints=("FOREIGN KEY (user_id) REFERENCES zebras (id)",))
    with_child = {"users": USERS, "zebras": Tab(), "answers": child}
    created = auto(target, with_child)
    assert [statement.split()[2] for statement in created.statements] == ["zebras", "answers"]
    target.upgrade()
    assert auto(target, {"users": USERS}).statements == ("DROP TABLE answers", "DROP TABLE zebras")


def test_what_is_lost_by_a_drop_and_what_a_rename_would_be_is_said(target: Target) -> None:
    begin(target, {"users": USERS, "old": Tab()})
    created = auto(target, {"users": Tab({"nick": Col("text", default=True)}, {"idx_users_name": Idx(("nick",))})})
    assert created.warnings[:2] == (
        "Table old is dropped with its rows.",
        "Column users.name is dropped with its values (if it is nick now, write ALTER TABLE … RENAME COLUMN by hand).",
    )
    assert any("not seen" in warning for warning in created.warnings)


def test_a_drop_that_has_no_way_back_says_so_in_the_file(target: Target) -> None:
    begin(target, {"users": Tab({"name": Col("text", required=True)})})
    created = auto(target, {"users": Tab()})
    assert re.search(r"^IRREVERSIBLE = .*users: column name is missing", written(created), re.MULTILINE)
    assert "def rollback" not in written(created)
    assert any(warning.startswith("The file has no way back: ") for warning in created.warnings)
    target.upgrade()
    with pytest.raises(SchemaError, match="cannot be taken back"):
        target.downgrade("-1")


def test_triggers_and_what_else_models_cannot_say_is_drafted(target: Target) -> None:
    begin(target, {"users": USERS})
    body = "BEGIN UPDATE users SET name = 'x%' WHERE id = 0; END"
    after = {
        "device": (f"CREATE TRIGGER note AFTER INSERT ON users {body}", "CREATE VIEW names AS SELECT name FROM users"),
        "cloud": (
            "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM ''a%''; RETURN NULL; END'",
            "CREATE TRIGGER note AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION note()",
            "CREATE VIEW names AS SELECT name FROM users",
        ),
    }[target.kind]
    before = target.schema()
    auto(target, {"users": USERS}, *after)
    target.upgrade()
    demand_models(target, {"users": USERS}, *after)
    target.downgrade("-1")
    assert differences(before, target.schema()) == []


def test_when_nothing_differs_no_file_is_written(target: Target) -> None:
    begin(target, {"users": USERS})
    assert auto(target, {"users": USERS}) == Created(None)
    assert len(list(target.folder.path.glob("*.py"))) == 1


# --- what cannot be drafted


BY_HAND = {
    "a column that rows would have no value for": ({"users": Tab({**USERS.columns, "age": Col("integer", required=True)}, USERS.indexes)}, "column age is missing: .* NOT NULL; the rows there are would have no value"),
    "another type": ({"users": Tab({"name": Col("integer", default=True)}, USERS.indexes)}, "column name differs: expected "),
    "a column that may not be null any more": ({"users": Tab({**USERS.columns, "nick": Col(required=True)}, USERS.indexes)}, "column nick differs: expected nick (text|TEXT) NOT NULL, found nick (text|TEXT)"),
    "a unique constraint": ({"users": Tab({**USERS.columns, "nick": Col()}, USERS.indexes, ("UNIQUE (name)",))}, r"constraint .* is missing: UNIQUE \(name\)"),
}  # fmt: skip


@pytest.mark.parametrize("change", BY_HAND)
def test_what_cannot_be_drafted_is_named_and_nothing_is_written(target: Target, change: str) -> None:
    tables, sentence = BY_HAND[change]
    begin(target, {"users": Tab({**USERS.columns, "nick": Col()}, USERS.indexes)})
    also = {**tables, "other": Tab()}
    message = refused(target, also)
    assert message.startswith("This has to be written by hand")
    assert re.search(sentence, message)
    assert re.search(r"The rest would be:\n  CREATE TABLE( IF NOT EXISTS)? other \(", message)


def test_who_may_see_which_rows_is_left_to_a_person(cloud: Target) -> None:
    begin(cloud, {"users": USERS})
    message = refused(cloud, {"users": USERS}, "ALTER TABLE users ENABLE ROW LEVEL SECURITY", "CREATE POLICY own ON users USING (true)")
    assert "users: options differs: expected ROW LEVEL SECURITY, found none" in message
    assert "users: policy own is missing: CREATE POLICY own ON users" in message
    message = refused(cloud, {"users": USERS, "notes": USERS_WITHOUT_INDEX}, "CREATE POLICY own ON notes USING (true)")
    assert "table notes is missing; its policy own must be written by hand" in message


def test_on_a_device_a_constraint_of_an_old_column_is_left_to_a_person(device: Target) -> None:
    begin(device, {"users": USERS})
    assert "constraint CHECK (id > 0) is missing" in refused(device, {"users": Tab(USERS.columns, USERS.indexes, ("CHECK (id > 0)",))})


def test_a_default_that_is_worked_out_for_each_row_is_left_to_a_person(cloud: Target) -> None:
    begin(cloud, {"users": USERS})
    cloud_models = models(
        "cloud",
        {"users": Tab(USERS.columns, USERS.indexes)},
        ("ALTER TABLE users ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()",),
    )
    with pytest.raises(SchemaError, match="worked out for each row"):
        create_auto("cloud", cloud.folder.path, "token", cloud_models, cloud.scratch)


def test_on_a_device_a_default_that_is_worked_out_comes_with_its_table(device: Target) -> None:
    begin(device, {"users": USERS})
    tables = {"users": USERS, "marks": Tab({"id": Col(), "mark": Col("integer", default="(random())")})}
    assert "DEFAULT (random())" in written(auto(device, tables))


def test_a_draft_that_the_database_refuses_is_not_written(device: Target) -> None:
    """SQLite drops no column that a CHECK of the whole table names; only trying it out tells."""
    begin(device, {"users": Tab({"a": Col(), "b": Col()}, constraints=("CHECK (a > 'x')",))})
    assert refused(device, {"users": Tab({"b": Col()})}).startswith("No file was written, since the draft fails on the way up: ")


def test_models_that_make_no_schema_are_said_in_a_sentence(target: Target) -> None:
    with pytest.raises(OperatorError, match="models do not make a schema"):
        auto(target, {"users": USERS}, "NOT SQL")


# --- PostgreSQL


def test_an_index_of_an_old_table_is_built_concurrently_in_a_file_outside_a_transaction(cloud: Target) -> None:
    begin(cloud, {"users": USERS})
    indexes = {**USERS.indexes, "idx_users_id": Idx(("id", "name"))}
    created = auto(cloud, {"users": Tab(USERS.columns, indexes), "other": Tab({"a": Col()}, {"idx_other": Idx(("a",))})})
    assert "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_other ON other (a)" in created.statements
    assert "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_users_id ON users (id, name)" in created.statements
    assert "\nATOMIC = False\n" in written(created)
    assert any("not one transaction" in warning for warning in created.warnings)


def test_a_file_outside_a_transaction_can_be_run_again_after_any_part_of_it(cloud: Target) -> None:
    begin(cloud, {"users": USERS})
    columns = {**USERS.columns, "points": Col("integer", default=True, check="points >= 0")}
    function = "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
    trigger = "CREATE TRIGGER note AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION note()"
    tables = {"users": Tab(columns, {"idx_users_points": Idx(("points",))}), "other": Tab()}
    created = auto(cloud, tables, function, trigger)
    for statement in created.statements:
        cloud.sql(statement.replace("%", "%%"))
    cloud.upgrade()
    demand_models(cloud, tables, function, trigger)


def test_a_default_and_a_null_are_changed_in_place(cloud: Target) -> None:
    begin(cloud, {"users": Tab({"name": Col("text", default=True), "age": Col("integer", required=True)})})
    after = {"users": Tab({"name": Col("text", required=True), "age": Col("integer")})}
    assert auto(cloud, after).statements == (
        "ALTER TABLE users ALTER COLUMN name DROP DEFAULT",
        "ALTER TABLE users ALTER COLUMN age DROP NOT NULL",
    )


def test_a_check_is_added_without_stopping_the_table_and_validated_afterwards(cloud: Target) -> None:
    begin(cloud, {"users": USERS})
    created = auto(cloud, {"users": Tab(USERS.columns, USERS.indexes, ("CONSTRAINT positive CHECK (id > 0)",))})
    assert created.statements == (
        "ALTER TABLE users DROP CONSTRAINT IF EXISTS positive",
        "ALTER TABLE users ADD CONSTRAINT positive CHECK ((id > 0)) NOT VALID",
        "ALTER TABLE users VALIDATE CONSTRAINT positive",
    )
    assert "ATOMIC = False" in written(created)


def test_what_is_drafted_to_be_added_is_zero_downtime(cloud: Target) -> None:
    """By the same judge that judges the files shipped."""
    begin(cloud, {"users": USERS})
    columns = {**USERS.columns, "nick": Col(), "points": Col("integer", default=True)}
    indexes = {**USERS.indexes, "idx_users_nick": Idx(("nick",), unique=True, where="nick LIKE 'a%'")}
    auto(cloud, {"users": Tab(columns, USERS.indexes)})
    auto(cloud, {"users": Tab(columns, indexes), "other": Tab({"a": Col()}, {"idx_other": Idx(("a",))})})
    refers = ("FOREIGN KEY (points) REFERENCES other (id)", "CHECK (id > 0)")
    auto(cloud, {"other": Tab({"a": Col()}, {"idx_other": Idx(("a",))}), "users": Tab(columns, indexes, refers)})
    assert len(files_in(cloud.folder.path)) == 4
    assert cloud_findings(files_in(cloud.folder.path)) == []


def test_a_server_on_which_no_database_may_be_made_says_what_helps(cloud: Target) -> None:
    cloud.sql("CREATE ROLE nobody_special LOGIN PASSWORD 'x'")
    try:
        url = re.sub("//[^@]+@", "//nobody_special:x@", cloud.url)
        with pytest.raises(OperatorError, match="--scratch-url"), server_scratch(url)():
            pass
    finally:
        cloud.sql("DROP ROLE nobody_special")


# --- the command


def invoke(*arguments: str) -> Result:
    result = CliRunner().invoke(cli.main, arguments)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of models in a module of its own."""
    code = 'import peewee as pw\n\nclass Note(pw.Model):\n    text = pw.TextField(null=True)\n    class Meta:\n        table_name = "notes"\n\nMODELS = (Note,)\n'
    (tmp_path / "models_of_a_test.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    return "models_of_a_test:MODELS"


def test_the_command_writes_what_was_asked_for_and_prints_where(device: Target, module: str) -> None:
    folder = str(device.folder.path)
    empty = invoke("--db", "device", "create", "by hand", "--folder", folder)
    assert empty.stdout == f"device: written: {folder}/0001_by_hand.py\n"
    (device.folder.path / "0001_by_hand.py").unlink()
    (report,) = json.loads(invoke("--db", "device", "create", "notes", "--auto", "--folder", folder, "--models", module, "--json").stdout)
    assert report["path"] == f"{folder}/0001_notes.py"
    assert report["statements"][0].startswith("CREATE TABLE notes (")
    assert report["warnings"]
    again = invoke("--db", "device", "create", "more", "--auto", "--folder", folder, "--models", module)
    assert again.stdout == "device: nothing to do, the files make what the models say\n"


def test_without_a_server_one_is_started_for_the_scratch_databases(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    result = invoke("--db", "cloud", "create", "notes", "--auto", "--folder", str(tmp_path), "--models", module)
    # peewee's AutoField is a serial: its sequence cannot be seen, and that is said.
    assert "use GENERATED … AS IDENTITY" in result.stderr
    assert result.exit_code == SchemaError.exit_code


def test_models_that_are_not_there_are_said_in_a_sentence(device: Target) -> None:
    result = invoke("--db", "device", "create", "x", "--auto", "--folder", str(device.folder.path), "--models", "absent.module:MODELS")
    assert result.stderr.startswith("carrel-migrate: The models absent.module:MODELS cannot be imported")


@pytest.mark.parametrize("kind", ["device", "cloud"])
def test_the_shipped_models_and_files_leave_nothing_to_draft(kind: str, cloud: Target) -> None:
    result = invoke("--db", kind, "--url", cloud.url, "create", "nothing", "--auto")
    assert result.stdout == f"{kind}: nothing to do, the files make what the models say\n"
