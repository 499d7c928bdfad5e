"""A damaged, lost or restored database: noticed or harmless, and never the end of anything that was acknowledged."""

from __future__ import annotations

import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from daemon import integrity
from daemon.database import DeviceDatabase
from daemon.identity import TOKEN_FILE
from daemon.instance import IDENTITY_COPY, keep_copy
from daemon.journal_file import journal_path
from daemon.models import MODELS
from daemon.records import NewAttempt
from daemon.recovery import Recovery
from daemon.recovery_report import KEPT_DAMAGED, damaged_files
from domain.errors import OperatorError, Unavailable
from domain.ids import IdSource, derived_id
from migrations.runner import upgrade_device
from tests.support.desk import DATABASE, Desk, crashed_copy, started
from tests.support.device import ADA, BEN, QUESTIONS, ManualClock, seeded_database

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
    (stopped / TOKEN_FILE).write_text("the token")
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


def test_a_sound_database_is_left_alone(device: tuple[Path, Queue]) -> None:
    folder, queue = device
    before = (folder / DATABASE).stat().st_ino
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        assert (desk.notices(), desk.was_own) == ([], True)
    assert (folder / DATABASE).stat().st_ino == before
    assert damaged_files(folder / DATABASE) == []


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


def replaced_by_a_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


def replaced_by_another(file: Path) -> None:
    file.unlink()
    with closing(sqlite3.connect(file)) as conn:
        conn.execute("CREATE TABLE something (else_ TEXT)")


