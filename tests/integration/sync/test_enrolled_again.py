"""A device that is enrolled again stands for the one that it was: nobody waits for that one any more, unless somebody comes as it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cloud_api.devices import enrolled
from cloud_api.devices.enrolment import EnrolledDevice, Grant
from cloud_api.devices.replacement import UNDER_WAY_MAX_MS
from cloud_api.erasure.erase import erase
from cloud_api.erasure.orders import Standing, standings
from cloud_api.fleet import overview
from cloud_api.fleet.overview import State
from daemon.identity.enrolment import Enrolment
from domain.errors import CloudUnreachable
from domain.ids import Id
from domain.wire import EnrolAnswer, EnrolRequest
from tests.support.cloud import SchoolBuilder
from tests.support.fleet import Fleet, LossyGateway, SyncedDevice


class Listening(LossyGateway):
    """Keeps what is asked, and may lose the answer."""

    def __init__(self, url: str, *, loses: bool = False) -> None:
        super().__init__(url)
        self.asked: list[EnrolRequest] = []
        self.loses = loses

    def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        self.asked.append(request)
        answer = super().enrol(request)
        if self.loses:
            raise CloudUnreachable("bad_answer", "lost on the way")
        return answer


def enrol_again(fleet: Fleet, device: SyncedDevice, student: Id, *, url: str = "", loses: bool = False) -> Listening:
    """Enrols a device anew, as `carrel enrol` does."""
    gateway = Listening(fleet.url, loses=loses)
    fleet.closing.callback(gateway.close)
    code = fleet.school.code(Grant("student", student))
    Enrolment(device.identity, lambda _: gateway).enrol(url or fleet.url, code, "again")
    return gateway


def states(fleet: Fleet) -> dict[str, State]:
    with fleet.school.database.transaction(snapshot=True) as cursor:
        listed = [d.id for d in enrolled.list_devices(cursor, fleet.school.id)]
        return {id_: overview.device(cursor, fleet.school.id, id_, fleet.school.clock.now_ms()).state for id_ in listed}


def standing_of_erasure(fleet: Fleet) -> Standing:
    with fleet.school.database.transaction(snapshot=True) as cursor:
        (standing,) = standings(cursor)
    return standing


def some_time_later(fleet: Fleet) -> None:
    """What was under way when a device was enrolled again has ended."""
    fleet.server("UPDATE devices SET replaced_at_ms = replaced_at_ms - %s", UNDER_WAY_MAX_MS + 60_000)
    fleet.server("UPDATE devices SET last_seen_ms = last_seen_ms - %s WHERE replaced_at_ms IS NOT NULL", UNDER_WAY_MAX_MS + 120_000)


def test_the_device_that_it_was_is_replaced_and_what_was_queued_goes_under_the_new_name(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(4))
    before, token = laptop.id, laptop.identity.token()
    asked = enrol_again(fleet, laptop, ada).asked
    assert [request.token for request in asked] == [token]
    after = laptop.identity.device_id()
    assert states(fleet) == {before: State.REPLACED, after: State.NEVER}
    assert laptop.sync().outcome == "done"
    assert states(fleet) == {before: State.REPLACED, after: State.CURRENT}
    assert len(fleet.server_rows("question_attempts")) == 4
    with fleet.school.database.transaction(snapshot=True) as cursor:
        old, new = enrolled.list_devices(cursor, fleet.school.id)
        totals = overview.totals(cursor, fleet.school.id, fleet.school.clock.now_ms())
        shown, _ = overview.devices_page(cursor, fleet.school.id, fleet.school.clock.now_ms())
    assert (old.replaced_by, old.revoked_at_ms, old.revocation, new.replaced_by) == (after, None, None, None)
    assert (totals.devices, [row.id for row in shown]) == (1, [after])
    entry = fleet.server("SELECT actor, subject, detail FROM audit_log WHERE action = 'device.replaced'")
    assert entry == [(f"device:{after}", before, {"by": after})]


def test_an_erasure_waits_for_the_device_that_it_has_become_and_not_for_the_one_that_it_was(
    fleet: Fleet, ada: str, laptop: SyncedDevice
) -> None:
    erase(fleet.school.database, fleet.school.clock, fleet.school.ids, fleet.school.id, ada)
    ben = fleet.school.add_user("ben").id
    enrol_again(fleet, laptop, ben)
    standing = standing_of_erasure(fleet)
    assert [device.id for device in standing.waiting] == [laptop.identity.device_id()], "it holds what it held, under another name"
    laptop.sync()
    laptop.sync()
    standing = standing_of_erasure(fleet)
    assert (standing.confirmed, standing.waiting) == (1, ())
    assert laptop.rows("SELECT id FROM users WHERE id = ?", ada) == []


def test_a_copy_that_shares_the_token_goes_on_and_is_counted_as_before(fleet: Fleet, ada: Id, laptop: SyncedDevice, tmp_path: Path) -> None:
    shutil.copytree(laptop.folder, tmp_path / "copy")
    copy = fleet.open(tmp_path / "copy")
    enrol_again(fleet, copy, ada)
    copy.sync()
    some_time_later(fleet)
    assert states(fleet) == {laptop.id: State.REPLACED, copy.identity.device_id(): State.CURRENT}
    laptop.records.record_attempts(ada, fleet.attempts(2))
    assert laptop.sync().outcome == "done"
    assert states(fleet) == {laptop.id: State.CURRENT, copy.identity.device_id(): State.CURRENT}
    erase(fleet.school.database, fleet.school.clock, fleet.school.ids, fleet.school.id, ada)
    assert {device.id for device in standing_of_erasure(fleet).waiting} == {laptop.id, copy.identity.device_id()}


def test_a_device_that_never_got_the_answer_is_what_it_was_and_its_next_enrolment_replaces_both(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    with pytest.raises(CloudUnreachable):
        enrol_again(fleet, laptop, ada, loses=True)
    some_time_later(fleet)
    laptop.records.record_attempts(ada, fleet.attempts(1))
    assert laptop.sync().outcome == "done"
    (lost,) = set(states(fleet)) - {laptop.id}
    assert states(fleet) == {laptop.id: State.CURRENT, lost: State.NEVER}
    enrol_again(fleet, laptop, ada)
    laptop.sync()
    assert states(fleet) == {laptop.id: State.REPLACED, lost: State.REPLACED, laptop.identity.device_id(): State.CURRENT}


def test_a_token_is_shown_to_the_server_alone_that_it_is_of(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    asked = enrol_again(fleet, laptop, ada, url="http://127.0.0.1:1").asked
    assert [request.token for request in asked] == [""]


def test_a_token_of_another_school_changes_nothing_and_tells_nothing(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    other = SchoolBuilder.build(fleet.school.database)
    foreign = other.enrol(Grant("student", other.add_user("eve").id))
    revoked = fleet.school.enrol(Grant("student", ada))
    with fleet.school.database.transaction() as cursor:
        enrolled.revoke(cursor, fleet.school.ids, fleet.school.id, revoked.id, fleet.school.clock.now_ms())
    gateway = Listening(fleet.url)
    fleet.closing.callback(gateway.close)
    shapes = set()
    for token in ("", "nonsense", "\x00💥", foreign.token, revoked.token, laptop.identity.token()):
        answer = gateway.enrol(EnrolRequest(fleet.school.code(Grant("student", ada)), "again", token=token))
        assert answer.school_id == fleet.school.id
        shapes.add(tuple(name for name in answer.__struct_fields__ if getattr(answer, name)))
    assert len(shapes) == 1
    assert fleet.server("SELECT id FROM devices WHERE replaced_by IS NOT NULL") == [(laptop.id,)]


def test_a_refused_code_replaces_nothing(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    gateway = Listening(fleet.url)
    fleet.closing.callback(gateway.close)
    with pytest.raises(CloudUnreachable):
        gateway.enrol(EnrolRequest("0000-0000-0000", "again", token=laptop.identity.token()))
    assert fleet.server("SELECT id FROM devices WHERE replaced_by IS NOT NULL") == []
    assert isinstance(fleet.school.enrol(Grant("student", ada)), EnrolledDevice)
