"""Bundles, answers and pushes cross each other at random: in the end everything is there once, and everywhere the same."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from cloud_api.devices.enrolment import Grant
from cloud_api.publication import Publication
from domain.errors import BundleRefused
from domain.ids import Id
from domain.registry import TABLES, tables_in
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite
from tests.support.stick import at_school, copy_of, device_with_keys, restore_server, taken_at_school, taken_by, written_by

STEPS = 45
# By stick alone a device needs a bundle that says where it is, the answer, and perhaps one more of each after its log began anew.
DRAINS_MAX = 4


@dataclass
class Crossing:
    """A school, devices with and without a network, and a drawer full of sticks."""

    fleet: Fleet
    student: Id
    draw: random.Random
    devices: list[SyncedDevice]
    online: set[str]
    up: list[bytes] = field(default_factory=list)
    down: list[tuple[SyncedDevice, bytes]] = field(default_factory=list)
    recorded: dict[str, bool] = field(default_factory=dict)
    refused: int = 0

    def step(self) -> None:
        device = self.draw.choice(self.devices)
        actions: list[Callable[[SyncedDevice], None]] = [
            *[self.record] * 3, self.change, *[self.export] * 3, *[self.bring_up] * 3, *[self.bring_down] * 4,
            *[self.sync] * 2, self.push_and_lose_the_answer, self.feed, self.edit_course, self.copy_file, self.restore_server,
        ]  # fmt: skip
        self.draw.choice(actions)(device)

    def is_there(self, device: SyncedDevice) -> bool:
        """Whether the student can be signed in on the device: a copied folder may have begun anew."""
        return bool(device.value("SELECT count(*) FROM users WHERE id = ?", self.student))

    def record(self, device: SyncedDevice) -> None:
        if not (self.is_there(device) and device.value("SELECT count(*) FROM questions")):
            return
        new = self.fleet.attempts(self.draw.randint(1, 4))
        for row, attempt in zip(device.records.record_attempts(self.student, new), new, strict=True):
            self.recorded[row.id] = attempt.correct

    def change(self, device: SyncedDevice) -> None:
        if self.is_there(device):
            device.records.update_profile(self.student, {self.draw.choice(["grade", "exam_on"]): f"2027-05-0{self.draw.randint(1, 9)}"})

    def export(self, device: SyncedDevice) -> None:
        self.up.append(written_by(device))

    def bring_up(self, _device: SyncedDevice) -> None:
        if self.up:
            data = self.draw.choice(self.up)
            imported = taken_at_school(self.fleet, data, with_feed=self.draw.random() < 0.7)
            for device in (d for d in self.devices if d.id == imported.device_id):
                self.down.append((device, imported.answer.data))

    def bring_down(self, _device: SyncedDevice) -> None:
        if self.down:
            device, data = self.draw.choice(self.down)
            before = device.rows("SELECT scope, cursor FROM cursors ORDER BY scope")
            try:
                anew = taken_by(device, data).anew
            except BundleRefused as refusal:
                assert refusal.code == "bundle_stale"
                self.refused += 1
                anew = False
            after = dict(device.rows("SELECT scope, cursor FROM cursors"))
            assert anew or all(after[scope] >= cursor for scope, cursor in before), "a cursor moved back"

    def sync(self, device: SyncedDevice) -> None:
        if device.folder.name in self.online:
            assert device.sync().outcome == "done"

    def push_and_lose_the_answer(self, device: SyncedDevice) -> None:
        if device.folder.name in self.online:
            device.gateway.lose_answers = 1
            device.sync()
            device.gateway.lose_answers = 0

    def feed(self, device: SyncedDevice) -> None:
        self.down.append((device, at_school(self.fleet).give(device.id, anew=self.draw.random() < 0.5).data))

    def edit_course(self, _device: SyncedDevice) -> None:
        publication = Publication(self.fleet.school.id)
        names = TABLES["questions"].column_names
        row = dict(zip(names, self.draw.choice(self.fleet.server_rows("questions")), strict=True))
        publication.put("questions", {**row, "stem": f"{self.draw.random()}"})
        with self.fleet.school.database.transaction() as cursor:
            publication.write(cursor, self.fleet.school.clock.now_ms())

    def copy_file(self, device: SyncedDevice) -> None:
        if len(self.devices) < 4:
            twin = copy_of(self.fleet, device)
            self.devices.append(twin)
            if device.folder.name in self.online:
                self.online.add(twin.folder.name)

    def restore_server(self, _device: SyncedDevice) -> None:
        if self.draw.random() < 0.3:
            restore_server(self.fleet)

    def drain(self) -> None:
        """Whoever has a network syncs; the others exchange sticks with the school until nothing is left."""
        for _ in range(DRAINS_MAX):
            for device in self.devices:
                if device.folder.name in self.online:
                    assert device.sync().outcome == "done"
                else:
                    taken_by(device, taken_at_school(self.fleet, written_by(device)).answer.data)

    def check(self) -> None:
        stored = dict(self.fleet.server("SELECT id, correct FROM question_attempts"))
        assert stored == self.recorded, "EXACTLY_ONCE, NO_LOST_OP"
        for device in self.devices:
            assert device.rounds.status().pending == 0, "NO_WEDGE"
            for kind in {table.scope for table in TABLES.values()}:
                for table in tables_in(kind):
                    if table.name != "sync_conflicts":
                        assert device.synced_rows(table.name) == _plain(self.fleet, table.name, device), f"CONVERGENCE of {table.name}"


def _plain(fleet: Fleet, table: str, device: SyncedDevice) -> list[tuple[object, ...]]:
    """The server's rows, with JSON as the device has it when it says the same."""

    def same(here: object, there: object) -> object:
        return here if isinstance(here, str) and not isinstance(there, str | None) and json.loads(here) == there else there

    rows, held = as_sqlite(fleet.server_rows(table)), device.synced_rows(table)
    if len(rows) != len(held):
        return rows
    return [tuple(map(same, here, there)) for here, there in zip(held, rows, strict=True)]


@pytest.mark.parametrize("seed", range(6))
def test_CONVERGENCE_and_EXACTLY_ONCE_whatever_crosses_what(fleet: Fleet, ada: Id, seed: int) -> None:
    laptop, tablet = (device_with_keys(fleet, Grant("student", ada)) for _ in range(2))
    laptop.sync()
    crossing = Crossing(fleet, ada, random.Random(seed), [laptop, tablet], {laptop.folder.name})
    for _ in range(STEPS):
        crossing.step()
    crossing.drain()
    crossing.check()
    assert crossing.recorded
