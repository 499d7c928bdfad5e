"""A stick that carries bundles between devices and school: in any order, twice or much later, cut or altered, and across what goes over the network."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cloud_api.bundles import Bundles
from cloud_api.server_keys import server_keys
from daemon.device_keys import fresh_keys
from domain.errors import BundleRefused, CarrelError
from domain.sealing import public_keys
from tests.simulation.checks import violated
from tests.simulation.storage import DeviceCrash
from tests.support.stick import taken_by, written_by

if TYPE_CHECKING:
    from tests.simulation.device import SimulatedDevice
    from tests.simulation.world import World

# Bundles on one stick; the oldest goes for a new one.
BUNDLES_MAX = 6
SPOILED_SHARE = 0.1

# Made once: making keys costs as much as a step, and no invariant hangs on whose they are.
KEYS = fresh_keys()


@dataclass(frozen=True, slots=True)
class Bundle:
    """A file on the stick: from a device to its school, or from the school `to` a device."""

    data: bytes
    to: str | None


@dataclass
class Stick:
    """What lies on it."""

    bundles: list[Bundle] = field(default_factory=list)

    def keep(self, bundle: Bundle) -> None:
        """One more file."""
        self.bundles = [*self.bundles[-BUNDLES_MAX + 1 :], bundle]


def school_keys(world: World) -> tuple[str, str]:
    """The public keys of the world's server, as an enrolment tells them: to verify its signature, and to seal for it."""
    with world.database.transaction() as cursor:
        keys = public_keys(server_keys(cursor))
    return keys.verify.hex(), keys.seal.hex()


def write_bundle(world: World, device: SimulatedDevice) -> None:
    """A device writes a bundle; or the school writes one for it."""
    try:
        if world.randomness.random() < 0.7:
            world.stick.keep(Bundle(written_by(_as_synced(device)), None))
        else:
            world.stick.keep(Bundle(_at_school(world).give(device.device_id()).data, device.device_id()))
    except CarrelError as error:
        world.note(f"no bundle: {error.code}", device)
    except DeviceCrash:
        device.restart()


def carry_stick(world: World, device: SimulatedDevice) -> None:
    """One of the files arrives where it is meant to. It may stay on the stick, and arrive again."""
    if not world.stick.bundles:
        return
    bundle = world.randomness.choice(world.stick.bundles)
    if world.randomness.random() < 0.5:
        world.stick.bundles.remove(bundle)
    if world.randomness.random() < SPOILED_SHARE:
        _spoiled_is_refused(world, bundle)
    else:
        arrive(world, bundle)


def arrive(world: World, bundle: Bundle) -> None:
    """The bundle is taken in; the school's answer goes on the stick. What is refused changes nothing."""
    if bundle.to is None:
        try:
            imported = _at_school(world).take(bundle.data, with_feed=world.randomness.random() < 0.7)
        except CarrelError as error:
            world.trace.append(f"the school takes no bundle: {error.code}")
        else:
            world.stick.keep(Bundle(imported.answer.data, imported.device_id))
        return
    for device in world.devices:
        if device.device_id() == bundle.to:
            try:
                taken_by(_as_synced(device), bundle.data)
            except CarrelError as error:
                world.note(f"takes no bundle: {error.code}", device)
            except DeviceCrash:
                device.restart()
            world.touched(device)


def _spoiled_is_refused(world: World, bundle: Bundle) -> None:
    """A bundle of which something is missing or changed is refused whole."""
    place = int(world.randomness.random() * len(bundle.data))
    cut = bundle.data[:place]
    data = cut if world.randomness.random() < 0.5 else cut + bytes([bundle.data[place] ^ 1]) + bundle.data[place + 1 :]
    try:
        if bundle.to is None:
            _at_school(world).take(data, with_feed=False)
        else:
            taken_by(_as_synced(world.devices[0]), data)
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
