"""Bundles of devices that were copied or restored, and of a server that was: what anybody still has is at school in the end."""

from __future__ import annotations

import pytest

from domain.errors import BundleRefused
from domain.ids import Id
from tests.support.fleet import Fleet, SyncedDevice
from tests.support.stick import answers, at_school, copy_of, everything, restore_server, taken_at_school, taken_by, written_by

ATTEMPTS = "question_attempts"


def test_EXACTLY_ONCE_two_copies_of_a_device_by_stick(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    twin = copy_of(fleet, laptop)
    laptop.records.record_attempts(ada, fleet.attempts(2))
    twin.records.record_attempts(ada, fleet.attempts(2))
    first, second = taken_at_school(fleet, written_by(laptop)), taken_at_school(fleet, written_by(twin))
    assert (first.parted, second.parted, second.taken) == ("", "fork", 2)
    assert len(answers(fleet)) == 7
    assert taken_by(laptop, first.answer.data).anew is False
    assert taken_by(twin, second.answer.data).anew is True
    assert twin.rounds.status().pending == 0
    for device in (laptop, twin):
        taken_by(device, taken_at_school(fleet, written_by(device)).answer.data)
        assert device.synced_rows(ATTEMPTS) == answers(fleet)
        assert device.sync().outcome == "done"
        assert device.synced_rows(ATTEMPTS) == answers(fleet)


def test_NO_LOST_OP_a_device_restored_from_an_older_copy_sends_by_stick_what_it_wrote_since(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    older = copy_of(fleet, laptop)
    laptop.records.record_attempts(ada, fleet.attempts(6))
    laptop.sync()
    older.records.record_attempts(ada, fleet.attempts(2))
    imported = taken_at_school(fleet, written_by(older))  # its log is shorter than the server's: nobody can tell the two apart yet
    assert (imported.taken, len(answers(fleet))) == (2, 8)
    taken_by(older, imported.answer.data)
    assert older.sync().outcome == "done"
    older.records.record_attempts(ada, fleet.attempts(9))
    assert older.sync().outcome == "done"
    assert older.synced_rows(ATTEMPTS) == answers(fleet)
    assert len(answers(fleet)) == 17


def test_an_answer_of_before_a_new_incarnation_is_refused_and_changes_nothing(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    imported = taken_at_school(fleet, written_by(laptop))
    laptop.database.write(lambda conn: laptop.identity.start_incarnation(conn, resend_all=False))
    before = everything(laptop)
    with pytest.raises(BundleRefused, match="begun anew") as refused:
        taken_by(laptop, imported.answer.data)
    assert (refused.value.code, everything(laptop)) == ("bundle_stale", before)


def test_an_answer_to_a_log_that_this_file_does_not_have_is_refused(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    older = copy_of(fleet, laptop)
    laptop.records.record_attempts(ada, fleet.attempts(3))
    imported = taken_at_school(fleet, written_by(laptop))
    older.records.record_attempts(ada, fleet.attempts(3))
    before = everything(older)
    with pytest.raises(BundleRefused, match="another log"):
        taken_by(older, imported.answer.data)
    assert everything(older) == before


def test_a_server_that_was_restored_is_refilled_by_stick(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(5))
    laptop.sync()
    restore_server(fleet)
    laptop.records.record_attempts(ada, fleet.attempts(1))
    first = taken_at_school(fleet, written_by(laptop))
    assert (first.parted, len(answers(fleet))) == ("ahead", 1)
    assert taken_by(laptop, first.answer.data).anew is True
    assert laptop.rounds.status().pending == 6
    taken_by(laptop, taken_at_school(fleet, written_by(laptop)).answer.data)
    assert len(answers(fleet)) == 6
    assert laptop.synced_rows(ATTEMPTS) == answers(fleet)
    assert laptop.sync().outcome == "done"
    assert (laptop.rounds.status().state, laptop.synced_rows(ATTEMPTS)) == ("synced", answers(fleet))


def test_a_server_that_lost_something_without_knowing_it_is_refilled_by_stick(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(5))
    laptop.sync()
    fleet.server("DELETE FROM question_attempts")
    fleet.server("UPDATE device_incarnations SET last_seq = 0, chain = decode(repeat('00', 16), 'hex')")
    laptop.records.record_attempts(ada, fleet.attempts(1))
    for _ in range(2):
        taken_by(laptop, taken_at_school(fleet, written_by(laptop)).answer.data)
    assert len(answers(fleet)) == 6
    assert laptop.synced_rows(ATTEMPTS) == answers(fleet)


def test_a_feed_of_another_life_of_the_server_is_refused_until_the_device_has_been_answered(fleet: Fleet, laptop: SyncedDevice) -> None:
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")
    before = everything(laptop)
    with pytest.raises(BundleRefused, match="restored") as refused:
        taken_by(laptop, at_school(fleet).give(laptop.id).data)
    assert (refused.value.code, everything(laptop)) == ("bundle_stale", before)
    assert taken_by(laptop, taken_at_school(fleet, written_by(laptop)).answer.data).anew is True
    assert taken_by(laptop, at_school(fleet).give(laptop.id, anew=True).data).older is False
