"""A stick that carries bundles between a fleet's devices and its school, without the commands around them."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from contextlib import closing
from typing import Any

from cloud_api.bundles.exchange import Bundles, Imported
from cloud_api.bundles.keys import server_keys
from cloud_api.devices.enrolment import Grant
from daemon.bundles.exchange import DeviceBundles, Taken
from daemon.identity.keys import ServerKeys, fresh_keys, read_keys
from domain import bundle
from domain.bundle import Header, Kind
from domain.registry import TABLES
from domain.sealing import PublicKeys, public_keys
from domain.wire import EnrolAnswer, Limits
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite, migrated_file


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


def answers(fleet: Fleet) -> list[tuple[Any, ...]]:
    return as_sqlite(fleet.server_rows("question_attempts"))


def holdings(fleet: Fleet) -> list[Any]:
    """Everything of the school's that a bundle might change, but for who was seen when and the audit log."""
    tables = (*TABLES, "dead_letters", "tombstones", "settled_values")
    return [fleet.server(f"SELECT * FROM {t} ORDER BY 1, 2, 3") for t in tables] + fleet.server(
        "SELECT no, last_seq, chain FROM device_incarnations ORDER BY no"
    )


def everything(device: SyncedDevice) -> list[Any]:
    """Everything in a device's file that a bundle might change."""
    tables = (*TABLES, "sync_operations", "sync_progress", "cursors", "shadows", "identity")
    return [device.rows(f"SELECT * FROM {t} ORDER BY 1") for t in tables]


def copy_of(fleet: Fleet, device: SyncedDevice) -> SyncedDevice:
    """The same device on another disk."""
    folder = fleet.tmp_path / secrets.token_hex(8)
    folder.mkdir()
    for name in ("device.token", "device.keys"):
        shutil.copy(device.folder / name, folder)
    with closing(sqlite3.connect(folder / "device.sqlite3")) as copy, device.database.read() as conn:
        conn.backup(copy)
    return fleet.open(folder)


def restore_server(fleet: Fleet) -> None:
    """The server goes back to before the answers, under a new epoch."""
    fleet.server("DELETE FROM question_attempts")
    fleet.server("UPDATE device_incarnations SET last_seq = 0, chain = decode(repeat('00', 16), 'hex')")
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")
