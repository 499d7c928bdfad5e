"""Sync by stick: what a bundle carries arrives once, whatever came before it, beside it or twice; and nothing of it moves anything back."""

from __future__ import annotations

import secrets
import shutil
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from cloud_api.devices.enrolment import Grant
from cloud_api.people import end_memberships
from cloud_api.publication import Publication
from domain.errors import BundleRefused, Unavailable
from domain.ids import Id
from domain.registry import TABLES
from domain.wire import Limits
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite
from tests.support.stick import at_school, bundles_of, device_with_keys, taken_at_school, taken_by, written_by

ATTEMPTS = "question_attempts"
HOUR_MS = 3_600_000


@pytest.fixture
def laptop(fleet: Fleet, ada: Id) -> SyncedDevice:
    """Ada's laptop, with the course, and keys for bundles."""
    device = device_with_keys(fleet, Grant("student", ada))
    assert device.sync().outcome == "done"
    return device


@pytest.fixture
def tablet(fleet: Fleet, ada: Id) -> SyncedDevice:
    """Ada's tablet, which has never had a network."""
    return device_with_keys(fleet, Grant("student", ada))


def answers(fleet: Fleet) -> list[tuple[Any, ...]]:
    return as_sqlite(fleet.server_rows(ATTEMPTS))


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


def edit(fleet: Fleet, change: Any) -> None:
    publication = Publication(fleet.school.id)
    with fleet.school.database.transaction() as cursor:
        change(publication, cursor)
        publication.write(cursor, fleet.school.clock.now_ms())


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


# --- operations up, answers down


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


# --- logs that have parted


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


# --- the feed


def rename(fleet: Fleet, question: str, stem: str) -> None:
    row = fleet.server_rows("questions")
    names = TABLES["questions"].column_names
    found = next(dict(zip(names, r, strict=True)) for r in row if r[0] == question)
    edit(fleet, lambda p, _c: p.put("questions", {**found, "stem": stem}))


def join(fleet: Fleet, class_id: str, student: str) -> str:
    member = fleet.school.ids.new()
    edit(fleet, lambda p, _c: p.put("class_members", {"id": member, "class_id": class_id, "user_id": student, "role": "student"}))
    return member


def leave(fleet: Fleet, class_id: str, student: str, member: str) -> None:
    rows = [{"id": member, "class_id": class_id, "user_id": student, "role": "student"}]
    edit(fleet, lambda p, c: end_memberships(c, p, fleet.school.id, rows, fleet.school.clock.now_ms()))


def test_a_feed_without_the_part_before_it_is_refused_and_changes_nothing(fleet: Fleet, ada: str, laptop: SyncedDevice) -> None:
    at_first = written_by(laptop)
    rename(fleet, fleet.questions[0], "later")
    carried = taken_at_school(fleet, at_first).answer
    laptop.change("UPDATE cursors SET cursor = cursor - 1 WHERE scope = 'school'")
    before = everything(laptop)
    with pytest.raises(BundleRefused, match="begins after") as refused:
        taken_by(laptop, carried.data)
    assert (refused.value.code, everything(laptop)) == ("bundle_stale", before)


def test_NO_RESURRECTION_an_older_feed_brings_nothing_back(fleet: Fleet, ada: str) -> None:
    class_id = fleet.add_class("Knots 1")
    member, ben = join(fleet, class_id, ada), fleet.school.add_user("ben").id
    lab = device_with_keys(fleet, Grant("class", class_id))
    with_ada = at_school(fleet).give(lab.id).data
    leave(fleet, class_id, ada, member)
    join(fleet, class_id, ben)
    rename(fleet, fleet.questions[0], "later")
    lab.sync()
    before = everything(lab)
    taken = taken_by(lab, with_ada)
    assert (taken.older, taken.rows, everything(lab)) == (True, 0, before)
    assert lab.value("SELECT count(*) FROM class_members") == 1