DAMAGE: dict[str, Callable[[Path], None]] = {
    "gone": Path.unlink,
    "empty": truncated(0),
    "one byte left": truncated(1.01),
    "less than a header left": truncated(99),
    "a header left": truncated(100),
    "half a page left": truncated(PAGE / 2),
    "a page left": truncated(PAGE),
    "half of it left": truncated(0.5),
    "the last page torn off": truncated(0.97),
    "another kind of file": lambda file: file.with_suffix(file.suffix) and file.write_bytes(b"PK\x03\x04" * 5000) and None,  # type: ignore[func-returns-value]
    "a folder in its place": replaced_by_a_folder,
    "zeros over its header": overwritten(0, bytes(100)),
    "zeros over its first page": overwritten(0, bytes(PAGE)),
    "zeros over a page in the middle": overwritten(0.5, bytes(PAGE)),
    "noise over a third of it": overwritten(0.4, random.Random(3).randbytes(15 * PAGE)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_NO_LOST_OP_a_damaged_database_is_replaced_and_says_so(devices: tuple[Path, Path, Queue], tmp_path: Path, damage: str) -> None:
    stopped, _, queue = devices
    folder = tmp_path / "device"
    shutil.copytree(stopped, folder)
    DAMAGE[damage](folder / DATABASE)
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        (notice,) = desk.notices()
        assert "the database of this device was replaced or repaired, because" in notice
        assert f"{len(queue)} unsent changes were recovered" in notice
        assert desk.identity.token() == "the token"
        with desk.database.read() as conn:
            assert conn.execute("SELECT count(*) FROM cursors WHERE cursor > 0").fetchone() == (0,)
            assert conn.execute("SELECT rebaselining FROM sync_progress").fetchone() != ("no",)


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_bit_anywhere_is_noticed_or_harmless(devices: tuple[Path, Path, Queue], tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    folder = tmp_path / "device"
    shutil.copytree(devices[draw.randrange(2)], folder)
    wal = folder / f"{DATABASE}-wal"
    file = wal if wal.exists() and draw.random() < 0.5 else folder / DATABASE
    data = bytearray(file.read_bytes())
    for _ in range(draw.choice((1, 1, 5))):
        data[draw.randrange(draw.choice((100, 2 * PAGE, len(data))))] ^= 1 << draw.randrange(8)
    file.write_bytes(data)
    with started(folder) as desk:
        assert holds_everything(desk, devices[2])


@pytest.mark.parametrize("part", [0, 0.3, 0.7, 0.99, None], ids=str)
def test_NO_LOST_OP_what_the_wal_alone_had_comes_back_from_the_journal(crashed: tuple[Path, Queue], part: float | None) -> None:
    folder, queue = crashed
    wal = folder / f"{DATABASE}-wal"
    if part is None:
        wal.unlink()
    else:
        os.truncate(wal, int(part * wal.stat().st_size))
    before = incarnation(folder / DATABASE)
    with started(folder) as desk:
        assert holds_everything(desk, queue)
    assert incarnation(folder / DATABASE) != before


def incarnation(file: Path) -> str:
    """Under which the log goes on; read without the -wal, which is left as it is."""
    with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro&immutable=1", uri=True)) as conn:
        return str(conn.execute("SELECT incarnation FROM sync_progress").fetchone()[0])


@pytest.mark.parametrize("damage", [Path.unlink, truncated(0), overwritten(0, b"noise" * 2000)])
def test_the_shm_is_nobodys_memory(crashed: tuple[Path, Queue], damage: Callable[[Path], None]) -> None:
    folder, queue = crashed
    damage(folder / f"{DATABASE}-shm")
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        assert desk.notices() == []


def test_what_the_wal_of_a_damaged_file_holds_can_still_be_read(crashed: tuple[Path, Queue]) -> None:
    folder, queue = crashed
    journal_path(folder / DATABASE).unlink()
    wal = (folder / f"{DATABASE}-wal").read_bytes()
    frame = 24 + PAGE  # sqlite.org/fileformat.html, section 4.1
    in_wal = {int.from_bytes(wal[at : at + 4], "big") for at in range(32, len(wal), frame)}
    data = bytearray((folder / DATABASE).read_bytes())
    at = next(at for at in range(PAGE, len(data), PAGE) if at // PAGE + 1 not in in_wal and data[at] == 13)
    (folder / DATABASE).write_bytes(data[:at] + bytes(PAGE) + data[at + PAGE :])
    with started(folder) as desk:
        assert desk.notices()
        assert desk.queued() == queue


def test_a_header_that_the_wal_holds_too_is_no_damage(crashed: tuple[Path, Queue]) -> None:
    folder, queue = crashed
    overwritten(0, bytes(100))(folder / DATABASE)
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        assert desk.notices() == []


def test_an_unsent_answer_that_was_altered_on_the_disk_is_not_sent_so(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    """SQLite has no checksums: it would not notice."""
    folder = tmp_path / "device"
    shutil.copytree(devices[0], folder)
    data = (folder / DATABASE).read_bytes()
    assert data.count(b'"answer":"answer 17"') > 1
    (folder / DATABASE).write_bytes(data.replace(b'"answer":"answer 17"', b'"answer":"answer 71"'))
    with started(folder) as desk:
        assert holds_everything(desk, devices[2])
        assert "not what it was when it was written" in desk.notices()[0]


def test_a_schema_that_was_altered_on_the_disk_is_noticed(device: tuple[Path, Queue]) -> None:
    folder, queue = device
    with started(folder):
        pass
    data = (folder / DATABASE).read_bytes()
    (folder / DATABASE).write_bytes(data.replace(b"'pending', 'synced', 'rejected'", b"'pendinh', 'synced', 'rejected'"))
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        assert "its schema is not what it was" in desk.notices()[0]


def test_a_large_file_that_was_closed_in_order_is_not_looked_through_before_a_week_is_over(
    devices: tuple[Path, Path, Queue], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, clock, looked = tmp_path / "device", ManualClock(), list[str]()
    shutil.copytree(devices[0], folder)
    note = integrity.Checkup._note

    def noted(self: integrity.Checkup, **changed: object) -> None:
        looked.extend(changed.keys() & {"checked_ms"})
        note(self, **changed)

    monkeypatch.setattr(integrity.Checkup, "_note", noted)
    monkeypatch.setattr(integrity, "SMALL_BYTES", 0)
    expected = []
    for days in (0, 0, 3, 3, 3, 0):
        clock.advance(days * 24 * 3600 * 1000)
        with started(folder, clock) as desk:
            answer(desk, 1)
        expected.append(len(looked))
    assert expected == [1, 1, 1, 1, 2, 2]
    monkeypatch.setattr(integrity, "SMALL_BYTES", 10**9)
    with started(folder, clock):
        assert len(looked) == 3


def test_rows_stay_in_sight_until_the_school_has_sent_its_own(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    """A device at home, without a network: its student goes on with the course that can still be read."""
    folder = tmp_path / "device"
    shutil.copytree(devices[0], folder)
    blank_one_leaf(folder / DATABASE)
    with started(folder) as desk, desk.database.read() as conn:
        assert conn.execute("SELECT count(*) FROM users").fetchone()[0] >= 3
        assert conn.execute("SELECT count(*) FROM questions").fetchone()[0] >= 5
        assert conn.execute("SELECT 1 FROM cursors WHERE scope = ?", (f"student:{BEN}",)).fetchone()
        assert conn.execute("SELECT rebaselining FROM sync_progress").fetchone() == ("all_rows",)
        assert {row[0] for row in conn.execute("SELECT feed_no FROM questions")} == {0}


def test_without_its_journal_a_damaged_database_still_gives_what_can_be_read_of_it(
    devices: tuple[Path, Path, Queue], tmp_path: Path
) -> None:
    folder = tmp_path / "device"
    shutil.copytree(devices[0], folder)
    journal_path(folder / DATABASE).unlink()
    blank_one_leaf(folder / DATABASE)
    with started(folder) as desk:
        queued = desk.queued()
        assert queued.items() <= devices[2].items()
        assert len(queued) > len(devices[2]) / 2
        seqs = "SELECT min(op_no), max(op_no), count(*) FROM sync_operations WHERE state = 'pending'"
        with desk.database.read() as conn:
            first, last, count = conn.execute(seqs).fetchone()
        assert last - first + 1 == count, "an incarnation has no gaps"


def test_without_the_copy_of_its_identity_it_is_read_from_the_damaged_file(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    folder = tmp_path / "device"
    shutil.copytree(devices[0], folder)
    (folder / IDENTITY_COPY).unlink()
    overwritten(0.6, random.Random(1).randbytes(4 * PAGE))(folder / DATABASE)
    with started(folder) as desk:
        assert holds_everything(desk, devices[2])


def test_a_device_that_does_not_know_whose_it_is_keeps_what_is_unsent_for_its_own_school_only(
    devices: tuple[Path, Path, Queue], tmp_path: Path
) -> None:
    stopped, _, queue = devices
    folder, path = tmp_path / "device", tmp_path / "device" / DATABASE
    shutil.copytree(stopped, folder)
    copy = (folder / IDENTITY_COPY).read_bytes()
    (folder / IDENTITY_COPY).unlink()
    path.unlink()
    with started(folder) as desk:
        assert (desk.queued(), desk.identity.current()) == ({}, None)
    other = copy.replace(b'"school_id": "', b'"school_id": "') and copy.decode().replace(_school_of(copy), derived_id("another school"))
    (folder / IDENTITY_COPY).write_text(other)
    with started(folder) as desk:
        assert desk.queued() == {}
    path.unlink()
    (folder / IDENTITY_COPY).write_bytes(copy)
    for _ in range(2):
        with started(folder) as desk:
            assert desk.queued() == queue
    assert list(folder.glob("*.of-*")) == []


def _school_of(copy: bytes) -> str:
    return copy.decode().partition('"school_id": "')[2][:32]


class PowerCut(BaseException):
    """The machine is off."""


def test_a_recovery_that_is_broken_off_at_any_step_is_finished_by_the_next_start(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    for step in range(1, 60):
        folder = tmp_path / str(step)
        shutil.copytree(devices[0], folder)
        overwritten(0.5, bytes(PAGE))(folder / DATABASE)
        finished = _recovered_until(folder, step)
        with started(folder) as desk:
            assert holds_everything(desk, devices[2]), step
        assert len(damaged_files(folder / DATABASE)) == 1
        if finished:
            assert step > 6, "there are that many steps at least"
            return
        shutil.rmtree(folder)
    pytest.fail("it has more steps than were tried")


def _recovered_until(folder: Path, step: int) -> bool:
    """Recovers the device, and cuts the power at this opening, renaming or removal of a file. False when it came to that."""
    path, left = folder / DATABASE, step

    def cut(event: str, args: tuple[object, ...]) -> None:
        nonlocal left
        if event in ("os.rename", "os.remove", "sqlite3.connect") and str(folder) in str(args[0]):
            left -= 1
            if left == 0:
                raise PowerCut

    recovery = Recovery(path, folder, ManualClock(), IdSource(ManualClock().now_ms))
    try:
        with _Audit.by(cut):
            recovery.set_aside_if_damaged()
        upgrade_device(path)
        with _Audit.by(cut):
            recovery.restore()
    except PowerCut:
        return False
    return True


class _Audit:
    """Looks on at what the interpreter does with files; its hooks cannot be taken away again, so there is one."""

    hook: Callable[[str, tuple[object, ...]], None] | None = None

    @classmethod
    @contextmanager
    def by(cls, hook: Callable[[str, tuple[object, ...]], None]) -> Iterator[None]:
        cls.hook = hook
        try:
            yield
        finally:
            cls.hook = None

    @classmethod
    def tell(cls, event: str, args: tuple[object, ...]) -> None:
        if cls.hook is not None:
            cls.hook(event, args)


sys.addaudithook(_Audit.tell)


def test_a_database_that_is_damaged_again_and_again_leaves_a_bounded_number_of_files(device: tuple[Path, Queue]) -> None:
    folder, queue = device
    for _ in range(KEPT_DAMAGED + 2):
        overwritten(0.5, bytes(PAGE))(folder / DATABASE)
        with started(folder) as desk:
            assert holds_everything(desk, queue)
    assert len(damaged_files(folder / DATABASE)) == KEPT_DAMAGED
    assert len(list(folder.iterdir())) < 20


def test_damage_that_shows_while_the_daemon_runs_ends_its_work_at_once(device: tuple[Path, Queue]) -> None:
    folder, queue = device
    with started(folder) as desk:
        with desk.database.read() as conn:
            (root,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'question_attempts'").fetchone()
        _overwrite_page(folder / DATABASE, root)
        with pytest.raises(Unavailable), desk.database.read() as conn:
            conn.execute("SELECT * FROM question_attempts").fetchall()
        assert desk.database.failure is not None
        with pytest.raises(Unavailable):
            answer(desk, 1)
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        assert desk.notices()


def _overwrite_page(file: Path, number: int) -> None:
    """By another process: a descriptor closed here would take SQLite's locks with it."""
    code = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(int(sys.argv[2])); f.write(bytes(4096))"
    subprocess.run([sys.executable, "-c", code, str(file), str((number - 1) * PAGE)], check=True, timeout=30)


def test_a_file_that_another_program_holds_is_not_taken_for_damaged(device: tuple[Path, Queue], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, queue = device
    monkeypatch.setattr(integrity, "BUSY_TIMEOUT_S", 0.05)
    with closing(sqlite3.connect(folder / DATABASE, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(Unavailable), started(folder):
            pass
        other.execute("ROLLBACK")
    with started(folder) as desk:
        assert holds_everything(desk, queue)


def test_a_file_of_another_account_is_left_to_a_person(device: tuple[Path, Queue], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, queue = device

    def refuse(path: object, mode: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "chmod", refuse)
    before = (folder / DATABASE).read_bytes()
    with pytest.raises(OperatorError, match="must belong to the account"), started(folder):
        pass
    assert (folder / DATABASE).read_bytes() == before
    monkeypatch.undo()
    with started(folder) as desk:
        assert holds_everything(desk, queue)
        assert desk.notices() == []


def test_the_notice_ends_when_everything_is_back(device: tuple[Path, Queue]) -> None:
    folder, _ = device
    (folder / DATABASE).unlink()
    with started(folder) as desk:
        assert desk.notices()
        desk.database.write(lambda conn: conn.execute("UPDATE sync_progress SET rebaselining = 'no'").rowcount)
        assert desk.notices(), "something is unsent"
        desk.database.write(lambda conn: conn.execute("UPDATE sync_operations SET state = 'synced'").rowcount)
        assert desk.notices() == []
    with started(folder) as desk:
        assert desk.notices() == []


def test_what_may_be_lost_for_good_is_said_until_somebody_has_looked(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    folder, clock = tmp_path / "device", ManualClock()
    shutil.copytree(devices[0], folder)
    journal = journal_path(folder / DATABASE)
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:30], b"noise\n", *lines[31:]]))
    overwritten(0, bytes(PAGE))(folder / DATABASE)
    with started(folder, clock) as desk:
        assert len(desk.queued()) == len(devices[2]) - 1
        desk.database.write(lambda conn: conn.execute("UPDATE sync_progress SET rebaselining = 'no'").rowcount)
        desk.database.write(lambda conn: conn.execute("UPDATE sync_operations SET state = 'synced'").rowcount)
    with started(folder, clock) as desk:
        (notice,) = desk.notices()
        assert "1 of them may be lost" in notice
        for file in damaged_files(folder / DATABASE):
            file.unlink()
        assert desk.notices() == []


def test_an_app_may_not_see_another_students_row_because_of_a_recovery(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    folder = tmp_path / "device"
    shutil.copytree(devices[0], folder)
    overwritten(0.5, bytes(PAGE))(folder / DATABASE)
    with started(folder) as desk, desk.database.read() as conn:
        assert conn.execute("SELECT count(*) FROM student_sessions").fetchone() == (0,), "sessions are not believed"
        assert conn.execute("SELECT count(*) FROM question_attempts WHERE student_id = ?", (ADA,)).fetchone() == (0,)


def test_a_file_that_is_in_use_is_looked_through_once_a_week(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    folder, clock, looked, days = tmp_path / "device", ManualClock(), list[bool](), list[int]()
    shutil.copytree(devices[0], folder)
    with started(folder, clock) as desk:

        def look() -> None:
            desk.database.look_through()
            looked.append(True)

        checkup = integrity.Checkup(folder / DATABASE, folder, clock)
        for day in range(16):
            before = len(looked)
            checkup.repeat_if_due(look)
            days.extend([day] * (len(looked) - before))
            clock.advance(24 * 3600 * 1000)
    assert days == [7, 14]


def test_looking_through_a_damaged_file_ends_the_daemons_work(devices: tuple[Path, Path, Queue], tmp_path: Path) -> None:
    folder = tmp_path / "device"
    shutil.copytree(devices[0], folder)
    with started(folder) as desk:
        with desk.database.read() as conn:
            (root,) = conn.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'idx_attempts_student_timestamp'").fetchone()
        _overwrite_page(folder / DATABASE, root)
        with pytest.raises(Unavailable):
            desk.database.look_through()
        assert desk.database.failure is not None
