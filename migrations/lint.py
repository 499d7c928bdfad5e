"""What a migration file of ours may not do: `python -m migrations.lint`, part of `make check`.

Cloud files must be zero-downtime: the school goes on working, and the previous release goes on running, while they are applied
(docs/migrations.md). squawk judges the SQL that they declare; what it does not know stands in `_BLOCKING`. A file that must break a rule says
so, and why:

    ACCEPTED = {"ban-drop-column": "no release since 0.4 reads users.nickname"}

Device files may lock what they like, nobody else is there; but what is queued in `sync_operations` is untouchable. That has no exception.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domain.errors import CarrelError, SchemaError
from migrations.files import MigrationFile, shipped_files

# The oldest PostgreSQL that is supported: Debian 12's.
PG_VERSION = "15.0"
LINT_MAX_S = 60
QUEUE = "sync_operations"
# Matters of taste, and time-outs, which the runner sets for every statement.
_TASTE = (
    "prefer-bigint-over-int",
    "prefer-bigint-over-smallint",
    "prefer-identity",
    "prefer-text-field",
    "prefer-timestamp-tz",
    "require-lock-timeout",
    "require-statement-timeout",
)
# A file in one transaction need not be able to run twice; one outside must (migrations/files.py).
_FOR_PIECES = "prefer-robust-stmts"
# What squawk lets pass: commands that hold ACCESS EXCLUSIVE for as long as it takes to write a table anew, or that are that lock.
_BLOCKING = re.compile(
    r"\b(VACUUM\s+FULL|VACUUM\s*\([^)]*\bFULL\b|CLUSTER\s|TRUNCATE\s|LOCK\s+(?:TABLE\s+)?\w|SET\s+(?:UN)?LOGGED|SET\s+TABLESPACE"
    r"|SET\s+ACCESS\s+METHOD)",
    re.IGNORECASE,
)
_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


@dataclass(frozen=True)
class Finding:
    """One breach: the file's name, the rule's stable name, a sentence."""

    file: str
    rule: str
    message: str


@dataclass
class _Declared:
    """Stands in for peewee-migrate's migrator and keeps what a file declares."""

    statements: list[str] = field(default_factory=list)
    other: list[str] = field(default_factory=list)

    def sql(self, statement: str, *parameters: Any) -> None:
        self.statements.append(statement.replace("%s", "NULL").replace("%%", "%"))

    def __getattr__(self, operation: str) -> Any:
        def note(*_: Any, **__: Any) -> Any:
            self.other.append(operation)
            return _[0] if _ else None

        return note


def cloud_findings(files: Sequence[MigrationFile]) -> list[Finding]:
    """What in the cloud's files is not zero-downtime and not accepted with a reason. Raises SchemaError when squawk is not there."""
    return [finding for file in files for finding in _judged(file)]


def device_findings(files: Sequence[MigrationFile]) -> list[Finding]:
    """The device's files after the first that touch, or as much as name, the operations queued."""
    return [
        Finding(file.name, "queued-operations", f"{QUEUE} belongs to the student: no migration touches what is queued in it.")
        for file in files[1:]
        if QUEUE.encode() in file.source
    ]


def _judged(file: MigrationFile) -> Iterator[Finding]:
    scope: dict[str, Any] = {"__name__": file.name}
    exec(compile(file.source, f"{file.name}.py", "exec", dont_inherit=True), scope)  # noqa: S102  # a file of ours
    declared = _Declared()
    scope["migrate"](declared, None, fake=True)
    atomic = bool(scope.get("ATOMIC", True))
    accepted: dict[str, str] = dict(scope.get("ACCEPTED", {}))
    met = set()
    for finding in (*_own(file.name, declared), *_squawk(file.name, declared.statements, atomic)):
        met.add(finding.rule)
        if not accepted.get(finding.rule, "").strip():
            yield finding
    for rule in accepted.keys() - met:
        yield Finding(file.name, "accepted-in-vain", f"{rule} is accepted, and nothing in the file breaks it.")


def _own(name: str, declared: _Declared) -> Iterator[Finding]:
    for operation in declared.other:
        rule = "python" if operation == "run" else "not-sql"
        yield Finding(name, rule, f"migrator.{operation}: what it runs cannot be judged; write the SQL, in batches where rows are changed.")
    for statement in declared.statements:
        if found := _BLOCKING.search(_COMMENT.sub("", statement)):
            yield Finding(name, "blocks-table", f"{' '.join(found[0].split())} stops everybody else on the table until it is done.")


def _squawk(name: str, statements: Sequence[str], atomic: bool) -> Iterator[Finding]:
    script = "".join(f"{statement.strip().rstrip(';')};\n" for statement in statements)
    excluded = ",".join((*_TASTE, _FOR_PIECES) if atomic else _TASTE)
    command = [_program(), "--reporter=json", f"--pg-version={PG_VERSION}", f"--exclude={excluded}", f"--stdin-filepath={name}.sql"]
    if atomic:
        command.append("--assume-in-transaction")
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=LINT_MAX_S, check=False)
    if done.returncode not in (0, 1):
        raise SchemaError(f"squawk did not judge {name}: {done.stderr.strip()}")
    for entry in json.loads(done.stdout or "[]"):
        yield Finding(name, entry["rule_name"], f"line {entry['line'] + 1}: {entry['message']}")


def _program() -> str:
    beside = Path(sys.executable).with_name("squawk")
    found = str(beside) if beside.is_file() else shutil.which("squawk")
    if not found:
        raise SchemaError("squawk is not installed; it comes with the extra [dev].")
    return found


def main() -> int:
    """Judges the files of this source tree; prints what is wrong. Returns 1 if anything is."""
    try:
        findings = device_findings(shipped_files("device")) + cloud_findings(shipped_files("cloud"))
    except CarrelError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    for finding in findings:
        print(f"{finding.file}: {finding.rule}: {finding.message}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