def test_a_feed_from_the_beginning_leaves_out_what_the_device_has_passed_already(fleet: Fleet, ada: Id) -> None:
    class_id = fleet.add_class("Knots 1")
    member = join(fleet, class_id, ada)
    lab = device_with_keys(fleet, Grant("class", class_id))
    lab.sync()
    lab.records.record_attempts(ada, fleet.attempts(3))
    lab.sync()
    leave(fleet, class_id, ada, member)
    rename(fleet, fleet.questions[0], "later")
    taken = taken_by(lab, at_school(fleet).give(lab.id, anew=True).data)
    assert 0 < taken.rows < len(fleet.questions), "only what is new"
    assert lab.value("SELECT stem FROM questions WHERE id = ?", fleet.questions[0]) == "later"
    assert (lab.synced_rows("class_members"), lab.synced_rows(ATTEMPTS)) == ([], [])
    join(fleet, class_id, ada)
    assert lab.sync().outcome == "done"
    assert lab.synced_rows(ATTEMPTS) == answers(fleet), "what it wrote itself comes back with the scope"


def test_a_feed_goes_on_from_where_the_devices_last_bundle_said_it_was(fleet: Fleet, laptop: SyncedDevice) -> None:
    taken_by(laptop, taken_at_school(fleet, written_by(laptop)).answer.data)
    rename(fleet, fleet.questions[0], "later")
    made = at_school(fleet).give(laptop.id)
    assert made.rows == 1
    assert at_school(fleet).give(laptop.id, anew=True).rows > len(fleet.questions)
    taken_by(laptop, made.data)
    assert laptop.value("SELECT stem FROM questions WHERE id = ?", fleet.questions[0]) == "later"
    assert taken_by(laptop, made.data).rows == 0


