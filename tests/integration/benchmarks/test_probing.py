"""The benchmarks' probe tells how long a write was held up, on a real database of either kind."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from pathlib import Path

import psycopg2
import pytest

from benchmarks.probing import PROBE_TABLE, Probe, Write, postgres_writes, sqlite_writes
from domain.errors import OperatorError

HELD_S = 0.1
WAIT_MAX_S = 30.0

Locked = Callable[[], AbstractContextManager[None]]


@contextmanager
def postgres_locked(url: str) -> Iterator[None]:
    with closing(psycopg2.connect(url)) as other, other.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {PROBE_TABLE}")
        yield


@contextmanager
def sqlite_locked(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield


@pytest.fixture(params=["postgres", "sqlite"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Callable[[], AbstractContextManager[Write]], Locked]:
    """Its writer, and a block in which nobody else writes."""
    if request.param == "sqlite":
        path = tmp_path / "probed.sqlite3"
        return (lambda: sqlite_writes(str(path))), (lambda: sqlite_locked(path))
    url: str = request.getfixturevalue("fresh_database")
    return (lambda: postgres_writes(url)), (lambda: postgres_locked(url))


def test_a_write_that_is_held_up_is_counted_for_as_long_as_it_was(
    database: tuple[Callable[[], AbstractContextManager[Write]], Locked],
) -> None:
    writes, locked = database
    begun = threading.Event()
    with writes() as write, ExitStack() as probing:

        def noticed() -> None:
            begun.set()
            write()

        probe = Probe(noticed)
        with locked():
            probing.enter_context(probe.writing())
            assert begun.wait(WAIT_MAX_S)
            begun_s = time.monotonic()
            threading.Event().wait(HELD_S)
            held_ms = 1000 * (time.monotonic() - begun_s)
            assert probe.writes == 0
    assert probe.writes >= 1
    assert probe.longest_ms >= held_ms


def test_a_write_that_postgresql_wants_to_be_repeated_is_repeated(fresh_database: str) -> None:
    with postgres_writes(fresh_database) as write, closing(psycopg2.connect(fresh_database)) as other, other.cursor() as cursor:
        cursor.execute("CREATE SEQUENCE tries")
        cursor.execute(
            "CREATE FUNCTION refuse_twice() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF nextval('tries') < 3 THEN RAISE serialization_failure; END IF; RETURN NEW; END $$"
        )
        cursor.execute(f"CREATE TRIGGER refuse BEFORE INSERT ON {PROBE_TABLE} FOR EACH ROW EXECUTE FUNCTION refuse_twice()")
        other.commit()
        write()
        cursor.execute(f"SELECT count(*), (SELECT last_value FROM tries) FROM {PROBE_TABLE}")
        assert cursor.fetchone() == (1, 3)


def test_a_write_that_fails_is_told_and_measures_nothing(tmp_path: Path) -> None:
    path = tmp_path / "probed.sqlite3"
    with sqlite_writes(str(path)) as write:
        with closing(sqlite3.connect(path)) as other:
            other.execute(f"DROP TABLE {PROBE_TABLE}")
        with pytest.raises(OperatorError, match="no such table"), Probe(write).writing():
            pass
