"""A stick that carries bundles between devices and school: in any order, twice, much later or never, cut or altered, across what goes over the network,
and with a power cut or a dying server in the middle of an import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cloud_api.bundles.exchange import Bundles
from cloud_api.bundles.keys import server_keys
from daemon.identity.keys import fresh_keys
from domain.errors import BundleRefused, CarrelError
from domain.sealing import public_keys
from tests.simulation.checks import violated
from tests.simulation.cloud import STATEMENTS_MAX, ServerCrash
from tests.simulation.storage import FOREVER, DeviceCrash
from tests.support.stick import taken_by, written_by

if TYPE_CHECKING:
    from tests.simulation.device import SimulatedDevice
    from tests.simulation.world import World

# Bundles on one stick; the oldest goes for a new one.
BUNDLES_MAX = 6
KEPT_SHARE, LOST_SHARE, SPOILED_SHARE, BROKEN_OFF_SHARE = 0.5, 0.1, 0.1, 0.2
# Moments within which a device dies that is to die while it takes a bundle in.
MOMENTS_MAX = 25

# Made once: making keys costs as much as a step, and no invariant hangs on whose they are.
KEYS = fresh_keys()


@dataclass(slots=True)
class Bundle:
    """A file on the stick: from a device to its school, or from the school `to` a device. `number` counts the bundles of a world."""

    data: bytes
    to: str | None
    number: int
    arrivals: int = 0


@dataclass
class Stick:
    """What lies on it; how many bundles were ever written, and the latest that has arrived."""

    bundles: list[Bundle] = field(default_factory=list)
    written: int = 0
    latest: int = 0

    def keep(self, data: bytes, to: str | None) -> None:
        """One more file."""
        self.written += 1
        self.bundles = [*self.bundles[-BUNDLES_MAX + 1 :], Bundle(data, to, self.written)]


def school_keys(world: World) -> tuple[str, str]:
    """The public keys of the world's server, as an enrolment tells them: to verify its signature, and to seal for it."""
    with world.database.transaction() as cursor:
        keys = public_keys(server_keys(cursor))
    return keys.verify.hex(), keys.seal.hex()


def write_bundle(world: World, device: SimulatedDevice) -> None:
    """A device writes a bundle; or the school writes one for it."""
    draw = world.randomness
    try:
        if draw.random() < 0.7:
            world.stick.keep(written_by(_as_synced(device)), None)
        else:
            world.stick.keep(_at_school(world).give(device.device_id(), anew=draw.random() < 0.3).data, device.device_id())
    except CarrelError as error:
        world.note(f"no bundle: {error.code}", device)
    except DeviceCrash:
        device.restart()


def carry_stick(world: World, device: SimulatedDevice) -> None:
    """One of the files arrives where it is meant to, or nowhere. It may stay on the stick, and arrive again."""
    draw, stick = world.randomness, world.stick
    if not stick.bundles:
        return
    bundle = draw.choice(stick.bundles)
    if draw.random() >= KEPT_SHARE:
        stick.bundles.remove(bundle)
    what = draw.random()
    if what < LOST_SHARE:
        world.met["bundle lost"] += 1
    elif what < LOST_SHARE + SPOILED_SHARE:
        _spoiled_is_refused(world, bundle)
    else:
        _arrive_badly(world, bundle) if draw.random() < BROKEN_OFF_SHARE else arrive(world, bundle)


def run_errand(world: World, device: SimulatedDevice, back_to: SimulatedDevice | None = None) -> None:
    """Somebody carries the stick to school and back, to the device or one of its copies. What is on it stays there."""
    try:
        world.stick.keep(written_by(_as_synced(device)), None)
    except CarrelError as error:
        world.note(f"no bundle: {error.code}", device)
    except DeviceCrash:
        device.restart()
    else:
        arrive(world, world.stick.bundles[-1])
        if (answer := world.stick.bundles[-1]).to == device.device_id():
            _to_device(world, back_to, answer) if back_to else arrive(world, answer)


