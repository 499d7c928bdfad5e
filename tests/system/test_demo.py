"""`make demo` with fewer records: it succeeds only when both databases agree, and leaves nothing behind."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import psycopg2
import pytest
from rich.console import Console

from cloud_api.database import CloudDatabase
from cloud_api.embedded import DatabaseServer
from devstack import demo as module
from devstack.compare import Rows, cloud_rows
from devstack.demo import Options, demo
from devstack.display import Display
from tests.support.devstack import descendants, devstack, reachable_temporary_folder, running

RECORDS = 600


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable_temporary_folder() as folder:
        yield folder


@pytest.fixture
def scratch(folder: Path) -> Path:
    """Where the demonstration makes its throw-away folder."""
    scratch = folder / "tmp"
    scratch.mkdir(mode=0o711)
    return scratch


def test_the_databases_agree_after_an_outage_and_nothing_is_left(folder: Path, scratch: Path) -> None:
    with devstack("demo", "--records", str(RECORDS), folder=folder, TMPDIR=str(scratch)) as command:
        assert command.wait() == 0, command.output
    output = command.output
    assert re.search(rf"^question_attempts +{RECORDS} +{RECORDS} +0$", output, re.MULTILINE), output
    assert f"attempts sent {RECORDS}, acknowledged {RECORDS}; pending 0, rejected 0; status synced" in output
    assert "each of its flashcards is lent one of the course" in output
    waiting = [int(n.replace(",", "")) for n in re.findall(r"^  Offline .*?([\d,]+) pending$", output, re.MULTILINE)]
    assert len(waiting) >= 2, output
    assert all(earlier < later for earlier, later in pairwise(waiting)), output
    assert re.search(r"says: waiting, [\d,]+ pending, reason \w+: The school's server", output), output
    assert not list(scratch.iterdir())


def test_interrupted_it_stops_and_removes_what_it_made(folder: Path, scratch: Path) -> None:
    with devstack("demo", folder=folder, TMPDIR=str(scratch)) as command:
        command.wait_for("Offline")
        started = descendants(command.process.pid) if sys.platform == "linux" else set()
        assert command.signal(signal.SIGTERM) == 130, command.output
    assert not running(started)
    assert not list(scratch.iterdir())


def test_a_single_altered_value_makes_it_fail(scratch: Path, postgres: DatabaseServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def altered(database: CloudDatabase, school_id: str) -> Rows:
        with database.transaction() as cursor:
            cursor.execute("UPDATE question_attempts SET active_ms = active_ms + 1 WHERE id = (SELECT id FROM question_attempts LIMIT 1)")
        return cloud_rows(database, school_id)

    monkeypatch.setattr(module, "cloud_rows", altered)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    output = io.StringIO()
    assert (
        demo({**os.environ, "DATABASE_URL": postgres.url}, Options(records=60, students=1), Display(Console(file=output, width=100))) == 1
    )
    assert "question_attempts: 1 rows differ: " in output.getvalue()


def test_on_a_server_of_ones_own_it_uses_a_database_that_it_removes_again(folder: Path, scratch: Path, postgres: DatabaseServer) -> None:
    before = _databases(postgres)
    with devstack("demo", "--records", "60", folder=folder, TMPDIR=str(scratch), DATABASE_URL=postgres.url) as command:
        command.wait_for("Cloud API")
        assert len(_databases(postgres) - before) == 1
        assert command.wait() == 0, command.output
    assert _databases(postgres) == before


def _databases(server: DatabaseServer) -> set[str]:
    with closing(psycopg2.connect(server.url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        return {row[0] for row in cursor.fetchall()}
