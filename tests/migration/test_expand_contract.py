"""The worked example of docs/migrations.md: a column gets another name in three releases, and nobody stops working.

In every step the old program runs on the new schema beside the new one, and each sees what the other writes.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psycopg2
import pytest

from migrations.files import files_in
from migrations.lint import cloud_findings
from tests.migration.conftest import Target

EXAMPLE = Path(__file__).parent / "examples" / "expand_contract"


class Program(NamedTuple):
    """The statements of one release."""

    read: str
    insert: str
    update: str


PROGRAMS = {
    "0.4": Program(
        "SELECT id, source FROM questions ORDER BY id",
        "INSERT INTO questions (id, source) VALUES (%s, %s)",
        "UPDATE questions SET source = %s WHERE id = %s",
    ),
    "0.5": Program(
        "SELECT id, coalesce(origin, source) FROM questions ORDER BY id",
        "INSERT INTO questions (id, origin) VALUES (%s, %s)",
        "UPDATE questions SET origin = %s WHERE id = %s",
    ),
    "0.6": Program(
        "SELECT id, origin FROM questions ORDER BY id",
        "INSERT INTO questions (id, origin) VALUES (%s, %s)",
        "UPDATE questions SET origin = %s WHERE id = %s",
    ),
}
PROGRAMS["0.7"] = PROGRAMS["0.6"]
SCHEMAS = {"0.4": "0004_questions", "0.5": "0005_expand", "0.6": "0006_migrate", "0.7": "0007_contract"}


class Running:
    """A program of one release at work on the database."""

    def __init__(self, connection: Any, program: Program) -> None:
        self._connection, self._program = connection, program

    def read(self) -> list[tuple[int, str]]:
        return list(self._do(self._program.read))

    def insert(self, number: int, text: str) -> None:
        self._do(self._program.insert, number, text)

    def update(self, number: int, text: str) -> None:
        self._do(self._program.update, text, number)

    def _do(self, statement: str, *parameters: Any) -> Any:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else None


@pytest.fixture
def school(cloud: Target) -> Target:
    for file in EXAMPLE.glob("[0-9]*.py"):
        shutil.copy(file, cloud.folder.path)
    cloud.upgrade("0004_questions")
    cloud.sql("INSERT INTO questions VALUES (1, 'book'), (2, NULL)")
    return cloud


@pytest.fixture
def connection(school: Target) -> Iterator[Any]:
    with closing(psycopg2.connect(school.url)) as connection:
        connection.autocommit = True
        yield connection


@pytest.mark.parametrize(("old", "new"), [("0.4", "0.5"), ("0.5", "0.6"), ("0.6", "0.7")])
def test_the_previous_program_and_the_new_one_work_side_by_side_on_the_new_schema(
    school: Target, connection: Any, old: str, new: str
) -> None:
    school.upgrade(SCHEMAS[new])
    programs = [Running(connection, PROGRAMS[old]), Running(connection, PROGRAMS[new])]
    expected = {1: "book", 2: None}
    for number, (writer, reader) in enumerate([programs, programs[::-1]], 10):
        writer.insert(number, f"by {number}")
        assert dict(reader.read()) == expected | {number: f"by {number}"}
        reader.update(number, "changed")
        reader.update(1, f"changed by {number}")
        expected |= {number: "changed", 1: f"changed by {number}"}
        assert dict(writer.read()) == dict(reader.read()) == expected


def test_the_new_program_works_while_only_the_expanding_part_is_applied(school: Target, connection: Any) -> None:
    """Rows from before have no origin yet."""
    school.upgrade("0005_expand")
    assert school.sql("SELECT count(*) FROM questions WHERE origin IS NOT NULL") == [(0,)]
    assert Running(connection, PROGRAMS["0.5"]).read() == [(1, "book"), (2, None)]


def test_a_running_program_survives_the_step_to_the_next_schema_without_connecting_again(school: Target, connection: Any) -> None:
    for release, following in (("0.4", "0.5"), ("0.5", "0.6"), ("0.6", "0.7")):
        program = Running(connection, PROGRAMS[release])
        before = program.read()
        school.upgrade(SCHEMAS[following])
        assert program.read() == before


def test_the_rows_from_before_are_filled_in_whatever_their_number(school: Target) -> None:
    school.sql("INSERT INTO questions SELECT n, 'book ' || n FROM generate_series(100, 3600) AS n")
    school.upgrade("0006_migrate")
    assert school.sql("SELECT count(*) FROM questions WHERE origin IS DISTINCT FROM source") == [(0,)]


def test_a_program_two_steps_behind_does_not_work_which_is_why_it_refuses_to_serve(school: Target, connection: Any) -> None:
    school.upgrade("0007_contract")
    with pytest.raises(psycopg2.errors.UndefinedColumn):
        Running(connection, PROGRAMS["0.5"]).read()


def test_the_lint_passes_the_example_and_stops_the_shortcut(school: Target) -> None:
    assert cloud_findings(files_in(school.folder.path)) == []
    school.folder.add("0008_shortcut", ["ALTER TABLE questions RENAME COLUMN origin TO source"])
    assert [finding.rule for finding in cloud_findings(files_in(school.folder.path))] == ["renaming-column"]
