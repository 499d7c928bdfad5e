"""The lint of migration files: each bad example is caught, by name, and each remedy passes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from domain.errors import SchemaError
from migrations import lint
from migrations.files import files_in, shipped_files
from migrations.lint import cloud_findings, device_findings
from tests.migration.conftest import Folder

ROOT = Path(__file__).resolve().parents[2]
TABLE = "CREATE TABLE t (id bigint PRIMARY KEY, a integer, b text)"
REASON = "ACCEPTED = {%r: 'no release since 0.4 needs it'}"


def rules(folder: Folder, *statements: str, extra: str = "") -> set[str]:
    folder.add("0001_first", [TABLE])
    folder.add("0002_change", statements, extra=extra)
    return {finding.rule for finding in cloud_findings(files_in(folder.path)) if finding.file == "0002_change"}


BAD = {
    "ALTER TABLE t ADD COLUMN c integer NOT NULL": "adding-required-field",
    "ALTER TABLE t ADD COLUMN c double precision NOT NULL DEFAULT random()": "adding-field-with-default",
    "ALTER TABLE t ADD COLUMN c integer GENERATED ALWAYS AS (a * 2) STORED": "adding-field-with-default",
    "ALTER TABLE t ALTER COLUMN a SET NOT NULL": "adding-not-nullable-field",
    "CREATE INDEX idx_t_a ON t (a)": "require-concurrent-index-creation",
    "CREATE UNIQUE INDEX idx_t_a ON t (a)": "require-concurrent-index-creation",
    "DROP INDEX idx_t_a": "require-concurrent-index-deletion",
    "REINDEX TABLE t": "require-concurrent-reindex",
    "ALTER TABLE t DROP COLUMN b": "ban-drop-column",
    "DROP TABLE t": "ban-drop-table",
    "ALTER TABLE t RENAME COLUMN a TO c": "renaming-column",
    "ALTER TABLE t RENAME TO u": "renaming-table",
    "ALTER TABLE t ALTER COLUMN a TYPE bigint": "changing-column-type",
    "ALTER TABLE t ADD CONSTRAINT positive CHECK (a > 0)": "constraint-missing-not-valid",
    "ALTER TABLE t ADD CONSTRAINT refers FOREIGN KEY (a) REFERENCES t (id)": "adding-foreign-key-constraint",
    "ALTER TABLE t ADD CONSTRAINT single UNIQUE (a)": "disallowed-unique-constraint",
    "VACUUM FULL t": "blocks-table",
    "VACUUM (ANALYZE, FULL) t": "blocks-table",
    "CLUSTER t USING t_pkey": "blocks-table",
    "TRUNCATE t": "blocks-table",
    "LOCK TABLE t IN ACCESS EXCLUSIVE MODE": "blocks-table",
    "ALTER TABLE t SET UNLOGGED": "blocks-table",
}


@pytest.mark.parametrize(("statement", "rule"), BAD.items())
def test_what_stops_a_working_school_is_refused(folder: Folder, statement: str, rule: str) -> None:
    assert rule in rules(folder, statement)


@pytest.mark.parametrize(("statement", "rule"), BAD.items())
def test_a_reason_in_the_file_lets_it_pass(folder: Folder, statement: str, rule: str) -> None:
    assert rule not in rules(folder, statement, extra=REASON % rule)
    assert rule in rules(folder, statement, extra=f"ACCEPTED = {{{rule!r}: ' '}}")


@pytest.mark.parametrize(
    ("statements", "extra"),
    [
        (["ALTER TABLE t ADD COLUMN c integer"], ""),
        (["ALTER TABLE t ADD COLUMN c integer NOT NULL DEFAULT 3"], ""),
        (["ALTER TABLE t ADD CONSTRAINT filled CHECK (a IS NOT NULL) NOT VALID"], ""),
        (["ALTER TABLE t VALIDATE CONSTRAINT filled", "ALTER TABLE t ALTER COLUMN a SET NOT NULL"], ""),
        (["CREATE TABLE u (id bigint PRIMARY KEY, a integer)", "CREATE INDEX idx_u_a ON u (a)"], ""),
        (["CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_t_a ON t (a)"], "ATOMIC = False"),
        (["UPDATE t SET b = 'TRUNCATE t' WHERE id < 100 -- LOCK TABLE\n"], ""),
    ],
)
def test_what_does_not_stop_it_passes(folder: Folder, statements: list[str], extra: str) -> None:
    found = rules(folder, *statements, extra=extra)
    assert found <= {"blocks-table"} if "TRUNCATE" in statements[0] else found == set()


def test_a_file_outside_a_transaction_must_be_able_to_run_twice(folder: Folder) -> None:
    assert rules(folder, "CREATE INDEX CONCURRENTLY idx_t_a ON t (a)", extra="ATOMIC = False") == {"prefer-robust-stmts"}


def test_python_that_nobody_can_judge_needs_a_reason(folder: Folder) -> None:
    folder.add("0001_first", [TABLE])
    folder.write(
        "0002_run", "def migrate(migrator, database, *, fake=False):\n    migrator.run(print)\n    migrator.drop_index('t', 'a')\n"
    )
    assert [finding.rule for finding in cloud_findings(files_in(folder.path))] == ["python", "not-sql"]


def test_a_reason_for_nothing_is_refused(folder: Folder) -> None:
    assert rules(folder, "ALTER TABLE t ADD COLUMN c integer", extra=REASON % "ban-drop-column") == {"accepted-in-vain"}


def test_sql_that_is_none_is_refused(folder: Folder) -> None:
    assert rules(folder, "ALTER TABEL t") == {"syntax-error"}


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE sync_operations SET state = 'pending'",
        "DELETE FROM sync_operations",
        "ALTER TABLE sync_operations ADD COLUMN a INTEGER",
        "CREATE INDEX idx_a ON sync_operations (op_id)",
        "INSERT INTO counts SELECT count(*) FROM sync_operations",
    ],
)
def test_a_device_migration_that_touches_queued_operations_is_caught_and_no_reason_helps(folder: Folder, statement: str) -> None:
    folder.add("0001_first", ["CREATE TABLE sync_operations (op_no INTEGER PRIMARY KEY)"])
    folder.add("0002_change", [statement], extra=REASON % "queued-operations")
    assert [(found.file, found.rule) for found in device_findings(files_in(folder.path))] == [("0002_change", "queued-operations")]


def test_no_shipped_device_migration_touches_queued_operations() -> None:
    assert device_findings(shipped_files("device")) == []


def test_the_shipped_files_pass_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "migrations.lint"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_squawk_it_says_what_to_install(folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    folder.add("0001_first", [TABLE])
    with pytest.raises(SchemaError, match="squawk is not installed"):
        lint.cloud_findings(files_in(folder.path))
