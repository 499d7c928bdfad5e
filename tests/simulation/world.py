"""A world made from one seed: a school, its server, devices, students who work, and everything that goes wrong.

`World.run` takes the steps of its plan with faults on, checking after each what must hold at every moment; then faults stop, everything drains,
and what must hold in the end is checked (docs/protocol.md; the names of the invariants stand in the messages). Same seed, same trace.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from cloud_api.devices.enrolment import Grant
from domain.ids import Id, IdSource
from domain.wire import EnrolAnswer, Limits
from tests.simulation.checks import Violated, check_always, check_status
from tests.simulation.clocks import DeviceClock, WorldClock
from tests.simulation.cloud import STATEMENTS_MAX, RestorableCloud, ServerCrash
from tests.simulation.device import SimulatedDevice
from tests.simulation.ground import Ground
from tests.simulation.happenings import HAPPENINGS, SERVER_RESTORE, Happening
from tests.simulation.inline import inline
from tests.simulation.interleaving import Interleaving
from tests.simulation.ledger import Ledger
from tests.simulation.network import URL, Network
from tests.simulation.plan import Plan, Step, plan_of
from tests.simulation.school import School
from tests.simulation.served import ServedApp
from tests.simulation.settling import settle
from tests.simulation.stick import KEYS, Stick, school_keys
from tests.simulation.views import DeviceView, ServerView

START_MS = 1_795_000_000_000
PAUSES_MS = (1, 50, 2_000, 60_000, 86_400_000)
# How often the next step is one of another device: what goes wrong takes several steps of the same.
MOVE_ON_SHARE = 0.4


class World:
    """See the module. `universe` keeps apart two runs of one seed in one database; `met` counts what went wrong."""

    def __init__(self, plan: Plan | int, ground: Ground, folder: Path, universe: str = "") -> None:
        self.plan = plan if isinstance(plan, Plan) else plan_of(plan)
        self.ground, self.folder, self.universe = ground, folder, universe
        self.randomness = random.Random(self.plan.seed)
        self.clock = WorldClock(START_MS)
        self._mark = int.from_bytes(hashlib.blake2b(universe.encode(), digest_size=7).digest(), "big")
        self.ids = IdSource(self.clock.now_ms, self.random_bits)
        self.ledger = Ledger()
        self.stick = Stick()
        self.met: Counter[str] = Counter()
        self.interleaving = Interleaving(self)
        self.devices: list[SimulatedDevice] = []
        self.revoked: set[Id] = set()
        self.trace: list[str] = []
        self._views: dict[str, DeviceView] = {}
        self._changed: dict[str, DeviceView] = {}
        self._at = self._boots = 0
        self._folders = 0

    def run(self, without: Collection[int] = ()) -> str:
        """Takes all steps but those numbered `without`; a hash of what happened. Raises Violated."""
        own = RestorableCloud(self.ground.server, self.ground.cloud_template) if self.plan.restorable else None
        self.database = own or self.ground.shared
        self.school = School(self.database, self.clock, self.ids, f"seed {self.plan.seed} {self.universe}")
        try:
            with inline(self.randomness, self.boot_id):
                self._begin()
                for step in self.plan.steps:
                    if step.number not in without:
                        self._take(step)
                settle(self)
        except Violated as violated:
            violated.trace = self.trace
            raise
        finally:
            for device in self.devices:
                device.database.close()
            if own:
                own.drop()
            else:
                self.school.close()
            self.ground.met.update(self.met)
        return hashlib.blake2b("\n".join(self.trace).encode(), digest_size=8).hexdigest()

    def _begin(self) -> None:
        self.server = ServerView(self.database, self.school.id)
        served = self.ground.app if self.database is self.ground.shared else ServedApp(self.database)
        app = served.lend(self.clock, self.ids, Limits(self.plan.batch_ops_max), self.plan.first_syncs_max)
        between = self.interleaving.meanwhile, self.interleaving.crowd
        self.network = Network(
            app, self.database, self.randomness, self.plan.network_fault_share, *between, self.plan.later_server, met=self.met
        )
        self.enrol(Grant("class", self.school.class_id))

    def random_bits(self, count: int) -> int:
        """For ids. Another universe of the same seed has others, of the same order: a device's id is that of one device on the whole server."""
        bits = self.randomness.getrandbits(count)
        return bits ^ self._mark if count > self._mark.bit_length() else bits

    def draw_anew(self, what: object) -> None:
        """Begins the randomness of a step; the product's own (jitter) included."""
        self.randomness.seed(f"{self.plan.seed}/{what}")
        random.seed(f"{self.plan.seed}/{what}")

    def _take(self, step: Step) -> None:
        self.draw_anew(step.number)
        self.clock.time_ms += self.randomness.choice(PAUSES_MS)
        if self.randomness.random() < MOVE_ON_SHARE:
            self._at = int(self.randomness.random() * self.plan.devices_max)
        device = self.devices[self._at % len(self.devices)]
        happening = HAPPENINGS.get(step.what, SERVER_RESTORE)
        self._happen(happening, device)
        self.note(str(step), device)
        self.check()

    def _happen(self, happening: Happening, device: SimulatedDevice) -> None:
        """What administrators do, the server may not survive; then it was not done."""
        if not happening.at_school or self.randomness.random() >= self.plan.network_fault_share / 2:
            happening.run(self, device)
            return
        try:
            with self.database.failing(self.randomness.randint(1, STATEMENTS_MAX), ServerCrash()):
                happening.run(self, device)
        except ServerCrash:
            self.met["administration broken off"] += 1

    def check(self) -> None:
        """Everything that must hold at every moment, as far as it may have changed."""
        self.server.refresh()
        for device in self.devices:
            self.view(device)
        changed, self._changed = self._changed, {}
        check_always(self.server, self._views.values(), changed.values(), self.ledger, self.school.outsider)
        for view in changed.values():
            check_status(self.server, view, self.ledger)

    # Devices

    @property
    def has_room(self) -> bool:
        return len(self.devices) < self.plan.devices_max

    def new_folder(self, kind: str) -> Path:
        """The path of a folder that does not exist yet."""
        self._folders += 1
        return self.folder / f"{kind}{self._folders}"

    def enrol(self, grant: Grant) -> None:
        """A new device, unless there are enough."""
        if not self.has_room:
            return
        folder = self.new_folder("device")
        folder.mkdir()
        (folder / "device.sqlite3").write_bytes(self.ground.device_template)
        later = self.plan.later_devices and self.randomness.random() < 0.5
        self.adopt(self.open(folder, later=later), grant)

    def adopt(self, device: SimulatedDevice, grant: Grant) -> None:
        """The device becomes one of the school's, under a new name."""
        enrolled = self.school.enrol(grant, KEYS)
        identity = (enrolled.id, enrolled.school_id, enrolled.school_name, enrolled.token)
        device.identity.adopt(EnrolAnswer(*identity, self.school.epoch, Limits(), *school_keys(self)), URL, KEYS)

    def open(self, folder: Path, *, later: bool) -> SimulatedDevice:
        """The device in a folder, started."""
        self.new_boot()
        name = f"d{len(self.devices)}"
        clock = DeviceClock(self.clock)
        device = SimulatedDevice(
            name, folder, clock, self.network, self.random_bits, self.randomness.random, self.plan.page_rows, self.new_boot, later
        )
        self.devices.append(device)
        self._views[name] = DeviceView(device)
        return device

    def view(self, device: SimulatedDevice) -> DeviceView:
        """The device's rows as they are now; what changed since the last look will be checked."""
        view = self._views[device.name]
        before = view.logged
        if view.refresh():
            self._changed[device.name] = view
            self.ledger.note_log(before, view.queued, view.logged, self.clock.time_ms)
        return view

    def touched(self, device: SimulatedDevice) -> None:
        """Something happened to the device that its file need not show: its status is to be checked."""
        self._changed[device.name] = self.view(device)

    def sync(self, device: SimulatedDevice, *, forced: bool = True) -> str:
        """A round of the device; its outcome."""
        outcome = device.round(forced=forced)
        self.touched(device)
        self.note(outcome, device)
        return outcome

    def new_boot(self) -> None:
        """The next device to start does so in a boot that never was before."""
        self._boots += 1

    def boot_id(self) -> str:
        """The boot of the machine that starts now."""
        return f"{self._boots:032x}"

    def note(self, what: str, device: SimulatedDevice) -> None:
        """A line of the trace."""
        self.trace.append(f"{what} {device.name}: {self.view(device).summary()}")

    # The server, and what happens while a request is under way

    def back_up_or_restore(self) -> None:
        """Backs the server up where there is no backup, and goes back to it where there is one, or makes a later one."""
        if not isinstance(self.database, RestorableCloud):
            return
        if not self.database.has_backup or self.randomness.random() < 0.3:
            self.database.back_up()
            return
        self.database.restore()
        self.met["server restored"] += 1
        self.server.read_all()
        somewhere = frozenset[str]().union(*(self.view(device).logged for device in self.devices))
        self.ledger.excused |= self.ledger.unlogged - somewhere
