"""A device of a simulation: the product's own outbox, inbox, sync and SQLite file; only clocks, network, disk and the moment of death are replaced."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from daemon.identity import instance
from daemon.identity.device import TOKEN_FILE, Identity
from daemon.identity.keys import KEYS_FILE
from daemon.queue import outbox
from daemon.queue.outbox import NewOperation, Outbox
from daemon.records import LocalRecords
from daemon.sync.round import SyncRound
from daemon.sync.verify import Verified, Verifier
from daemon.sync.verify_round import VerifyRound
from domain.clock import HybridClock
from domain.errors import CarrelError, StorageFull
from domain.ids import Id, IdSource
from domain.registry import SCHEMA_VERSION
from tests.simulation.clocks import DeviceClock
from tests.simulation.network import Network, SimulatedGateway
from tests.simulation.storage import FOREVER, DeviceCrash, MortalDatabase, Mortality

# Moments (statements, commits, requests) within which a device that is to die does so; a long round has about as many.
MOMENTS_MAX = 60
# The field that devices of a later version write, and its value.
LATER_FIELD = ("mood", 3)


@dataclass
class SimulatedDevice:
    """One file with a running daemon's parts around it. `name` is stable within a seed; `page_rows` is what it asks for in a pull.

    `later` devices run a later version: their operations have a field that nobody else knows, and a schema number to match.
    """

    name: str
    folder: Path
    clock: DeviceClock
    network: Network
    random_bits: Callable[[int], int]
    jitter: Callable[[], float]
    page_rows: int
    new_boot: Callable[[], None]
    later: bool = False
    older: Path | None = None  # a copy made earlier, to which the file may be put back
    mortality: Mortality = field(default_factory=Mortality)

    def __post_init__(self) -> None:
        self.start()

    @property
    def path(self) -> Path:
        return self.folder / "device.sqlite3"

    def start(self) -> None:
        """What a daemon does when it starts."""
        ids = IdSource(self.clock.now_ms, self.random_bits)
        self.database = MortalDatabase(self.path, self.mortality)
        self.database.open()
        self.identity = Identity(self.database, self.folder, self.clock, ids)
        self.identity.finish_adoption()
        instance.confirm(self.database, self.folder, lambda conn: self.identity.start_incarnation(conn, resend_all=False))
        gateway = SimulatedGateway(self.network, self.name, self.mortality.spend)
        self.rounds = SyncRound(self.database, self.identity, self.clock, lambda url: gateway, self.jitter)
        self.rounds._puller._page_rows = self.page_rows
        with self.database.read() as conn:
            hlc = HybridClock(self.clock, outbox.last_hlc(conn))
        self.records = LocalRecords(self.database, self.clock, ids, hlc, self.identity.device_id)
        if self.later:
            self.records._outbox = LaterOutbox(self.clock)
            self.network.met["device of a later version"] += 1

    def restart(self) -> None:
        """Power is back: a new boot, and a new process on the same file."""
        self.network.met["device died"] += 1
        self.database.close()
        self.mortality.moments_left = FOREVER
        self.clock.reboot()
        self.new_boot()
        self.start()

    @property
    def in_round(self) -> bool:
        """Whether a round is under way, which others would wait for."""
        return self.rounds._running.locked()

    def round(self, *, forced: bool = True) -> str:
        """The outcome of a round: what the product says of it, `died`, or the code of an error on this device."""
        try:
            result = self.rounds.run(forced=forced)
        except DeviceCrash:
            self.restart()
            return "died"
        except CarrelError as error:
            self.network.met["disk full"] += error.code == StorageFull.code
            return error.code
        return "quiet" if result.outcome == "done" and not result.pushed and not result.pulled else result.outcome

    def verify(self, *, content: bool) -> Verified | str:
        """The product's comparison with the school, after a round; `died` when the device did."""
        verifier = Verifier(self.database, self.identity, self.clock)
        try:
            return VerifyRound(self.rounds, verifier, self.database, self.clock).run(content=content)
        except DeviceCrash:
            self.restart()
            return "died"
        except CarrelError as error:
            return error.code

    def copy_to(self, folder: Path, *, whole: bool) -> None:
        """Copies the device: a consistent file, and the token beside it; the `whole` folder as an image of the disk has it, or not, as a backup."""
        folder.mkdir()
        with closing(sqlite3.connect(folder / "device.sqlite3")) as copy, self.database.read() as conn:
            conn.backup(copy)
        for name in (TOKEN_FILE, KEYS_FILE, *([instance.IDENTITY_COPY] if whole else [])):
            shutil.copy(self.folder / name, folder)

    def go_back_to(self, copy: Path) -> None:
        """The file is that of a copy made earlier."""
        self.database.close()
        self.mortality.moments_left = FOREVER
        for leftover in self.folder.glob("device.sqlite3*"):
            leftover.unlink()
        for file in copy.iterdir():
            shutil.copy(file, self.folder)
        self.start()

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with self.database.read() as conn:
            return conn.execute(sql, parameters).fetchall()

    def device_id(self) -> Id:
        return self.identity.device_id()


class LaterOutbox(Outbox):
    """The outbox of a later version, whose schema has one more column in every table."""

    def append(self, conn: sqlite3.Connection, operations: Sequence[NewOperation]) -> None:
        name, value = LATER_FIELD
        before = conn.execute("SELECT coalesce(max(op_no), 0) FROM sync_operations").fetchone()[0]
        super().append(conn, [replace(op, payload={**op.payload, name: value}) for op in operations])
        conn.execute("UPDATE sync_operations SET schema_version = ? WHERE op_no > ?", (SCHEMA_VERSION + 1, before))
