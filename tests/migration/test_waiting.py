"""Whoever waits for something long hears of it, and nobody hears of what is quick."""

from __future__ import annotations

import io
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from domain.clock import SystemClock
from migrations import dump, sqlite_copy
from migrations.backup import back_up_file
from migrations.engines import Limits, PostgresEngine
from migrations.waiting import LINE_EVERY_S, Lines, OneLine, Tell, Waiting, display_on
from tests.migration.conftest import Target
from tests.support.device import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class Heard:
    """An activity that keeps what it hears."""

    def __init__(self) -> None:
        self.steps: list[str] = []
        self.details: list[str] = []

    @contextmanager
    def during(self, what: str) -> Iterator[Tell]:
        self.steps.append(what)
        yield self.details.append


def test_what_takes_less_than_two_seconds_is_not_told_and_what_takes_longer_is_now_and_then(clock: ManualClock) -> None:
    said: list[str] = []
    waiting = Waiting(Lines(said.append), clock=clock)
    with waiting.during("0002_large"):
        clock.advance(1999)
        assert waiting.tick() == pytest.approx(0.001)
        assert said == []
        clock.advance(1)
        assert waiting.tick() == LINE_EVERY_S
        clock.advance(5000)
        waiting.tick()
    clock.advance(60_000)
    assert waiting.tick() is None
    assert said == ["0002_large … 2 s", "0002_large … 7 s"]


def test_how_far_it_has_come_stands_in_the_line(clock: ManualClock) -> None:
    said: list[str] = []
    waiting = Waiting(Lines(said.append), clock=clock)
    with waiting.during("backing up") as tell:
        tell("45 %")
        clock.advance(3000)
        waiting.tick()
    assert said == ["backing up … 45 %, 3 s"]


def test_a_step_within_another_stands_in_its_place_and_gives_it_back(clock: ManualClock) -> None:
    said: list[str] = []
    waiting = Waiting(Lines(said.append), clock=clock)
    with waiting.during("outer"):
        with waiting.during("inner"):
            clock.advance(2000)
            waiting.tick()
        waiting.tick()
    assert said == ["inner … 2 s", "outer … 2 s"]


def test_a_terminal_has_one_line_that_is_written_anew_and_gone_in_the_end(clock: ManualClock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((12, 24)))
    screen = io.StringIO()
    waiting = Waiting(OneLine(screen), clock=clock)
    with waiting.during("a long name"):
        for _ in range(2):
            clock.advance(2000)
            waiting.tick()
    assert screen.getvalue() == "\r\x1b[Ka long name\r\x1b[Ka long name\r\x1b[K"


def test_a_terminal_is_told_from_a_file() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    assert isinstance(display_on(Terminal()), OneLine)
    assert isinstance(display_on(io.StringIO()), Lines)


def test_the_lines_come_while_a_statement_gives_python_no_turn() -> None:
    said: list[str] = []
    count = "SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600000) SELECT i FROM n)"
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        Waiting(Lines(said.append, every_s=0.01), first_s=0.001) as waiting,
        waiting.during("counting"),
    ):
        connection.execute(count)
    assert len(said) > 1


def test_every_step_of_an_upgrade_that_may_take_long_is_an_activity(device: Target) -> None:
    device.folder.add("0001_row", ["CREATE TABLE t (id INTEGER)", "INSERT INTO t VALUES (1)"])
    device.upgrade()
    device.folder.add_tables(2)
    heard = Heard()
    with device.open(activity=heard) as migrations:
        migrations.upgrade()
    assert heard.steps == ["waiting for its turn", "backing up carrel.db", "0002_table_2 (1 of 1)", "looking the database through"]


def test_a_terminal_that_is_gone_ends_nothing(clock: ManualClock) -> None:
    screen = io.StringIO()
    waiting = Waiting(OneLine(screen), clock=clock)
    with waiting.during("0002_large"):
        clock.advance(2000)
        waiting.tick()
        screen.close()
        clock.advance(2000)
        assert waiting.tick()


def test_a_backup_tells_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_copy, "STEP_PAGES", 10)
    heard = Heard()
    with closing(sqlite3.connect(tmp_path / "d.db", isolation_level=None)) as connection:
        connection.execute("CREATE TABLE t (x)")
        connection.execute("INSERT INTO t VALUES (zeroblob(400000))")
        back_up_file(tmp_path / "d.db", connection, None, SystemClock(), heard)
    shares = [int(detail.removesuffix(" %")) for detail in heard.details if detail.endswith(" %")]
    assert len(shares) >= 10
    assert shares == sorted(shares)
    assert shares[-1] == 100


def test_a_dump_tells_how_much_is_written(cloud: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a pg_dump that does not end before it was looked at."""
    tools, seen = tmp_path / "tools", tmp_path / "seen"
    tools.mkdir()
    (tools / "pg_dump").write_text(f"#!/bin/sh\nwhile [ ! -e '{seen}' ]; do sleep 0.01; done\n")
    (tools / "pg_restore").write_text("#!/bin/sh\necho migration_history\n")
    for tool in tools.iterdir():
        tool.chmod(0o755)
    monkeypatch.setattr(dump, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(dump, "find_tools", lambda *_: tools)
    heard = Heard()

    class Looking(Heard):
        @contextmanager
        def during(self, what: str) -> Iterator[Tell]:
            def tell(detail: str) -> None:
                heard.details.append(detail)
                seen.touch()

            yield tell

    engine = PostgresEngine(cloud.url, Limits())
    engine.connect()
    try:
        dump.dump_database(engine, tmp_path, None, SystemClock(), Looking())
    finally:
        engine.close()
    assert heard.details[0] == "0 MB written"
