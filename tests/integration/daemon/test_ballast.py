"""Room kept for a full disk: what was accepted is brought to its end with it, and nothing new wears it down."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from daemon.database import DeviceDatabase
from daemon.recovery import ballast as ballast_module
from daemon.recovery.ballast import Ballast
from domain.errors import StorageFull, Unavailable

SIZE = 1024 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "device.sqlite3"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE notes (text TEXT NOT NULL)")
    return path


class LiftingBallast(Ballast):
    """Stands for a small disk: SQLite may write no further than `pages`, and `spare` pages more once the ballast is gone."""

    def __init__(self, database: Path, spare: int) -> None:
        super().__init__(database, SIZE, 0)
        self.spare, self.conn = spare, None

    def fill(self, database: DeviceDatabase, pages: int) -> None:
        def limit(conn: sqlite3.Connection) -> None:
            self.conn = conn  # type: ignore[assignment]
            (self.pages,) = conn.execute("PRAGMA page_count").fetchone()
            self.pages += pages
            conn.execute(f"PRAGMA max_page_count = {self.pages}").fetchone()

        database.write(limit)

    def release(self) -> bool:
        released = super().release()
        if released and self.conn is not None:
            self.conn.execute(f"PRAGMA max_page_count = {self.pages + self.spare}").fetchone()
        return released


def write(database: DeviceDatabase, size: int, *, finishing: bool = False) -> None:
    database.write(lambda conn: conn.execute("INSERT INTO notes VALUES (?)", ("x" * size,)).rowcount, finishing=finishing)


@pytest.fixture
def full(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[DeviceDatabase, LiftingBallast]]:
    """A database whose disk has just become full, and the ballast, which is gone."""
    monkeypatch.setattr(ballast_module, "RETRY_S", 0.0)
    ballast = LiftingBallast(path, spare=50)
    ballast.start()
    database = DeviceDatabase(path, ballast=ballast)
    database.open()
    ballast.fill(database, pages=3)
    with pytest.raises(StorageFull):
        write(database, 100_000)
    monkeypatch.setattr(ballast, "_free_bytes", lambda: 0)
    yield database, ballast
    database.close()


def test_it_is_a_file_whose_room_is_really_taken(path: Path) -> None:
    ballast = Ballast(path, SIZE, 0)
    ballast.start()
    file = path.with_name(path.name + ".ballast")
    assert file.stat().st_blocks * 512 >= SIZE
    assert file.stat().st_mode & 0o777 == 0o600
    assert not ballast.full
    assert ballast.release()
    assert ballast.full
    assert not file.exists()


def test_it_comes_back_when_there_is_room_and_not_before(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ballast_module, "RETRY_S", 0.0)
    ballast = Ballast(path, SIZE, 0)
    ballast.start()
    ballast.release()
    monkeypatch.setattr(ballast, "_free_bytes", lambda: SIZE - 1)
    assert not ballast.restore()
    monkeypatch.setattr(ballast, "_free_bytes", lambda: SIZE)
    assert ballast.restore()
    assert not ballast.full


def test_a_disk_without_room_for_it_counts_as_full_from_the_start(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ballast = Ballast(path, SIZE, 0)
    monkeypatch.setattr(ballast, "_free_bytes", lambda: SIZE - 1)
    ballast.start()
    assert ballast.full


def test_one_that_was_left_by_the_last_start_is_kept(path: Path) -> None:
    Ballast(path, SIZE, 0).start()
    file = path.with_name(path.name + ".ballast")
    before = file.stat().st_ino
    Ballast(path, SIZE, 0).start()
    assert file.stat().st_ino == before


def test_new_writes_are_refused_unseen_while_what_finishes_goes_on(full: tuple[DeviceDatabase, LiftingBallast]) -> None:
    database, _ = full
    ran: list[str] = []
    with pytest.raises(StorageFull):
        database.write(lambda conn: ran.append("new"))
    database.write(lambda conn: ran.append("finishing"), finishing=True)
    write(database, 20_000, finishing=True)
    assert ran == ["finishing"]
    assert database.failure is None
    with database.read() as conn:
        assert conn.execute("SELECT count(*) FROM notes").fetchone() == (1,)


def test_the_write_that_meets_the_full_disk_first_comes_through_if_it_finishes_something(path: Path) -> None:
    ballast = LiftingBallast(path, spare=50)
    ballast.start()
    database = DeviceDatabase(path, ballast=ballast)
    database.open()
    ballast.fill(database, pages=3)
    write(database, 100_000, finishing=True)
    assert ballast.full
    with database.read() as conn:
        assert conn.execute("SELECT length(text) FROM notes").fetchone() == (100_000,)
    database.close()


def test_when_the_room_is_used_up_too_what_finishes_is_refused_and_nothing_is_broken(full: tuple[DeviceDatabase, LiftingBallast]) -> None:
    database, _ = full
    with pytest.raises(StorageFull):
        write(database, 1_000_000, finishing=True)
    write(database, 10, finishing=True)
    assert database.failure is None


def test_new_writes_are_taken_again_as_soon_as_there_is_room(
    full: tuple[DeviceDatabase, LiftingBallast], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, ballast = full
    monkeypatch.setattr(ballast, "_free_bytes", lambda: 10 * SIZE)
    write(database, 10)
    assert not ballast.full


@pytest.mark.parametrize(("has_room", "raised"), [(False, StorageFull), (True, Unavailable)])
def test_a_quota_is_told_from_a_broken_disk_by_trying(path: Path, monkeypatch: pytest.MonkeyPatch, has_room: bool, raised: type) -> None:
    ballast = Ballast(path, SIZE, 0)
    database = DeviceDatabase(path, ballast=ballast)
    database.open()
    monkeypatch.setattr(ballast, "has_room", lambda: has_room)

    def over_quota(conn: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR_WRITE
        raise error

    with pytest.raises(raised):
        database.write(over_quota)
    assert (database.failure is None) is not has_room
    database.close()


def test_trying_leaves_nothing_behind(path: Path) -> None:
    before = set(os.listdir(path.parent))
    assert Ballast(path, SIZE, 0).has_room()
    assert set(os.listdir(path.parent)) == before
