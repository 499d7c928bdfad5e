"""The school's rows by stick: a bundle brings what the device does not have yet, and nothing of it moves anything back."""

from __future__ import annotations

import pytest

from cloud_api.devices.enrolment import Grant
from cloud_api.people import end_memberships
from domain.errors import BundleRefused
from domain.ids import Id
from domain.registry import TABLES
from tests.support.fleet import Fleet, SyncedDevice
from tests.support.stick import answers, at_school, device_with_keys, everything, taken_at_school, taken_by, written_by

ATTEMPTS = "question_attempts"


def rename(fleet: Fleet, question: str, stem: str) -> None:
    row = fleet.server_rows("questions")
    names = TABLES["questions"].column_names
    found = next(dict(zip(names, r, strict=True)) for r in row if r[0] == question)
    fleet.edit(lambda p, _c: p.put("questions", {**found, "stem": stem}))


def join(fleet: Fleet, class_id: str, student: str) -> str:
    member = fleet.school.ids.new()
    fleet.edit(lambda p, _c: p.put("class_members", {"id": member, "class_id": class_id, "user_id": student, "role": "student"}))
    return member


def leave(fleet: Fleet, class_id: str, student: str, member: str) -> None:
    rows = [{"id": member, "class_id": class_id, "user_id": student, "role": "student"}]
    fleet.edit(lambda p, c: end_memberships(c, p, fleet.school.id, rows, fleet.school.clock.now_ms()))


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
