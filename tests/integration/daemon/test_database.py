"""The writer of the device's file: what it acknowledges is durable, what fails fails alone, and nobody waits without end."""

from __future__ import annotations

import gc
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from daemon import connections
from daemon import database as database_module
from daemon.database import DeviceDatabase
from domain.errors import InvalidInput, StorageFull, Unavailable

ROOT = Path(__file__).parents[3]
SCHEMA = "CREATE TABLE notes (n INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "device.sqlite3"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute(SCHEMA)
    return path


@pytest.fixture
def database(path: Path) -> Iterator[DeviceDatabase]:
    opened = DeviceDatabase(path)
    opened.open()
    yield opened
    opened.close()


def add(database: DeviceDatabase, text: str) -> int:
    return database.write(lambda conn: int(conn.execute("INSERT INTO notes (text) VALUES (?) RETURNING n", (text,)).fetchone()[0]))


def texts(database: DeviceDatabase) -> list[str]:
    with database.read() as conn:
        return [row[0] for row in conn.execute("SELECT text FROM notes ORDER BY n")]


class Held:
    """Keeps the writer busy, so that everything written meanwhile waits for one shared commit."""

    def __init__(self, database: DeviceDatabase) -> None:
        self._go, self._busy = threading.Event(), threading.Event()
        self._pool = ThreadPoolExecutor(16)
        self._database = database
        self._pool.submit(database.write, self._hold)
        self._busy.wait(10)

    def _hold(self, _conn: sqlite3.Connection) -> None:
        self._busy.set()
        self._go.wait(10)

    def write(self, work: Any) -> Any:
        before = self._database._queue.qsize()
        future = self._pool.submit(self._database.write, work)
        while self._database._queue.qsize() == before and not future.done():
            os.sched_yield()
        return future

    def release(self) -> None:
        self._go.set()
        self._pool.shutdown(wait=True)


def test_writes_that_wait_together_share_one_commit(database: DeviceDatabase) -> None:
    held = Held(database)
    commits: list[int] = []

    def note(text: str) -> Any:
        def work(conn: sqlite3.Connection) -> None:
            commits.append(conn.total_changes)
            conn.execute("INSERT INTO notes (text) VALUES (?)", (text,))

        return work

    begun: list[str] = []
    held.write(lambda conn: conn.set_trace_callback(lambda sql: begun.append(sql) if sql.startswith("BEGIN") else None))
    waiting = [held.write(note(f"note {n}")) for n in range(10)]
    held.release()
    assert [future.result() for future in waiting] == [None] * 10
    assert begun == []  # the trace began inside the one transaction that holds them all
    assert len(texts(database)) == 10


def test_a_request_that_fails_undoes_its_own_changes_and_nobody_elses(database: DeviceDatabase) -> None:
    held = Held(database)

    def fails(conn: sqlite3.Connection) -> None:
        conn.execute("INSERT INTO notes (text) VALUES ('half')")
        raise InvalidInput([], "no")

    before = held.write(lambda conn: conn.execute("INSERT INTO notes (text) VALUES ('before')").rowcount)
    failed = held.write(fails)
    twice = held.write(lambda conn: conn.execute("INSERT INTO notes (text) VALUES ('before')").rowcount)
    after = held.write(lambda conn: conn.execute("INSERT INTO notes (text) VALUES ('after')").rowcount)
    held.release()
    assert (before.result(), after.result()) == (1, 1)
    with pytest.raises(InvalidInput, match="no"):
        failed.result()
    with pytest.raises(sqlite3.IntegrityError):
        twice.result()
    assert texts(database) == ["before", "after"]
    assert database.failure is None


