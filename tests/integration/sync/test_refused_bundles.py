"""Bundles that are not what they should be are refused whole, with the reason, and nothing is changed by them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import msgspec
import pytest

from cloud_api.bundles.keys import server_keys
from cloud_api.devices.enrolled import revoke
from cloud_api.devices.enrolment import Grant
from daemon.identity.keys import ServerKeys, read_keys
from domain import bundle, sealing
from domain.bodies import compress, to_json
from domain.bundle import FromDevice, FromSchool, Header, Kind
from domain.errors import BundleRefused, CarrelError, Forbidden, InvalidInput, OperatorError, UnsupportedProtocol
from domain.ids import Id
from domain.sealing import SIGNATURE_BYTES, new_keys, public_keys
from domain.wire import PullRequest
from tests.support.cloud import SchoolBuilder
from tests.support.fleet import Fleet, SyncedDevice, running_fleet
from tests.support.stick import (
    at_school,
    bundles_of,
    device_with_keys,
    everything,
    holdings,
    opened_by,
    taken_at_school,
    taken_by,
    written_by,
)


@pytest.fixture
def laptop(fleet: Fleet, ada: Id) -> SyncedDevice:
    """Ada's laptop with something to say."""
    device = device_with_keys(fleet, Grant("student", ada))
    device.sync()
    device.records.record_attempts(ada, fleet.attempts(1))
    return device


def refusal(take: Callable[[], object]) -> str:
    """The code with which something is refused."""
    with pytest.raises(CarrelError) as refused:
        take()
    return refused.value.code


def sealed(fleet: Fleet, device: SyncedDevice, body: bytes, **header: object) -> bytes:
    """A bundle of this device's around any body, and with whatever header."""
    parties = bundles_of(device).parties()
    says = msgspec.structs.replace(Header(Kind.FROM_DEVICE, parties.school_id, parties.device_id, 0), **header)
    school = ServerKeys(parties.server_verify_key, parties.server_seal_key).public()
    return bundle.write(says, body, read_keys(device.folder), school)


def test_a_bundle_with_any_byte_altered_is_refused_by_the_school(fleet: Fleet, laptop: SyncedDevice) -> None:
    data, before = written_by(laptop), holdings(fleet)
    codes = set()
    for place in range(len(data)):
        altered = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        codes.add(refusal(partial(taken_at_school, fleet, altered)))
    assert codes == {"bundle_unknown", "bundle_damaged", "bundle_foreign"}
    assert holdings(fleet) == before
    assert taken_at_school(fleet, data).taken == 1


def test_an_answer_with_any_byte_altered_is_refused_by_the_device(fleet: Fleet, laptop: SyncedDevice) -> None:
    data = taken_at_school(fleet, written_by(laptop), with_feed=False).answer.data
    before = everything(laptop)
    codes = set()
    for place in range(len(data)):
        altered = data[:place] + bytes([data[place] ^ 0x80]) + data[place + 1 :]
        codes.add(refusal(partial(taken_by, laptop, altered)))
    assert codes <= {"bundle_unknown", "bundle_damaged", "bundle_foreign"}
    assert everything(laptop) == before
    assert taken_by(laptop, data).settled == 1


def test_a_bundle_that_was_cut_off_says_how_much_is_missing(fleet: Fleet, laptop: SyncedDevice) -> None:
    data, before = written_by(laptop), holdings(fleet)
    for length in range(len(data)):
        assert refusal(partial(taken_at_school, fleet, data[:length])) in ("bundle_unknown", "bundle_damaged")
    with pytest.raises(BundleRefused, match="cut off: 10 bytes are missing"):
        taken_at_school(fleet, data[:-10])
    with pytest.raises(BundleRefused, match="added"):
        taken_at_school(fleet, data + b"!")
    assert holdings(fleet) == before


def test_what_is_no_bundle_or_of_another_version_is_told_apart(fleet: Fleet, laptop: SyncedDevice) -> None:
    with pytest.raises(BundleRefused, match="not a bundle"):
        taken_at_school(fleet, b"PK\x03\x04 a holiday picture")
    with pytest.raises(BundleRefused, match="another version"):
        taken_at_school(fleet, written_by(laptop).replace(b"carrel-bundle/1", b"carrel-bundle/2", 1))


def test_a_bundle_goes_only_the_way_it_was_written_for(fleet: Fleet, laptop: SyncedDevice) -> None:
    up = written_by(laptop)
    down = at_school(fleet).give(laptop.id).data
    assert refusal(lambda: taken_by(laptop, up)) == refusal(lambda: taken_at_school(fleet, down)) == "bundle_foreign"


