"""A device whose file was damaged, lost, copied or restored, and its school: everything arrives once, and both agree in the end."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from cloud_api.devices.enrolment import Grant
from daemon.gateway import HttpGateway
from daemon.identity.instance import IDENTITY_COPY
from daemon.sync.round import RoundResult, SyncRound
from domain.clock import SystemClock
from domain.ids import Id
from domain.registry import TABLES, Kind
from tests.support.desk import DATABASE, Desk, crashed_copy, started
from tests.support.fleet import Fleet, as_sqlite

PAGE = 4096


@pytest.fixture
def folder(fleet: Fleet, ada: Id) -> Path:
    """The folder of Ada's laptop, with the course, and with answers that are at school."""
    device = fleet.device(Grant("student", ada))
    device.sync()
    device.database.close()
    with started(device.folder) as desk:
        desk.records.record_attempts(ada, fleet.attempts(5))
        assert sync(desk).outcome == "done"
    return device.folder


def sync(desk: Desk) -> RoundResult:
    """A round, and one more for what the first has begun anew."""
    with closing(HttpGateway(str(_url(desk)))) as gateway:
        rounds = SyncRound(desk.database, desk.identity, SystemClock(), lambda url: gateway)
        rounds.run(forced=True)
        return rounds.run(forced=True)


def _url(desk: Desk) -> str:
    identity = desk.identity.current()
    assert identity is not None
    return identity.cloud_url


def agrees(fleet: Fleet, desk: Desk, table: str = "question_attempts") -> bool:
    columns = TABLES[table].columns
    with desk.database.read() as conn:
        rows = conn.execute(f"SELECT {', '.join(c.name for c in columns)} FROM {table} ORDER BY id").fetchall()
    is_json = [column.kind is Kind.JSON for column in columns]
    here = [tuple(json.loads(v) if j and v is not None else v for v, j in zip(row, is_json, strict=True)) for row in rows]
    return here == as_sqlite(fleet.server_rows(table))


def incarnation(desk: Desk) -> str:
    with desk.database.read() as conn:
        return str(conn.execute("SELECT incarnation FROM sync_progress").fetchone()[0])


def lose(file: Path) -> None:
    file.unlink()


def halve(file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: len(data) // 2])


def blank(file: Path) -> None:
    """Zeros over the page of the first table that has rows: the pages after the schema are the tables in their order."""
    data = file.read_bytes()
    at = next(at for at in range(PAGE, len(data), PAGE) if data[at] == 13 and b"student" in data[at : at + PAGE])
    file.write_bytes(data[:at] + bytes(PAGE) + data[at + PAGE :])


@pytest.mark.parametrize("damage", [lose, halve, blank])
def test_NO_LOST_OP_what_a_damaged_file_had_not_sent_arrives_once_and_the_rest_comes_back(
    fleet: Fleet, ada: Id, folder: Path, damage: Callable[[Path], None]
) -> None:
    with started(folder) as desk:
        unsent = desk.records.record_attempts(ada, fleet.attempts(20))
        desk.records.update_profile(ada, {"grade": "8"})
    damage(folder / DATABASE)
    with started(folder) as desk:
        assert desk.notices()
        assert sync(desk).outcome == "done"
        at_school = {row[0] for row in fleet.server_rows("question_attempts")}
        assert {attempt.id for attempt in unsent} <= at_school
        assert len(at_school) == 25
        for table in ("question_attempts", "student_profiles", "questions", "users"):
            assert agrees(fleet, desk, table), table
        assert desk.notices() == []
        assert fleet.server("SELECT count(*) FROM dead_letters") == fleet.server("SELECT count(*) FROM sync_conflicts") == [(0,)]


def test_NO_LOST_OP_answers_that_only_the_lost_wal_held_arrive_once(fleet: Fleet, ada: Id, folder: Path, tmp_path: Path) -> None:
    with started(folder) as desk:
        desk.records.record_attempts(ada, fleet.attempts(4))
        sync(desk)
        desk.records.record_attempts(ada, fleet.attempts(6))
        crashed = crashed_copy(folder, tmp_path / "crashed")
    (crashed / f"{DATABASE}-wal").unlink()
    with started(crashed) as desk:
        assert sync(desk).outcome == "done"
        assert len(fleet.server_rows("question_attempts")) == 15
        assert agrees(fleet, desk)


def test_CONVERGENCE_rows_that_only_the_damaged_file_had_go_when_the_school_does_not_name_them(
    fleet: Fleet, ada: str, folder: Path
) -> None:
    """A page that was altered shows rows that never were."""
    with started(folder) as desk:
        desk.database.write(
            lambda conn: (
                conn.execute("UPDATE question_attempts SET id = ? WHERE id = (SELECT min(id) FROM question_attempts)", ("e" * 32,)).rowcount
            )
        )
    blank(folder / DATABASE)
    with started(folder) as desk:
        sync(desk)
        assert agrees(fleet, desk)


def test_a_device_that_only_starts_again_keeps_its_incarnation(folder: Path) -> None:
    seen = set()
    for _ in range(3):
        with started(folder) as desk:
            assert desk.was_own
            seen.add(incarnation(desk))
    assert len(seen) == 1


def test_a_database_restored_from_before_the_last_start_is_recognised_before_the_first_contact(
    fleet: Fleet, ada: Id, folder: Path, tmp_path: Path
) -> None:
    older = (folder / DATABASE).read_bytes()
    with started(folder) as desk:
        desk.records.record_attempts(ada, fleet.attempts(3))
        sync(desk)
        before = incarnation(desk)
    (folder / DATABASE).write_bytes(older)
    with started(folder) as desk:
        assert not desk.was_own
        assert incarnation(desk) != before
        desk.records.record_attempts(ada, fleet.attempts(2))
        assert sync(desk).outcome == "done"
        assert agrees(fleet, desk)
        assert len(fleet.server_rows("question_attempts")) == 10


def test_NO_LOST_OP_a_restored_database_gets_back_what_was_written_after_the_copy(fleet: Fleet, ada: Id, folder: Path) -> None:
    older = (folder / DATABASE).read_bytes()
    with started(folder) as desk:
        unsent = desk.records.record_attempts(ada, fleet.attempts(7))
    (folder / DATABASE).write_bytes(older)
    with started(folder) as desk:
        assert len(desk.queued()) == 7
        sync(desk)
        assert {attempt.id for attempt in unsent} <= {row[0] for row in fleet.server_rows("question_attempts")}
        assert agrees(fleet, desk)


@pytest.mark.parametrize("with_the_file", [True, False])
def test_EXACTLY_ONCE_both_copies_of_a_folder_go_on_and_agree(
    fleet: Fleet, ada: Id, folder: Path, tmp_path: Path, with_the_file: bool
) -> None:
    with started(folder) as desk:
        desk.records.record_attempts(ada, fleet.attempts(4))  # both copies hold them, unsent
    twin_folder = tmp_path / "twin"
    shutil.copytree(folder, twin_folder)
    if not with_the_file:
        (twin_folder / IDENTITY_COPY).unlink()
    with started(folder) as desk, started(twin_folder) as twin:
        assert (desk.was_own, twin.was_own) == (True, with_the_file)
        assert (incarnation(desk) == incarnation(twin)) is with_the_file
        for each in (desk, twin):
            each.records.record_attempts(ada, fleet.attempts(3))
        for each in (desk, twin, desk, twin):
            assert sync(each).outcome == "done"
        assert len(fleet.server_rows("question_attempts")) == 5 + 4 + 3 + 3
        assert agrees(fleet, desk)
        assert agrees(fleet, twin)
    with started(twin_folder) as twin:
        assert twin.was_own
