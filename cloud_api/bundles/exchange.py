"""Bundles at the school's server: operations that come by stick, answers and the feed that go back (docs/bundles.md).

    sizes, header ──▶ the device, its keys ──▶ signature, seal ──▶ everything decoded ──▶ push by push, as from the network ──▶ answers ──▶ feed

Up to the decoding nothing is written, so a bundle that is refused has changed nothing. After it every push is a transaction of its own, as online; an
import that is broken off is begun again and finds what it did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import msgspec

from cloud_api import audit
from cloud_api.bundles.carried_feed import Gathered, gather_feed
from cloud_api.bundles.keys import server_keys
from cloud_api.database import CloudDatabase, Cursor
from cloud_api.devices.auth import Device
from cloud_api.erasure.orders import confirm
from cloud_api.publication import Progress
from cloud_api.schools import server_epoch
from cloud_api.sync.batch import DecodedPush, decode_push
from cloud_api.sync.envelope import envelope_problems
from cloud_api.sync.pull import check_form
from cloud_api.sync.push import PushReceiver
from domain import bundle
from domain.bodies import from_json, to_json
from domain.bundle import FRAME_BYTES_MAX, PLAIN_BYTES_MAX, Answered, FromDevice, FromSchool, Header, Kind
from domain.clock import Clock
from domain.errors import BundleRefused, Forbidden, InvalidInput, NotFound, OperatorError
from domain.ids import Id, IdSource
from domain.operations import Verdict
from domain.sealing import PublicKeys, SecretKeys
from domain.wire import PROTOCOL_VERSION, Limits, PullRequest, PushAnswer, PushRequest

# What devices are told to wait after a push; one that came by stick waits for nothing.
POLL_AFTER_S = 30.0
# What answers and feed of one bundle may come to.
_CONTENT_BYTES_MAX = PLAIN_BYTES_MAX - FRAME_BYTES_MAX
_IMPORTED, _EXPORTED = "bundle.imported", "bundle.exported"
# Codes under which a log has parted from the server's for good. One that is merely behind goes on when it catches up.
_PARTED = ("fork", "ahead")


@dataclass(frozen=True, slots=True)
class Carried:
    """A bundle for a device, and what it holds: rows and deletions of the feed, and whether more did not fit."""

    data: bytes
    rows: int
    more: bool


@dataclass(slots=True)
class Imported:
    """What an import came to: operations by verdict; whose they are; the answering bundle, once it is made."""

    device_id: Id
    device_name: str
    operations: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    parted: str = ""
    answer: Carried = Carried(b"", 0, False)

    @property
    def taken(self) -> int:
        """Operations that this import was the first to bring."""
        return self.operations - self.verdicts.get(Verdict.REJECTED, 0) - self.verdicts.get(Verdict.DUPLICATE, 0)


class _Sender(NamedTuple):
    """A device with its keys, and the server's."""

    device: Device
    device_keys: PublicKeys
    own_keys: SecretKeys


class Bundles:
    """The bundles of one server."""

    def __init__(self, database: CloudDatabase, clock: Clock, ids: IdSource) -> None:
        self._database, self._clock, self._ids = database, clock, ids
        self._receiver = PushReceiver(clock, ids.new, Limits(), POLL_AFTER_S)

    def take(self, data: bytes, *, with_feed: bool, progress: Progress = lambda done, total: None) -> Imported:
        """Settles what a device has sent by stick, and makes the bundle that answers it.

        Raises BundleRefused, Forbidden (`device_revoked`), and InvalidInput for a device of a version that this server does not understand; nothing
        is changed then.
        """
        header = bundle.read_header(data, Kind.FROM_DEVICE)
        sender = self._database.retrying(lambda cursor: _sender(cursor, header.device_id, header.school_id))
        body = bundle.read_body(data, header, sender.device_keys, sender.own_keys)
        carried = _decoded(body)
        imported = Imported(sender.device.id, sender.device.name)
        answers, left_bytes = self._settle(sender.device, carried, imported, progress)
        gathered = self._feed_for(sender.device, carried, imported.parted, left_bytes) if with_feed else Gathered()
        if gathered.ahead:
            imported.parted = "ahead"
        self._database.retrying(lambda cursor: self._record(cursor, sender.device, imported, carried.pull))
        imported.answer = self._carry(sender, gathered, carried.pull.incarnation, answers, imported.parted)
        return imported

    def give(self, device_id: str, *, anew: bool = False) -> Carried:
        """The feed for a device, from where its last bundle said that it was, or (`anew`, or if there was none) from the beginning.

        Raises NotFound, Forbidden (`device_revoked`), OperatorError for a device without keys.
        """
        sender = self._database.retrying(lambda cursor: _sender(cursor, device_id, None))
        with self._database.transaction(read_only=True) as cursor:
            known = {} if anew else _known_cursors(cursor, sender.device)
        # A device's id is the name of none of its incarnations.
        asked = PullRequest(PROTOCOL_VERSION, sender.device.id, known)
        with self._database.transaction(snapshot=True) as cursor:
            gathered = gather_feed(cursor, sender.device, asked, self._clock, _CONTENT_BYTES_MAX)
        self._database.retrying(lambda cursor: self._audit(cursor, sender.device, _EXPORTED, {"rows": gathered.rows}))
        return self._carry(sender, gathered)

    def _settle(self, device: Device, carried: FromDevice, imported: Imported, progress: Progress) -> tuple[list[msgspec.Raw], int]:
        """The answers, as many of the first as fit, and the bytes that are left for the feed."""
        answers, left_bytes = list[msgspec.Raw](), _CONTENT_BYTES_MAX
        for number, raw in enumerate(carried.pushes, 1):
            push = decode_push(from_json(bytes(raw), PushRequest))
            answer, parted = self._database.retrying(partial(self._receive, device=device, push=push))
            # The chain goes through all pushes: the last one's word covers those before it.
            imported.parted = parted if parted in _PARTED else ""
            imported.operations += len(push.chains)
            for verdict in answer.verdicts:
                imported.verdicts[verdict.verdict] = imported.verdicts.get(verdict.verdict, 0) + 1
            told = to_json(Answered(push.request.first_seq, answer))
            left_bytes -= len(told)
            if left_bytes >= 0:  # what is not answered is asked again, and answered alike
                answers.append(msgspec.Raw(told))
            progress(number, len(carried.pushes))
        return answers, max(0, left_bytes)

    def _receive(self, cursor: Cursor, device: Device, push: DecodedPush) -> tuple[PushAnswer, str]:
        return self._receiver.receive_carried(cursor, _locked(cursor, device), push)

    def _feed_for(self, device: Device, carried: FromDevice, parted: str, limit_bytes: int) -> Gathered:
        with self._database.transaction(snapshot=True) as cursor:
            asked = carried.pull
            if parted == "ahead" or carried.server_epoch != server_epoch(cursor):  # the device will fetch everything again
                asked = msgspec.structs.replace(asked, cursors=dict.fromkeys(asked.cursors, 0), rebaselining=True)
            return gather_feed(cursor, device, asked, self._clock, limit_bytes)

    def _record(self, cursor: Cursor, device: Device, imported: Imported, pull: PullRequest) -> None:
        confirm(cursor, self._ids, device, pull, self._clock.now_ms())
        counts = {"operations": imported.operations, "verdicts": imported.verdicts, "parted": imported.parted}
        self._audit(cursor, device, _IMPORTED, {**counts, "cursors": pull.cursors})

    def _audit(self, cursor: Cursor, device: Device, action: str, detail: Mapping[str, Any]) -> None:
        audit.record(cursor, device.school_id, self._ids.new(), self._clock.now_ms(), audit.OPERATOR, action, device.id, detail)

    def _carry(
        self, sender: _Sender, gathered: Gathered, incarnation: str = "", answers: Sequence[msgspec.Raw] = (), parted: str = ""
    ) -> Carried:
        with self._database.transaction(read_only=True) as cursor:
            epoch = server_epoch(cursor)
        header = Header(Kind.FROM_SCHOOL, sender.device.school_id, sender.device.id, self._clock.now_ms())
        body = to_json(FromSchool(epoch, incarnation, list(answers), parted, gathered.feed))
        return Carried(bundle.write(header, body, sender.own_keys, sender.device_keys), gathered.rows, gathered.more)