def test_a_feed_that_does_not_fit_comes_in_several_bundles(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud_api.bundles.carried_feed.PAGE_ROWS_MAX", 7)
    monkeypatch.setattr("cloud_api.bundles.exchange._CONTENT_BYTES_MAX", 4_000)
    laptop.records.record_attempts(ada, fleet.attempts(30))
    laptop.sync()
    bundles = 0
    while True:
        bundles += 1
        if not taken_by(tablet, taken_at_school(fleet, written_by(tablet)).answer.data).more:
            break
    assert bundles > 1
    for table in TABLES:
        assert tablet.rows(f"SELECT id, feed_no FROM {table} ORDER BY id") == laptop.rows(f"SELECT id, feed_no FROM {table} ORDER BY id")


def test_a_device_that_was_away_for_too_long_fetches_everything_by_stick(fleet: Fleet, ada: str) -> None:
    class_id = fleet.add_class("Knots 1")
    member = join(fleet, class_id, ada)
    join(fleet, class_id, fleet.school.add_user("ben").id)
    lab = device_with_keys(fleet, Grant("class", class_id))
    lab.sync()
    leave(fleet, class_id, ada, member)
    rename(fleet, fleet.questions[0], "later")
    fleet.server("DELETE FROM tombstones")
    fleet.server("UPDATE schools SET tombstone_floor = head")
    carried = taken_at_school(fleet, written_by(lab)).answer
    rename(fleet, fleet.questions[0], "latest")
    assert taken_by(lab, carried.data).anew is True
    assert len(lab.synced_rows("class_members")) == 1
    assert lab.value("SELECT rebaselining FROM sync_progress") == "no"
    with pytest.raises(BundleRefused, match="begun anew"):
        taken_by(lab, carried.data)


def test_a_queued_change_stays_visible_over_what_a_bundle_brings(fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice) -> None:
    laptop.records.update_profile(ada, {"available_minutes": [10] * 7})
    laptop.sync()
    taken_by(tablet, at_school(fleet).give(tablet.id).data)
    tablet.records.update_profile(ada, {"available_minutes": [20] * 7})
    laptop.records.update_profile(ada, {"exam_on": "2027-05-04"})
    laptop.sync()
    taken_by(tablet, at_school(fleet).give(tablet.id, anew=True).data)
    assert tablet.rows("SELECT exam_on, available_minutes FROM student_profiles") == [("2027-05-04", "[20,20,20,20,20,20,20]")]


def test_CONVERGENCE_a_change_whose_outcome_came_by_stick_before_its_answer_gives_way_to_it(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    other = device_with_keys(fleet, Grant("student", ada))
    other.sync()
    laptop.records.update_profile(ada, {"grade": "6"})
    other.records.update_profile(ada, {"grade": "7"})
    other.sync()
    laptop.gateway.lose_answers = 1
    assert laptop.sync().outcome == "bad_answer"  # it lost against the later change, and does not know
    taken_by(laptop, at_school(fleet).give(laptop.id).data)
    assert laptop.value("SELECT grade FROM student_profiles") == "6"
    assert laptop.sync().outcome == "done"
    assert laptop.value("SELECT grade FROM student_profiles") == "7"
    assert laptop.synced_rows("student_profiles") == other.synced_rows("student_profiles")
    assert laptop.value("SELECT count(*) FROM shadows") == 0


@pytest.mark.parametrize("granted", [True, False])
def test_NO_LEAK_a_feed_of_before_a_grant_was_changed_counts_only_until_the_next_sync(
    fleet: Fleet, ada: str, laptop: SyncedDevice, granted: bool
) -> None:
    grant = "UPDATE device_grants SET ended_at_ms = %s WHERE device_id = %s"
    fleet.server(grant, 1 if granted else None, laptop.id)
    of_before = at_school(fleet).give(laptop.id).data
    fleet.server(grant, None if granted else 1, laptop.id)
    laptop.sync()
    follows = "SELECT count(*) FROM cursors WHERE scope = ?", f"student:{ada}"
    assert bool(laptop.value(*follows)) is granted
    taken_by(laptop, of_before)
    assert bool(laptop.value(*follows)) is not granted
    laptop.sync()
    assert bool(laptop.value(*follows)) is granted


def test_own_rows_are_not_left_out_of_a_feed(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(2))
    for _ in laptop.rounds._pusher.push_all(*laptop.rounds._way()):
        pass
    assert taken_at_school(fleet, written_by(laptop)).answer.rows == 2


def test_a_bundle_without_the_feed_only_answers(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    rename(fleet, fleet.questions[0], "later")
    laptop.records.record_attempts(ada, fleet.attempts(1))
    taken = taken_by(laptop, taken_at_school(fleet, written_by(laptop), with_feed=False).answer.data)
    assert (taken.settled, taken.rows) == (1, 0)
    assert laptop.value("SELECT stem FROM questions WHERE id = ?", fleet.questions[0]) != "later"


# --- clocks


def times_off(fleet: Fleet) -> list[int]:
    """What was added to each stored time."""
    return [ms for (ms,) in fleet.server("SELECT corrected_at_ms - answered_at_ms FROM question_attempts ORDER BY id")]


def test_the_arrival_of_a_bundle_says_nothing_about_the_devices_clock(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    taken_by(tablet, at_school(fleet).give(tablet.id).data)
    for device in (laptop, tablet):  # one has heard of the server's time, the other never
        device.clock.ahead_ms = -HOUR_MS
        device.records.record_attempts(ada, fleet.attempts(1))
        device.clock.ahead_ms = 0
    from_laptop, from_tablet = written_by(laptop), written_by(tablet)
    taken_at_school(fleet, from_tablet)
    assert times_off(fleet) == [None], "nobody can tell"
    taken_at_school(fleet, from_laptop)
    assert fleet.server("SELECT count(*) FROM question_attempts WHERE corrected_at_ms - answered_at_ms BETWEEN 3590000 AND 3610000") == [
        (1,)
    ]
    assert fleet.server("SELECT count(*) FROM question_attempts WHERE time_doubtful") == [(0,)]


def test_a_bundle_that_lay_for_days_is_not_taken_for_one_of_a_slow_clock(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.clock.ahead_ms = -5 * 24 * HOUR_MS  # both clocks of the day on which it was written
    laptop.rounds._server_time.heard(laptop.clock.now_ms())
    laptop.records.record_attempts(ada, fleet.attempts(2))
    taken_at_school(fleet, written_by(laptop))
    assert times_off(fleet) == [None, None]


def test_a_time_in_the_future_becomes_that_of_the_arrival_and_is_flagged(fleet: Fleet, ada: Id, tablet: SyncedDevice) -> None:
    taken_by(tablet, at_school(fleet).give(tablet.id).data)
    tablet.clock.ahead_ms = 30 * 24 * HOUR_MS
    tablet.records.record_attempts(ada, fleet.attempts(2))
    imported = taken_at_school(fleet, written_by(tablet))
    now_ms = fleet.school.clock.now_ms()
    stored = fleet.server("SELECT corrected_at_ms, time_doubtful FROM question_attempts")
    assert all(0 <= now_ms - at_ms < 60_000 and doubtful for at_ms, doubtful in stored)
    taken_by(tablet, imported.answer.data)
    folded = "SELECT id, corrected_at_ms FROM question_attempts ORDER BY id"
    assert tablet.rows(folded) == fleet.server(folded)


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