def test_a_bundle_of_another_device_is_refused_by_a_device(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    other = device_with_keys(fleet, Grant("student", ada))
    before = everything(laptop)
    assert refusal(lambda: taken_by(laptop, at_school(fleet).give(other.id).data)) == "bundle_foreign"
    assert everything(laptop) == before


def test_a_bundle_of_another_school_is_refused(fleet: Fleet, laptop: SyncedDevice, live_cloud: str) -> None:
    """On the same server: not even its keys tell the two apart."""
    other_school = SchoolBuilder.build(fleet.school.database)
    assert refusal(lambda: taken_at_school(fleet, sealed(fleet, laptop, b"{}", school_id=other_school.id))) == "bundle_foreign"
    with running_fleet(other_school, live_cloud, fleet.tmp_path) as other:
        stranger = device_with_keys(other, Grant("student", other_school.add_user("eve").id))
        forged = sealed(other, stranger, b"{}", device_id=laptop.id, school_id=fleet.school.id)
        assert refusal(lambda: taken_at_school(fleet, forged)) == "bundle_damaged"
    assert fleet.server("SELECT count(*) FROM question_attempts") == [(0,)]


def test_a_bundle_that_was_sealed_with_other_keys_is_refused(fleet: Fleet, laptop: SyncedDevice) -> None:
    data = written_by(laptop)
    fleet.server("UPDATE server_state SET seal_key = decode(repeat('07', 32), 'hex')")
    assert refusal(lambda: taken_at_school(fleet, data)) == "bundle_foreign"


def test_a_revoked_device_is_refused_and_gets_nothing(fleet: Fleet, laptop: SyncedDevice) -> None:
    data = written_by(laptop)
    with fleet.school.database.transaction() as cursor:
        revoke(cursor, fleet.school.ids, fleet.school.id, laptop.id, fleet.school.clock.now_ms())
    before = holdings(fleet)
    for take in (lambda: taken_at_school(fleet, data), lambda: at_school(fleet).give(laptop.id)):
        with pytest.raises(Forbidden) as refused:
            take()
        assert refused.value.code == "device_revoked"
    assert holdings(fleet) == before


def test_a_device_that_was_enrolled_without_keys_is_told_so(fleet: Fleet, ada: Id) -> None:
    device = fleet.device(Grant("student", ada))
    with pytest.raises(OperatorError, match="enrol it again"):
        written_by(device)
    with pytest.raises(OperatorError, match="enrol it again"):
        at_school(fleet).give(device.id)


def test_a_file_that_is_too_large_is_refused_before_anything_is_done_with_it(fleet: Fleet, laptop: SyncedDevice) -> None:
    assert refusal(lambda: taken_at_school(fleet, written_by(laptop) + bytes(bundle.FILE_BYTES_MAX))) == "bundle_too_large"
    assert refusal(lambda: sealed(fleet, laptop, bytes(bundle.PLAIN_BYTES_MAX + 1))) == "bundle_too_large"


@pytest.mark.parametrize("size", [2 * bundle.RATIO_FROM_BYTES, 8 * bundle.PLAIN_BYTES_MAX])
def test_a_bundle_that_would_unpack_to_far_more_than_it_is_is_refused(
    fleet: Fleet, laptop: SyncedDevice, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.bundle.PLAIN_BYTES_MAX", 2**40)  # of the program that writes it
    bomb = sealed(fleet, laptop, bytes(size))
    monkeypatch.undo()
    assert len(bomb) < size / bundle.RATIO_MAX
    assert refusal(lambda: taken_at_school(fleet, bomb)) == "bundle_too_large"


def test_one_push_that_cannot_be_read_keeps_all_of_the_bundle_out(fleet: Fleet, laptop: SyncedDevice) -> None:
    body = msgspec.json.decode(bundles_of(laptop).collect().body, type=FromDevice)
    before = holdings(fleet)
    broken = to_json({**msgspec.json.decode(bytes(body.pushes[0])), "first_seq": -1})
    spoilt = to_json(msgspec.structs.replace(body, pushes=[*body.pushes, msgspec.Raw(broken)]))
    with pytest.raises(InvalidInput):
        taken_at_school(fleet, sealed(fleet, laptop, spoilt))
    foreign = to_json({**msgspec.json.decode(bytes(body.pushes[0])), "incarnation": "0" * 32})
    mixed = to_json(msgspec.structs.replace(body, pushes=[*body.pushes, msgspec.Raw(foreign)]))
    assert refusal(lambda: taken_at_school(fleet, sealed(fleet, laptop, mixed))) == "bundle_damaged"
    assert holdings(fleet) == before


def test_a_device_that_is_too_new_for_the_server_is_told_so_and_keeps_everything(fleet: Fleet, laptop: SyncedDevice) -> None:
    body = to_json(FromDevice(fleet.epoch(), PullRequest(99, laptop.id, {}), []))
    with pytest.raises(UnsupportedProtocol):
        taken_at_school(fleet, sealed(fleet, laptop, body))


def test_a_signed_body_that_is_no_message_changes_nothing_on_a_device(fleet: Fleet, laptop: SyncedDevice) -> None:
    with fleet.school.database.transaction() as cursor:
        own = server_keys(cursor)
    parties, reader = bundles_of(laptop).parties(), public_keys(read_keys(laptop.folder))
    header = Header(Kind.FROM_SCHOOL, parties.school_id, parties.device_id, 0)
    whole = msgspec.json.decode(opened_by(laptop, at_school(fleet).give(laptop.id).data), type=FromSchool)
    assert whole.feed is not None
    page = msgspec.json.decode(bytes(whole.feed.pages[-1]))
    page["tables"]["users"]["columns"]["feed_no"] = {"c": "high"}
    spoilt = msgspec.structs.replace(whole.feed, pages=[*whole.feed.pages, msgspec.Raw(to_json(page))])
    before = everything(laptop)
    for body in (b"{}", b"\xff", to_json(msgspec.structs.replace(whole, feed=spoilt))):
        assert refusal(partial(taken_by, laptop, bundle.write(header, body, own, reader))) in ("malformed_json", "bundle_damaged")
    assert everything(laptop) == before


def test_a_signature_of_somebody_else_over_the_same_sealed_text_is_refused(fleet: Fleet, laptop: SyncedDevice) -> None:
    data = written_by(laptop)
    signed = data[:-SIGNATURE_BYTES]
    assert refusal(lambda: taken_at_school(fleet, signed + sealing.sign(signed, new_keys().sign))) == "bundle_damaged"


def test_text_that_is_sealed_but_not_packed_is_refused(fleet: Fleet, laptop: SyncedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "compress", lambda body: compress(body)[:-3])
    cut = written_by(laptop)
    assert refusal(lambda: taken_at_school(fleet, cut)) == "bundle_damaged"
