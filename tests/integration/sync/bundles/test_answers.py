"""Sync by stick: what a device's bundle carries is at school once, whatever came before it, beside it or twice, and is settled by the answer."""

from __future__ import annotations

import pytest

from domain.errors import Unavailable
from domain.ids import Id
from domain.wire import Limits
from tests.support.fleet import Fleet, SyncedDevice
from tests.support.stick import answers, at_school, bundles_of, holdings, taken_at_school, taken_by, written_by

ATTEMPTS = "question_attempts"


def test_answers_carried_by_stick_are_at_school_and_settled_by_the_answer(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(5))
    laptop.records.update_profile(ada, {"grade": "7"})
    imported = taken_at_school(fleet, written_by(laptop))
    assert (imported.operations, imported.taken, imported.parted) == (6, 6, "")
    assert laptop.value("SELECT count(*) FROM sync_operations WHERE state = 'pending'") == 6
    taken = taken_by(laptop, imported.answer.data)
    assert (taken.settled, taken.rejected, taken.anew, taken.older) == (6, 0, False, False)
    assert laptop.synced_rows(ATTEMPTS) == answers(fleet)
    numbers = "SELECT id, feed_no FROM question_attempts ORDER BY id"
    assert laptop.rows(numbers) == fleet.server(numbers)
    before, requests = holdings(fleet), len(laptop.gateway.requests)
    assert laptop.sync().outcome == "done"
    assert (laptop.rounds.status().state, holdings(fleet)) == ("synced", before)
    assert all(not hasattr(request, "runs") for request in laptop.gateway.requests[requests:]), "nothing was to be pushed any more"


def test_a_device_that_never_has_a_network_gets_everything_and_gives_everything_by_stick(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(4))
    laptop.sync()
    taken = taken_by(tablet, at_school(fleet).give(tablet.id).data)
    assert not taken.more
    assert tablet.value("SELECT count(*) FROM questions") == len(fleet.questions)
    assert tablet.synced_rows(ATTEMPTS) == answers(fleet)
    tablet.records.record_attempts(ada, fleet.attempts(3))
    taken_by(tablet, taken_at_school(fleet, written_by(tablet)).answer.data)
    laptop.sync()
    assert laptop.synced_rows(ATTEMPTS) == tablet.synced_rows(ATTEMPTS) == answers(fleet)
    assert tablet.gateway.requests == []


def test_EXACTLY_ONCE_a_bundle_taken_in_twice_is_all_duplicates(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(5))
    laptop.records.update_profile(ada, {"grade": "7"})
    data = written_by(laptop)
    first = taken_at_school(fleet, data)
    before = holdings(fleet)
    again = taken_at_school(fleet, data)
    assert (again.taken, again.verdicts, again.parted) == (0, {"duplicate": 6}, "")
    assert holdings(fleet) == before
    for carried in (again, first, again):
        taken_by(laptop, carried.answer.data)
    assert laptop.rounds.status().pending == 0
    assert laptop.synced_rows(ATTEMPTS) == answers(fleet)


def test_an_older_bundle_after_a_newer_one_is_all_duplicates_and_moves_nothing_back(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    laptop.records.update_profile(ada, {"grade": "7"})
    older = written_by(laptop)
    laptop.records.record_attempts(ada, fleet.attempts(2))
    laptop.records.update_profile(ada, {"grade": "8"})
    newer = taken_at_school(fleet, written_by(laptop))
    place, rows = fleet.server("SELECT last_seq, chain FROM device_incarnations"), answers(fleet)
    late = taken_at_school(fleet, older)
    assert (late.taken, late.verdicts, late.parted) == (0, {"duplicate": 4}, "")
    assert fleet.server("SELECT last_seq, chain FROM device_incarnations") == place
    assert (answers(fleet), fleet.server("SELECT grade FROM student_profiles")) == (rows, [("8",)])
    assert fleet.server("SELECT * FROM sync_conflicts") == []
    incarnation = laptop.value("SELECT incarnation FROM sync_progress")
    assert taken_by(laptop, newer.answer.data).settled == 7
    assert taken_by(laptop, late.answer.data).settled == 0
    laptop.sync()
    assert laptop.value("SELECT incarnation FROM sync_progress") == incarnation
    assert laptop.value("SELECT grade FROM student_profiles") == "8"


@pytest.mark.parametrize("order", ["before", "after", "answer lost"])
def test_EXACTLY_ONCE_a_bundle_that_overlaps_with_pushes_over_the_network(fleet: Fleet, ada: Id, laptop: SyncedDevice, order: str) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(4))
    bundle = written_by(laptop)
    if order == "before":
        imported = taken_at_school(fleet, bundle)
        laptop.records.record_attempts(ada, fleet.attempts(2))
        laptop.sync()
    else:
        laptop.records.record_attempts(ada, fleet.attempts(2))
        laptop.gateway.lose_answers = int(order == "answer lost")
        laptop.sync()
        imported = taken_at_school(fleet, bundle)
    assert taken_by(laptop, imported.answer.data).anew is False
    laptop.sync()
    assert len(answers(fleet)) == 6
    assert laptop.synced_rows(ATTEMPTS) == answers(fleet)
    assert laptop.rounds.status().state == "synced"


