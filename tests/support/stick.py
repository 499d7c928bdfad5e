"""A stick that carries bundles between a fleet's devices and its school, without the commands around them."""

from __future__ import annotations

import shutil

from cloud_api.bundles.exchange import Bundles, Imported
from cloud_api.bundles.keys import server_keys
from cloud_api.devices.enrolment import Grant
from daemon.bundles.exchange import DeviceBundles, Taken
from daemon.identity.keys import ServerKeys, fresh_keys, read_keys
from domain import bundle
from domain.bundle import Header, Kind
from domain.sealing import PublicKeys, public_keys
from domain.wire import EnrolAnswer, Limits
from tests.support.fleet import Fleet, SyncedDevice, migrated_file


def device_with_keys(fleet: Fleet, *grants: Grant) -> SyncedDevice:
    """A new device that can write bundles."""
    keys = fresh_keys()
    enrolled = fleet.school.enrol(*grants, keys=PublicKeys(bytes.fromhex(keys.public_verify), bytes.fromhex(keys.public_seal)))
    with fleet.school.database.transaction() as cursor:
        school_keys = public_keys(server_keys(cursor))
    folder = fleet.tmp_path / enrolled.id
    folder.mkdir()
    shutil.copyfile(migrated_file(), folder / "device.sqlite3")
    identity = (enrolled.id, enrolled.school_id, enrolled.school_name, enrolled.token)
    answer = EnrolAnswer(*identity, fleet.epoch(), Limits(), school_keys.verify.hex(), school_keys.seal.hex())
    return fleet.open(folder, answer, keys)


def bundles_of(device: SyncedDevice) -> DeviceBundles:
    return DeviceBundles(device.database, device.identity, device.clock, device.rounds)


def written_by(device: SyncedDevice) -> bytes:
    """What `carrel bundle export` writes."""
    bundles = bundles_of(device)
    parties = bundles.parties()
    header = Header(Kind.FROM_DEVICE, parties.school_id, parties.device_id, device.clock.now_ms())
    school = ServerKeys(parties.server_verify_key, parties.server_seal_key).public()
    return bundle.write(header, bundles.collect().body, read_keys(device.folder), school)


def opened_by(device: SyncedDevice, data: bytes) -> bytes:
    """The body that `carrel bundle import` finds."""
    parties = bundles_of(device).parties()
    school = ServerKeys(parties.server_verify_key, parties.server_seal_key).public()
    return bundle.read_body(data, bundle.read_header(data, Kind.FROM_SCHOOL), school, read_keys(device.folder))


def taken_by(device: SyncedDevice, data: bytes) -> Taken:
    """What `carrel bundle import` does."""
    return bundles_of(device).take(opened_by(device, data))


def at_school(fleet: Fleet) -> Bundles:
    return Bundles(fleet.school.database, fleet.school.clock, fleet.school.ids)


def taken_at_school(fleet: Fleet, data: bytes, *, with_feed: bool = True) -> Imported:
    """What `carrel-cloud bundle import` does."""
    return at_school(fleet).take(data, with_feed=with_feed)