@pytest.mark.parametrize("thrown", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_even_what_is_no_exception_ends_only_the_request_that_raised_it(database: DeviceDatabase, thrown: type[BaseException]) -> None:
    held = Held(database)

    def fails(conn: sqlite3.Connection) -> None:
        conn.execute("INSERT INTO notes (text) VALUES ('half')")
        raise thrown

    failed = held.write(fails)
    neighbour = held.write(lambda conn: conn.execute("INSERT INTO notes (text) VALUES ('neighbour')").rowcount)
    held.release()
    assert neighbour.result() == 1
    assert isinstance(failed.exception(), thrown)
    assert texts(database) == ["neighbour"]
    assert add(database, "goes on") == 2


def test_nothing_is_accepted_after_the_database_failed(database: DeviceDatabase) -> None:
    with pytest.raises(Unavailable, match="started again"):
        database.write(lambda conn: conn.execute("ROLLBACK").rowcount)  # as SQLite itself does after an I/O error
    assert database.failure is not None
    with pytest.raises(Unavailable):
        add(database, "on a page cache that lies")
    with pytest.raises(Unavailable):
        database.write(lambda conn: None)
    assert texts(database) == []


def test_a_file_that_another_process_holds_for_too_long_is_unavailable_and_not_broken(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connections._COMMON_PRAGMAS, "busy_timeout", 50)
    database = DeviceDatabase(path)
    database.open()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(Unavailable):
            add(database, "waits")
        other.execute("ROLLBACK")
    assert database.failure is None
    assert add(database, "goes on") == 1
    database.close()


def test_a_full_disk_is_said_so_and_what_was_acknowledged_stays(database: DeviceDatabase) -> None:
    pages = database.write(lambda conn: conn.execute("PRAGMA page_count").fetchone()[0])
    database.write(lambda conn: conn.execute(f"PRAGMA max_page_count = {pages + 20}").fetchone())
    acknowledged = []
    with pytest.raises(StorageFull):
        for n in range(1_000):
            add(database, f"{n} " + "x" * 3_000)
            acknowledged.append(n)
    assert len(acknowledged) > 3
    assert len(texts(database)) == len(acknowledged)
    assert database.failure is None
    database.write(lambda conn: conn.execute("PRAGMA max_page_count = 100000").fetchone())
    add(database, "space again")
    assert len(texts(database)) == len(acknowledged) + 1


def test_a_request_that_fills_the_disk_leaves_its_neighbours_whole(database: DeviceDatabase) -> None:
    pages = database.write(lambda conn: conn.execute("PRAGMA page_count").fetchone()[0])
    database.write(lambda conn: conn.execute(f"PRAGMA max_page_count = {pages + 10}").fetchone())
    held = Held(database)
    small = [held.write(lambda conn: conn.execute("INSERT INTO notes (text) VALUES ('small')").rowcount)]
    large = held.write(lambda conn: conn.execute("INSERT INTO notes (text) VALUES (?)", ("x" * 1_000_000,)).rowcount)
    small.append(held.write(lambda conn: conn.execute("INSERT INTO notes (text) VALUES ('small, too')").rowcount))
    held.release()
    with pytest.raises(StorageFull):
        large.result()
    stored = [f.exception() is None for f in small]
    assert texts(database) == [text for text, kept in zip(("small", "small, too"), stored, strict=True) if kept]


def test_a_reader_cannot_write_and_sees_one_moment_even_across_a_read_in_a_read(database: DeviceDatabase) -> None:
    add(database, "first")
    with database.read() as conn:
        assert conn.execute("SELECT count(*) FROM notes").fetchone() == (1,)
        add(database, "second")
        with database.read() as inner:
            assert inner is conn
            assert inner.execute("SELECT count(*) FROM notes").fetchone() == (1,)
        assert conn.in_transaction
        assert conn.execute("SELECT count(*) FROM notes").fetchone() == (1,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            conn.execute("DELETE FROM notes")
    assert texts(database) == ["first", "second"]


def test_connections_of_threads_that_ended_are_not_kept(database: DeviceDatabase) -> None:
    for _ in range(20):
        thread = threading.Thread(target=texts, args=[database])
        thread.start()
        thread.join()
    gc.collect()
    assert len(database.connections.readers) <= 2


def test_closing_finishes_what_waits_and_refuses_what_comes_after(path: Path) -> None:
    database = DeviceDatabase(path)
    database.open()
    held = Held(database)
    waiting = [held.write(lambda conn, n=n: conn.execute("INSERT INTO notes (text) VALUES (?)", (f"{n}",)).rowcount) for n in range(8)]
    closer = threading.Thread(target=database.close)
    closer.start()
    while not database._closing:
        os.sched_yield()
    with pytest.raises(Unavailable):
        add(database, "too late")
    with pytest.raises(Unavailable), database.read():
        pass
    held.release()
    closer.join(10)
    assert not closer.is_alive()
    assert [future.result() for future in waiting] == [1] * 8
    database.close()
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("SELECT count(*) FROM notes").fetchone() == (8,)


def test_closing_a_database_with_a_full_queue_ends(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_module, "WRITE_QUEUE_MAX", 4)
    database = DeviceDatabase(path)
    database.open()
    stop = threading.Event()
    outcomes: list[bool] = []

    def write_on() -> None:
        while not stop.is_set():
            try:
                database.write(lambda conn: conn.execute("SELECT 1").fetchone())
                outcomes.append(True)
            except Unavailable:
                outcomes.append(False)
                if database._closing:
                    return

    writers = [threading.Thread(target=write_on) for _ in range(12)]
    for writer in writers:
        writer.start()
    while len(outcomes) < 200:
        os.sched_yield()
    database.close()
    stop.set()
    for writer in writers:
        writer.join(10)
    assert not any(writer.is_alive() for writer in writers)
    assert not database._writer.is_alive()


def test_more_writes_than_may_wait_are_turned_away(database: DeviceDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database._queue, "maxsize", 3)
    held = Held(database)
    for _ in range(3):
        held.write(lambda conn: None)
    with pytest.raises(Unavailable, match="Too many"):
        database.write(lambda conn: None)
    held.release()


WRITER = """
import sys
from pathlib import Path
from daemon.database import DeviceDatabase
database = DeviceDatabase(Path(sys.argv[1]))
database.open()
n = 0
while True:
    n += 1
    database.write(lambda conn: conn.execute("INSERT INTO notes (text) VALUES (?)", (f"{sys.argv[2]}-{n}",)))
    print(n, flush=True)
"""


def test_NO_LOST_OP_every_write_acknowledged_before_a_kill_is_there(path: Path) -> None:
    expected = 0
    for life in range(4):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(life)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(20 + 17 * life):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        acknowledged = 20 + 17 * life + len(process.stdout.read().split())
        process.wait(10)
        process.stdout.close()
        with closing(sqlite3.connect(path)) as conn:
            assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            stored = [int(row[0]) for row in conn.execute("SELECT substr(text, 3) FROM notes WHERE text LIKE ? ORDER BY n", (f"{life}-%",))]
        assert stored[:acknowledged] == list(range(1, acknowledged + 1))
        assert len(stored) <= acknowledged + 1
        expected += len(stored)
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("SELECT count(*) FROM notes").fetchone() == (expected,)