def bring_feed(world: World, device: SimulatedDevice) -> None:
    """Somebody brings the device, or one of its copies, what is new at school since its last bundle."""
    try:
        world.stick.keep(_at_school(world).give(device.device_id()).data, device.device_id())
    except CarrelError as error:
        world.note(f"no bundle: {error.code}", device)
    else:
        arrive(world, world.stick.bundles[-1])


def lose_network(world: World, device: SimulatedDevice) -> None:
    """The device has no network from now on; or has one again."""
    world.met["network gone or back"] += 1
    world.network.without ^= {device.name}


def arrive_meanwhile(world: World) -> None:
    """One of the files arrives while something else is under way."""
    if world.stick.bundles:
        world.met["bundle across a request"] += 1
        arrive(world, world.randomness.choice(world.stick.bundles))


def arrive(world: World, bundle: Bundle, *, everywhere: bool = False) -> None:
    """The bundle is taken in, by one of the device's copies or `everywhere`; the school's answer goes on the stick. What is refused changes nothing."""
    world.met["bundle twice"] += bundle.arrivals > 0
    world.met["bundles in another order"] += bundle.number < world.stick.latest
    bundle.arrivals, world.stick.latest = bundle.arrivals + 1, max(world.stick.latest, bundle.number)
    if bundle.to is None:
        _to_school(world, bundle)
    elif readers := _readers(world, bundle):
        for device in readers if everywhere else [world.randomness.choice(readers)]:
            _to_device(world, device, bundle)


def _to_school(world: World, bundle: Bundle) -> None:
    try:
        imported = _at_school(world).take(bundle.data, with_feed=world.randomness.random() < 0.7)
    except CarrelError as error:
        world.trace.append(f"the school takes no bundle: {error.code}")
    except ServerCrash:
        world.met["bundle broken off"] += 1
    else:
        world.met["bundle of a parted log"] += bool(imported.parted)
        world.stick.keep(imported.answer.data, imported.device_id)


def _to_device(world: World, device: SimulatedDevice, bundle: Bundle) -> None:
    try:
        world.met["bundle that settled"] += taken_by(_as_synced(device), bundle.data).settled > 0
    except CarrelError as error:
        world.met["bundle of before"] += error.code == "bundle_stale"
        world.note(f"takes no bundle: {error.code}", device)
    except DeviceCrash:
        world.met["bundle broken off"] += 1
        device.restart()
    world.touched(device)


def _readers(world: World, bundle: Bundle) -> Sequence[SimulatedDevice]:
    """The device and its copies, but for those in the middle of a round."""
    return [d for d in world.devices if d.device_id() == bundle.to and not d.in_round]


def _arrive_badly(world: World, bundle: Bundle) -> None:
    """Whoever takes the bundle in dies meanwhile."""
    if bundle.to is None:
        with world.database.failing(world.randomness.randint(1, STATEMENTS_MAX), ServerCrash()):
            arrive(world, bundle)
        return
    readers = _readers(world, bundle)
    for device in readers:
        device.mortality.moments_left = world.randomness.randint(1, MOMENTS_MAX)
    arrive(world, bundle)
    for device in readers:
        device.mortality.moments_left = FOREVER


def _spoiled_is_refused(world: World, bundle: Bundle) -> None:
    """A bundle of which something is missing or changed is refused whole."""
    world.met["bundle spoiled"] += 1
    place = int(world.randomness.random() * len(bundle.data))
    cut = bundle.data[:place]
    data = cut if world.randomness.random() < 0.5 else cut + bytes([bundle.data[place] ^ 1]) + bundle.data[place + 1 :]
    readers = [*_readers(world, bundle), *world.devices]
    try:
        if bundle.to is None:
            _at_school(world).take(data, with_feed=False)
        else:
            taken_by(_as_synced(readers[0]), data)
    except BundleRefused:
        return
    except CarrelError as error:
        world.trace.append(f"a spoiled bundle: {error.code}")
        return
    violated("NO_LEAK", "a bundle was taken that had been changed on its way")


def _at_school(world: World) -> Bundles:
    return Bundles(world.database, world.clock, world.ids)


def _as_synced(device: SimulatedDevice) -> Any:
    """It has everything that the stick of the other tests needs of a device."""
    return device