def _decoded(body: bytes) -> FromDevice:
    """The body, once every message in it is known to be readable. Raises BundleRefused, InvalidInput, UnsupportedProtocol."""
    carried = from_json(body, FromDevice)
    problems = envelope_problems(carried.pull.protocol, carried.pull.incarnation)
    if problems:
        raise InvalidInput(problems)
    check_form(carried.pull)
    for raw in carried.pushes:
        request = from_json(bytes(raw), PushRequest)
        decode_push(request)
        if request.incarnation != carried.pull.incarnation:
            raise BundleRefused("bundle_damaged", "The bundle's parts are of different logs.")
    return carried


def _sender(cursor: Cursor, device_id: str, school_id: str | None) -> _Sender:
    """The device that a bundle is from or for. Without `school_id` a person has named it. Raises BundleRefused or NotFound, Forbidden, OperatorError."""
    device, keys = _find(cursor, device_id, school_id, lock=False)
    if device is None:
        if school_id is None:
            raise NotFound("There is no such device; `carrel-cloud device list` shows those of a school.")
        raise BundleRefused("bundle_foreign", "This server does not know the school or the device that the bundle is from.")
    if keys is None:
        raise OperatorError("This device was enrolled without keys for bundles: enrol it again.")
    return _Sender(device, keys, server_keys(cursor))


def _locked(cursor: Cursor, device: Device) -> Device:
    """The device as it is now, its row locked until the transaction ends. Raises Forbidden when it was revoked meanwhile."""
    found, _ = _find(cursor, device.id, device.school_id, lock=True)
    if found is None:
        raise NotFound("The device is not there any more.")
    return found


def _find(cursor: Cursor, device_id: str, school_id: str | None, *, lock: bool) -> tuple[Device | None, PublicKeys | None]:
    """The device and its keys, each None if there is none. Raises Forbidden for one that was revoked."""
    of_school = "" if school_id is None else " AND school_id = %(school)s"
    cursor.execute(
        "SELECT id, school_id, name, app_version, clock_offset_ms, last_seen_ms, revoked_at_ms, verify_key, seal_key FROM devices"
        f" WHERE id = %(device)s{of_school}{' FOR UPDATE' if lock else ''}",
        {"device": device_id, "school": school_id},
    )
    if (row := cursor.fetchone()) is None:
        return None, None
    *known, revoked_at_ms, verify_key, seal_key = row
    if revoked_at_ms is not None:
        raise Forbidden("This device was revoked; nothing of the bundle was taken.", code="device_revoked")
    keys = None if verify_key is None or seal_key is None else PublicKeys(bytes(verify_key), bytes(seal_key))
    return Device(*known), keys


def _known_cursors(cursor: Cursor, device: Device) -> dict[str, int]:
    """The cursors that the device's last bundle told; none if there was none."""
    cursor.execute(
        "SELECT detail->'cursors' FROM audit_log WHERE school_id = %s AND action = %s AND subject = %s ORDER BY at_ms DESC, id DESC LIMIT 1",
        (device.school_id, _IMPORTED, device.id),
    )
    row = cursor.fetchone()
    return dict(row[0]) if row else {}
