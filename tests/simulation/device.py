"""A device of a simulation: the product's own outbox, inbox, sync and SQLite file; only clock, network and the moment of death are replaced."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from daemon import outbox
from daemon.database import DeviceDatabase
from daemon.identity import Identity
from daemon.models import MODELS
from daemon.records import LocalRecords
from daemon.sync.round import RoundResult, SyncRound
from domain.clock import HybridClock
from domain.ids import Id, IdSource
from tests.simulation.gateway import Network, SimulatedGateway

T = TypeVar("T")


class DeviceCrash(BaseException):
    """The device loses power."""


class WorldClock:
    """Time of the world. It moves only when it is told to."""

    def __init__(self, now_ms: int) -> None:
        self.time_ms = now_ms

    def now_ms(self) -> int:
        return self.time_ms

    def monotonic_ms(self) -> int:
        return self.time_ms


class DeviceClock:
    """A device's clock: the world's, off by so much, and a little later at every look."""

    def __init__(self, world: WorldClock) -> None:
        self._world = world
        self.offset_ms = 0

    def now_ms(self) -> int:
        return self._world.time_ms + self.offset_ms

    def monotonic_ms(self) -> int:
        return self._world.time_ms


class MortalDatabase(DeviceDatabase):
    """Dies before or after its n-th commit from now."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.commits_left: float = float("inf")
        self.dies_before_commit = True

    def write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        self.commits_left -= 1
        if self.commits_left == 0 and self.dies_before_commit:
            raise DeviceCrash
        result = super().write(work)
        if self.commits_left == 0:
            raise DeviceCrash
        return result


@dataclass
class SimulatedDevice:
    """One file with a running daemon's parts around it. `name` is stable within a seed."""

    name: str
    folder: Path
    clock: DeviceClock
    network: Network
    randomness: random.Random
    older: Path | None = None  # a copy made earlier, to which the file may be put back

    def __post_init__(self) -> None:
        self.start()

    @property
    def path(self) -> Path:
        return self.folder / "device.sqlite3"

    def start(self) -> None:
        """What a daemon does when it starts."""
        ids = IdSource(self.clock.now_ms, self.randomness.getrandbits)
        self.database = MortalDatabase(self.path)
        self.database.open(MODELS)
        self.identity = Identity(self.database, self.folder, self.clock, ids)
        self.requests_left: float = float("inf")
        gateway = SimulatedGateway(self.network, self._spend_request)
        self.rounds = SyncRound(self.database, self.identity, self.clock, lambda url: gateway, self.randomness.random)
        with self.database.read() as conn:
            hlc = HybridClock(self.clock, outbox.last_hlc(conn))
        self.records = LocalRecords(self.database, self.clock, ids, hlc, self.identity.device_id)

    def stop(self) -> None:
        self.database.close()

    def restart(self) -> None:
        """Power is back: a new process on the same file."""
        self.stop()
        self.start()

    def round(self) -> RoundResult | None:
        """A forced round; None when the device died in it."""
        try:
            return self.rounds.run(forced=True)
        except DeviceCrash:
            self.restart()
            return None

    def dies_soon(self) -> None:
        """Somewhere in its next steps."""
        if self.randomness.random() < 0.5:
            self.database.commits_left = self.randomness.randint(1, 4)
            self.database.dies_before_commit = self.randomness.random() < 0.5
        else:
            self.requests_left = self.randomness.randint(1, 4)

    def copy_to(self, folder: Path) -> None:
        """Copies the device as an image or a backup does: a consistent file, and the token beside it."""
        folder.mkdir()
        with closing(sqlite3.connect(folder / "device.sqlite3")) as copy, self.database.read() as conn:
            conn.backup(copy)
        shutil.copy(self.folder / "device.token", folder)

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.database.read() as conn:
            return conn.execute(sql, parameters).fetchall()

    def device_id(self) -> Id:
        return self.identity.device_id()

    def _spend_request(self) -> None:
        self.requests_left -= 1
        if self.requests_left == 0:
            raise DeviceCrash
