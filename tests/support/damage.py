"""A device's file to be damaged: the folder of one that was stopped, and of the same one as a power cut would leave it.

Fixtures; a test module registers them by importing those that it needs, with those that they need in turn.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from daemon.database import DeviceDatabase
from daemon.identity.device import TOKEN_FILE
from daemon.identity.instance import keep_copy
from daemon.models import MODELS
from daemon.records import NewAttempt
from tests.support.desk import DATABASE, Desk, crashed_copy, started
from tests.support.device import BEN, QUESTIONS, seeded_database

Queue = dict[str, tuple[str, str, str]]
PAGE = 4096
SETTLED = 10


def answer(desk: Desk, count: int) -> None:
    desk.records.record_attempts(BEN, [NewAttempt(QUESTIONS[n % len(QUESTIONS)], n % 3 > 0, "free", f"answer {n}") for n in range(count)])


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Queue]:
    """The folders of a device that was stopped and of the same one as a power cut would leave it, and what is unsent in both."""
    folder = tmp_path_factory.mktemp("devices")
    stopped = folder / "stopped"
    stopped.mkdir()
    seeded_database(stopped)
    (stopped / TOKEN_FILE).write_text("the-token")
    with closing(DeviceDatabase(stopped / DATABASE)) as database:
        database.open(MODELS)
        keep_copy(database, stopped)
    with started(stopped) as desk:
        answer(desk, SETTLED)
        desk.records.update_profile(BEN, {"grade": "6"})

        def settle(conn: sqlite3.Connection) -> None:
            conn.execute("UPDATE sync_operations SET state = 'synced' WHERE op_no <= ?", (SETTLED,))
            conn.execute("UPDATE sync_progress SET acked_op_no = ?", (SETTLED,))

        desk.database.write(settle)
        for _ in range(6):
            answer(desk, 20)
        desk.records.update_profile(BEN, {"grade": "7"})
        queue = desk.queued()
        crashed = crashed_copy(stopped, folder / "crashed")
    return stopped, crashed, queue


@pytest.fixture(params=["stopped", "crashed"])
def device(request: pytest.FixtureRequest, devices: tuple[Path, Path, Queue], tmp_path: Path) -> tuple[Path, Queue]:
    """A copy of one of the two."""
    stopped, crashed, queue = devices
    folder = tmp_path / "device"
    shutil.copytree(stopped if request.param == "stopped" else crashed, folder)
    return folder, queue


@pytest.fixture
def crashed(devices: tuple[Path, Path, Queue], tmp_path: Path) -> tuple[Path, Queue]:
    """A copy of the one that lost power."""
    shutil.copytree(devices[1], tmp_path / "device")
    return tmp_path / "device", devices[2]


def holds_everything(desk: Desk, queue: Queue) -> bool:
    """Whether everything unsent is queued as it was, shown as before, and nothing is there twice."""
    queued = desk.queued()
    with desk.database.read() as conn:
        shown = {row[0] for row in conn.execute("SELECT id FROM question_attempts")}
        (twice,) = conn.execute("SELECT count(*) - count(DISTINCT op_id) FROM sync_operations").fetchone()
        sound = conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        grade = conn.execute("SELECT grade FROM student_profiles WHERE id = ?", (BEN,)).fetchone()
    unchanged = all(queued.get(op_id) == values for op_id, values in queue.items())
    attempts = {row_id for table, row_id, _ in queue.values() if table == "question_attempts"}
    return unchanged and sound and twice == 0 and attempts <= shown and grade == ("7",)


def truncated(size: float) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        os.truncate(file, int(size if size > 1 else size * file.stat().st_size))

    return damage


def overwritten(at: float, data: bytes) -> Callable[[Path], None]:
    def damage(file: Path) -> None:
        with file.open("r+b") as opened:
            opened.seek(int(at if at >= 1 or at == 0 else at * file.stat().st_size) // PAGE * PAGE)
            opened.write(data)

    return damage


def blank_one_leaf(file: Path) -> None:
    """Zeros over one of the pages that hold operations; those that lead to them stay (sqlite.org/fileformat.html, section 1.6)."""
    data = bytearray(file.read_bytes())
    leaves = [at for at in range(0, len(data), PAGE) if data[at] == 13 and b'"purpose":"free"' in data[at : at + PAGE]]
    at = leaves[len(leaves) // 2]
    file.write_bytes(data[:at] + bytes(PAGE) + data[at + PAGE :])


def overwrite_page(file: Path, number: int) -> None:
    """By another process: a descriptor closed here would take SQLite's locks with it."""
    code = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(int(sys.argv[2])); f.write(bytes(4096))"
    subprocess.run([sys.executable, "-c", code, str(file), str((number - 1) * PAGE)], check=True, timeout=30)
