"""An enrolment that is broken off anywhere ends with a device that knows who it is and has the token that goes with it."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cloud_api.devices.enrolment import Grant
from cloud_api.tokens import token_hash
from daemon import durable_file
from daemon.database import DeviceDatabase
from daemon.identity import device
from daemon.identity.adoption import FILE_NAME
from daemon.identity.device import Identity
from daemon.models import MODELS
from domain.ids import Id
from domain.wire import EnrolAnswer, Limits
from migrations.runner import upgrade_device
from tests.support.fleet import Fleet, SyncedDevice

STEPS_MAX = 200


class Killed(BaseException):
    """The process is gone."""


class Countdown:
    """Kills at the n-th thing that is done to the disk."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __call__(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def before(self, do: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            self()
            return do(*args, **options)

        return counted


class DyingConnection:
    """A connection that dies before a statement."""

    def __init__(self, conn: sqlite3.Connection, count: Countdown) -> None:
        self._conn, self._count = conn, count

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._conn, name)
        return self._count.before(found) if name in ("execute", "executemany") else found


class DyingDatabase(DeviceDatabase):
    """Dies before a statement, before the commit, or just after it."""

    def __init__(self, path: Path, count: Countdown) -> None:
        super().__init__(path)
        self.count = count

    def write(self, work: Callable[[Any], Any], **options: Any) -> Any:
        def counted(conn: sqlite3.Connection) -> Any:
            result = work(DyingConnection(conn, self.count))
            self.count()
            return result

        result = super().write(counted, **options)
        self.count()
        return result


def answer(fleet: Fleet, student: Id) -> EnrolAnswer:
    enrolled = fleet.school.enrol(Grant("student", student))
    return EnrolAnswer(enrolled.id, enrolled.school_id, enrolled.school_name, enrolled.token, fleet.epoch(), Limits())


def adopt_until_killed(fleet: Fleet, folder: Path, given: EnrolAnswer, steps: int) -> bool:
    """Whether the adoption came to its end within so many steps."""
    count = Countdown(steps)
    database = DyingDatabase(folder / "device.sqlite3", count)
    database.open(MODELS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(durable_file, "replace_durably", count.before(durable_file.replace_durably))
        patch.setattr("daemon.identity.adoption.replace_durably", count.before(durable_file.replace_durably))
        patch.setattr(device, "replace_durably", count.before(durable_file.replace_durably))
        patch.setattr(Path, "replace", count.before(Path.replace))
        patch.setattr(Path, "rename", count.before(Path.rename))
        patch.setattr(Path, "unlink", count.before(Path.unlink))
        try:
            Identity(database, folder, fleet.school.clock, fleet.school.ids).adopt(given, fleet.url)
        except Killed:
            return False
        finally:
            count.left = STEPS_MAX
            database.close()
    return True


def after_the_next_start(fleet: Fleet, folder: Path) -> str | None:
    """Which device this is once the next start has finished what was begun."""
    database = DeviceDatabase(folder / "device.sqlite3")
    database.open(MODELS)
    try:
        again = Identity(database, folder, fleet.school.clock, fleet.school.ids)
        again.finish_adoption()
        now = again.current()
        return now.device_id if now else None
    finally:
        database.close()


def token_fits(fleet: Fleet, folder: Path, device_id: str) -> bool:
    """Whether the server knows the token in the folder as that device's."""
    ((stored,),) = fleet.server("SELECT token_hash FROM devices WHERE id = %s", device_id)
    return bytes(stored) == token_hash((folder / device.TOKEN_FILE).read_text())


@pytest.mark.parametrize("enrolled_before", [False, True])
def test_killed_before_every_step_the_next_start_is_one_device_or_the_other_with_its_own_token(
    fleet: Fleet, ada: Id, tmp_path: Path, enrolled_before: bool
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    upgrade_device(whole / "device.sqlite3")
    if enrolled_before:
        first = fleet.open(whole, answer(fleet, ada))
        first.sync()
        first.records.record_attempts(ada, fleet.attempts(1))
        first.database.close()
    outcomes = set()
    for steps in range(STEPS_MAX):
        folder, given = tmp_path / f"killed-{steps}", answer(fleet, ada)
        shutil.copytree(whole, folder)
        ended = adopt_until_killed(fleet, folder, given, steps)
        came_down = (folder / FILE_NAME).exists() or ended
        now = after_the_next_start(fleet, folder)
        assert not (folder / FILE_NAME).exists()
        assert (now == given.device_id) == came_down
        assert now is None or token_fits(fleet, folder, now), f"killed after {steps} steps"
        outcomes.add(now == given.device_id if now else None)
        if ended:
            break
    else:
        pytest.fail("the adoption never ended")
    assert steps > 10
    device = fleet.open(folder)
    assert device.sync().outcome == "done"
    assert device.rounds.status().pending == 0
    assert outcomes == {False if enrolled_before else None, True}


def test_the_file_holds_the_token_for_nobody_else_and_not_for_long(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    seen = []
    write = durable_file.replace_durably

    def look(path: Path, data: bytes) -> None:
        seen.append((path.parent / FILE_NAME).stat().st_mode & 0o077)
        write(path, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "replace_durably", look)
        laptop.identity.adopt(answer(fleet, ada), fleet.url)
    assert seen == [0]
    assert not (laptop.folder / FILE_NAME).exists()