def test_what_the_school_refuses_is_kept_as_a_dead_letter_and_shown_on_the_device(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    laptop.change("UPDATE sync_operations SET payload = replace(payload, '\"free\"', '\"fun\"') WHERE op_no = 2")
    imported = taken_at_school(fleet, written_by(laptop))
    assert imported.verdicts == {"rejected": 1}
    assert fleet.server("SELECT code FROM dead_letters") == [("invalid_value",)]
    assert taken_by(laptop, imported.answer.data).rejected == 1
    assert laptop.rows("SELECT op_no, code FROM sync_operations WHERE state = 'rejected'") == [(2, "invalid_value")]


def test_an_answer_settles_no_more_than_the_bundle_held(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(3))
    imported = taken_at_school(fleet, written_by(laptop))
    laptop.records.record_attempts(ada, fleet.attempts(2))
    assert taken_by(laptop, imported.answer.data).settled == 3
    assert laptop.rounds.status().pending == 2


def test_a_bundle_holds_as_much_as_fits_and_the_next_the_rest(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.bundles.exchange.BATCH_OPS_MAX", 4)
    monkeypatch.setattr("daemon.bundles.exchange.FRAME_BYTES_MAX", 16 * 1024 * 1024 - 4_000)
    laptop.records.record_attempts(ada, fleet.attempts(20))
    sent = []
    while laptop.rounds.status().pending:
        collected = bundles_of(laptop).collect()
        assert collected.operations + collected.left == laptop.rounds.status().pending
        sent.append(collected.operations)
        taken_by(laptop, taken_at_school(fleet, written_by(laptop)).answer.data)
    assert len(sent) > 1
    assert len(answers(fleet)) == sum(sent) == 20


def test_answers_that_do_not_fit_are_given_to_the_next_bundle(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.bundles.exchange.BATCH_OPS_MAX", 2)
    monkeypatch.setattr("cloud_api.bundles.exchange._CONTENT_BYTES_MAX", 1_500)
    laptop.records.record_attempts(ada, fleet.attempts(12))
    settled = []
    while laptop.rounds.status().pending:
        settled.append(taken_by(laptop, taken_at_school(fleet, written_by(laptop)).answer.data).settled)
        assert settled[-1] > 0
    assert len(settled) > 1
    assert len(answers(fleet)) == sum(settled) == 12


def test_a_bundle_is_audited(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))
    taken_at_school(fleet, written_by(laptop))
    at_school(fleet).give(laptop.id)
    found = fleet.server("SELECT action, subject, detail->>'operations' FROM audit_log WHERE action LIKE 'bundle.%%' ORDER BY action")
    assert found == [("bundle.exported", laptop.id, None), ("bundle.imported", laptop.id, "2")]


def test_no_sync_round_runs_while_a_bundle_is_taken_in(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(1))
    data = taken_at_school(fleet, written_by(laptop)).answer.data
    monkeypatch.setattr("daemon.sync.round.ROUND_WAIT_MAX_S", 0.01)
    with laptop.rounds._running, pytest.raises(Unavailable, match="round"):
        taken_by(laptop, data)
    assert laptop.rounds.status().pending == 1
    assert taken_by(laptop, data).settled == 1


def test_an_answer_says_nothing_about_operations_that_were_settled_before_it_came(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(4))
    data = written_by(laptop)
    laptop.rounds._pusher._limits = Limits(2, 262_144)
    next(laptop.rounds._pusher.push_all(*laptop.rounds._way()))  # the first half, over the network
    laptop.change("UPDATE question_attempts SET feed_no = 90000 WHERE feed_no > 0")  # as if it had come down anew since
    assert taken_by(laptop, taken_at_school(fleet, data).answer.data).settled == 2
    assert laptop.value("SELECT count(*) FROM question_attempts WHERE feed_no = 90000") == 2
    assert laptop.value("SELECT count(*) FROM question_attempts WHERE feed_no = 0") == 0


def test_NO_WEDGE_an_operation_that_no_server_can_read_is_set_aside_when_the_bundle_is_written(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(5))
    spoiler = laptop.value("SELECT row_id FROM sync_operations WHERE op_no = 3")
    laptop.change("UPDATE sync_operations SET payload = '[7]' WHERE op_no = 3")
    imported = taken_at_school(fleet, written_by(laptop))
    assert (imported.operations, imported.taken, imported.verdicts) == (5, 4, {"rejected": 1})
    taken = taken_by(laptop, imported.answer.data)
    assert (taken.settled, taken.rejected) == (5, 1)
    assert laptop.rows("SELECT row_id, code FROM sync_operations WHERE state = 'rejected'") == [(spoiler, "set_aside")]
    assert laptop.value("SELECT count(*) FROM question_attempts WHERE id = ?", spoiler) == 1
    assert laptop.sync().outcome == "done"
    assert len(fleet.server_rows(ATTEMPTS)) == 4
