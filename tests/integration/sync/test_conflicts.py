"""Values that lose a merge: all of them are kept, travel to those whom they concern, and come back when the school says so."""

from __future__ import annotations

import json
import random
from functools import partial
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from cloud_api.cli import main
from cloud_api.devices.enrolment import Grant
from cloud_api.publication import Publication, scope_of
from cloud_api.repair.field_edits import FieldEdit, edit_fields
from cloud_api.sync import settled
from daemon.records import NewPlanItem
from domain.errors import Conflict, InvalidInput, NotFound
from domain.ids import Id
from domain.merge import SERVER_WRITER
from domain.registry import ScopeKind
from domain.wire import PushRequest
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite

WEEK = [30] * 7


def conflicts(fleet: Fleet) -> list[tuple[Any, ...]]:
    """(field, lost, kept, base, rule) of every conflict, in the order of the feed."""
    return fleet.server("SELECT field, lost_value, kept_value, base_value, rule FROM sync_conflicts ORDER BY feed_no, field")


def teach(fleet: Fleet, student: str, fields: dict[str, Any], **options: Any) -> None:
    """A teacher's change of a profile."""
    with fleet.school.database.transaction() as cursor:
        edit = FieldEdit(fleet.school.id, "student_profiles", student, fields, **options)
        edit_fields(cursor, fleet.school.ids.new, edit, fleet.school.clock.now_ms())


def carrel_cloud(fleet: Fleet, *arguments: str, exits: int = 0) -> Result:
    """A command on the fleet's server."""
    result = CliRunner().invoke(main, [*arguments, "--school", fleet.school.id], env={"DATABASE_URL": fleet.school.database.url})
    assert result.exit_code == exits, result.output
    return result


def converged(fleet: Fleet, *devices: SyncedDevice) -> bool:
    tables = ("student_profiles", "study_plan_items", "sync_conflicts")
    return all(_plain(d.synced_rows(t)) == _plain(as_sqlite(fleet.server_rows(t))) for d in devices for t in tables)


def _plain(rows: list[tuple[Any, ...]]) -> list[list[Any]]:
    """JSON columns opened, so that both sides' spellings compare."""
    return [[json.loads(v) if isinstance(v, str) and v[:1] in '[{"' else v for v in row] for row in rows]


def test_LOSER_KEPT_a_value_that_is_overwritten_unseen_is_kept_with_what_its_replacer_had_seen(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    tablet.records.update_profile(ada, {"available_minutes": [1] * 7})
    tablet.sync()
    laptop.records.update_profile(ada, {"available_minutes": [2] * 7})  # later, and without having seen the other
    laptop.sync()
    tablet.sync()
    assert conflicts(fleet) == [("available_minutes", [1] * 7, [2] * 7, None, "later_clock")]
    (lost_clock, device) = fleet.server("SELECT lost_clock, device_id FROM sync_conflicts")[0]
    assert (lost_clock[1], device) == (tablet.id, laptop.id)


def test_a_chain_of_changes_of_one_device_replaces_what_it_has_seen_and_makes_no_conflict(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    for grade in ("5", "6", "7"):
        laptop.records.update_profile(ada, {"grade": grade})
    laptop.sync()
    laptop.records.update_profile(ada, {"grade": "8"})  # its own change is settled, and not pulled back yet
    laptop.sync()
    tablet.sync()
    tablet.records.update_profile(ada, {"grade": "9"})
    tablet.sync()
    laptop.sync()
    assert conflicts(fleet) == []
    assert converged(fleet, laptop, tablet)


def test_a_line_of_a_plan_is_changed_in_sight_of_how_it_was_made(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.add_plan(ada, _PLAN, [NewPlanItem(fleet.concepts[0], "2026-12-01", "new", 8, "first")])
    item = laptop.value("SELECT id FROM study_plan_items")
    laptop.records.update_plan_item(ada, item, {"status": "moved", "moved_to": "2026-12-02"})
    laptop.sync()
    laptop.sync()
    assert conflicts(fleet) == []
    assert converged(fleet, laptop)


_PLAN = {"starts_on": "2026-12-01", "days": 7, "planner_version": "test", "forecast": None}


def test_an_older_device_that_does_not_say_what_it_replaced_is_merged_as_before(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    tablet.records.update_profile(ada, {"grade": "7"})
    tablet.sync()
    laptop.records.update_profile(ada, {"grade": "8"})
    laptop.gateway.before_push = partial(_with_base, None)
    laptop.sync()
    assert conflicts(fleet) == []
    assert fleet.server("SELECT grade FROM student_profiles") == [("8",)]


STRANGE_BASES: tuple[Any, ...] = (
    {"c": {"grade": ["6"]}}, {"c": {"grade": [{"a": "\x00"}, None]}}, {"c": {"grade": ["7", [2**80, "x"]]}}, {"c": {"": [1, 2]}},
    {"c": {"grade": ["6", None], "id": ["x", None]}}, {"c": 7}, [[]], [[], []], "?", {"c": {"grade": ["x" * 41, [1, "z"]]}},
)  # fmt: skip


def test_NO_WEDGE_what_a_device_says_it_replaced_spoils_nothing_whatever_it_says(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    for number, base in enumerate(STRANGE_BASES):
        tablet.records.update_profile(ada, {"grade": f"tablet {number}"})
        tablet.sync()
        laptop.records.update_profile(ada, {"grade": f"laptop {number}"})
        laptop.gateway.before_push = partial(_with_base, base)
        assert (laptop.sync().outcome, laptop.rounds.status().pending) == ("done", 0), base
        tablet.sync()
        assert conflicts(fleet)[number][:3] == ("grade", f"tablet {number}", f"laptop {number}")


def _with_base(base: Any, request: PushRequest) -> PushRequest:
    return msgspec.structs.replace(request, runs=[msgspec.structs.replace(run, base=base) for run in request.runs])


def test_a_log_that_is_sent_again_makes_no_conflicts_whatever_was_changed_since(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    for minutes in (10, 20):
        laptop.records.update_profile(ada, {"grade": str(minutes), "available_minutes": [minutes] * 7})
    laptop.sync()
    tablet.sync()
    tablet.records.update_profile(ada, {"grade": "8"})
    tablet.sync()
    for device in (laptop, tablet, laptop):
        device.database.write(lambda conn, d=device: d.identity.start_incarnation(conn, resend_all=True))  # type: ignore[misc]
        assert device.sync().rejected == 0
    tablet.sync()
    assert conflicts(fleet) == []
    assert fleet.server("SELECT grade, available_minutes FROM student_profiles") == [("8", [20] * 7)]
    assert converged(fleet, laptop, tablet)


def test_a_restored_server_makes_no_conflict_of_what_was_replaced_in_sight_whoever_refills_it_first(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    laptop.records.update_profile(ada, {"grade": "7"})
    laptop.sync()
    tablet.sync()
    tablet.records.update_profile(ada, {"grade": "8"})
    tablet.sync()
    for lost in ("DELETE FROM student_profiles", "DELETE FROM settled_values", "DELETE FROM device_incarnations"):
        fleet.server(lost)
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")
    for device in (tablet, tablet, laptop, laptop, tablet):
        device.sync()
    assert conflicts(fleet) == []
    assert fleet.server("SELECT grade FROM student_profiles") == [("8",)]
    assert converged(fleet, laptop, tablet)


def test_a_conflict_is_recorded_once_however_often_its_change_is_sent(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    laptop.records.update_profile(ada, {"grade": "earlier"})
    tablet.records.update_profile(ada, {"grade": "later"})
    tablet.sync()
    laptop.sync()
    for _ in range(2):
        laptop.database.write(lambda conn: laptop.identity.start_incarnation(conn, resend_all=True))
        laptop.sync()
    assert len(conflicts(fleet)) == 1


def test_both_copies_of_a_device_keep_what_they_wrote_at_the_same_moment(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.sync()
    twin = fleet.open(laptop.copied())
    clock = (fleet.school.clock.now_ms() + 60_000) << 16
    for device, grade in ((laptop, "7"), (twin, "8")):
        device.records._hlc.observe(clock)
        device.records.update_profile(ada, {"grade": grade})
        device.sync()
    assert [c[:3] for c in conflicts(fleet)] == [("grade", "8", "7")]
    twin.sync()
    assert twin.value("SELECT grade FROM student_profiles") == "7"


def test_conflicts_come_down_to_the_students_devices_and_to_nobody_else(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    other = fleet.device(Grant("student", fleet.school.add_user("ben").id))
    laptop.records.update_profile(ada, {"grade": "earlier"})
    tablet.records.update_profile(ada, {"grade": "later"})
    for device in (tablet, laptop, tablet, other):
        device.sync()
    assert converged(fleet, laptop, tablet)
    for device in (laptop, tablet):
        assert device.rows("SELECT student_id, lost_value, kept_value FROM sync_conflicts") == [(ada, '"earlier"', '"later"')]
    assert other.synced_rows("sync_conflicts") == []


def test_LOSER_KEPT_a_teachers_word_over_a_devices_value_keeps_the_value_unless_the_teacher_saw_it(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    laptop.records.update_profile(ada, {"grade": "7", "available_minutes": WEEK})
    laptop.sync()
    teach(fleet, ada, {"grade": "8"}, seen={"grade": "7"})
    assert conflicts(fleet) == []
    teach(fleet, ada, {"available_minutes": [5] * 7})
    assert conflicts(fleet) == [("available_minutes", WEEK, [5] * 7, None, "later_clock")]
    laptop.sync()
    assert laptop.rows("SELECT grade, available_minutes FROM student_profiles") == [("8", "[5,5,5,5,5,5,5]")]
    assert converged(fleet, laptop)


def test_the_schools_word_wins_over_a_clock_that_runs_ahead_and_is_the_last_in_its_own_fields(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    laptop.records._hlc.observe((fleet.school.clock.now_ms() + 200_000) << 16)
    laptop.records.update_profile(ada, {"grade": "7"})
    laptop.sync()
    teach(fleet, ada, {"grade": "8"})
    laptop.sync()
    laptop.records.update_profile(ada, {"grade": "9"})
    laptop.sync()
    laptop.sync()
    assert laptop.value("SELECT grade FROM student_profiles") == "8"
    assert conflicts(fleet)[-1] == ("grade", "9", "8", "8", "teacher_first")


@pytest.mark.parametrize(
    ("table", "fields", "error"),
    [
        ("student_profiles", {"grade": "x" * 99}, InvalidInput),
        ("student_profiles", {"id": "x"}, InvalidInput),
        ("student_profiles", {}, InvalidInput),
        ("question_attempts", {"answer": "x"}, InvalidInput),
        ("study_plan_items", {"status": "done"}, NotFound),
    ],
)
def test_the_school_sets_only_what_may_be_set(fleet: Fleet, ada: str, table: str, fields: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error), fleet.school.database.transaction() as cursor:
        edit_fields(cursor, fleet.school.ids.new, FieldEdit(fleet.school.id, table, ada, fields), fleet.school.clock.now_ms())


# --- deletion


def delete_item(fleet: Fleet, student: str, item: str) -> None:
    publication = Publication(fleet.school.id)
    publication.delete("study_plan_items", item, scope_of(ScopeKind.STUDENT, student))
    with fleet.school.database.transaction() as cursor:
        publication.write(cursor, fleet.school.clock.now_ms())


def test_NO_RESURRECTION_a_change_of_a_deleted_row_is_kept_as_a_conflict_and_the_row_stays_away(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    laptop.records.add_plan(ada, _PLAN, [NewPlanItem(c, "2026-12-01", "new", 8, "first") for c in fleet.concepts])
    laptop.sync()
    tablet.sync()
    gone = laptop.value("SELECT id FROM study_plan_items WHERE position = 0")
    delete_item(fleet, ada, gone)
    laptop.records.update_plan_item(ada, gone, {"status": "done"})
    assert laptop.sync().rejected == 0
    assert conflicts(fleet) == [("status", "done", None, "planned", "deleted")]
    assert fleet.server("SELECT count(*) FROM dead_letters") == [(0,)]
    for device in (laptop, tablet, laptop):
        device.sync()
        assert device.value("SELECT count(*) FROM study_plan_items WHERE id = ?", gone) == 0
    assert converged(fleet, laptop, tablet)


def test_NO_RESURRECTION_a_restored_device_does_not_bring_back_what_was_deleted_meanwhile(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    laptop.records.add_plan(ada, _PLAN, [NewPlanItem(fleet.concepts[0], "2026-12-01", "new", 8, "first")])
    laptop.records.record_attempts(ada, fleet.attempts(2))
    older = laptop.copied()  # with everything still queued
    laptop.sync()
    laptop.database.close()
    item, attempt = fleet.server("SELECT id FROM study_plan_items")[0][0], fleet.server("SELECT id FROM question_attempts LIMIT 1")[0][0]
    delete_item(fleet, ada, item)
    publication = Publication(fleet.school.id)
    publication.delete("question_attempts", attempt, scope_of(ScopeKind.STUDENT, ada))
    with fleet.school.database.transaction() as cursor:
        publication.write(cursor, fleet.school.clock.now_ms())
    restored = fleet.open(older)
    restored.database.write(lambda conn: restored.identity.start_incarnation(conn, resend_all=True))
    for _ in range(3):
        restored.sync()
    assert fleet.server("SELECT code, row_id FROM dead_letters") == [("deleted", attempt)]
    assert {c[4] for c in conflicts(fleet)} == {"deleted"}
    for table in ("study_plan_items", "question_attempts"):
        assert _plain(restored.synced_rows(table)) == _plain(as_sqlite(fleet.server_rows(table)))
    assert len(restored.synced_rows("question_attempts")) == 1
    assert restored.rounds.status().pending == 0


# --- bringing values back


@pytest.fixture
def conflict(fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice) -> str:
    """The id of a conflict: the laptop's minutes lost against the tablet's."""
    laptop.records.update_profile(ada, {"available_minutes": WEEK})
    tablet.records.update_profile(ada, {"available_minutes": [60] * 7})
    tablet.sync()
    laptop.sync()
    return str(fleet.server("SELECT id FROM sync_conflicts")[0][0])


def test_a_lost_value_is_restored_as_the_schools_word_and_reaches_every_device(
    fleet: Fleet, ada: str, laptop: SyncedDevice, tablet: SyncedDevice, conflict: str
) -> None:
    assert "is [30, 30, 30, 30, 30, 30, 30] again" in carrel_cloud(fleet, "conflicts", "restore", conflict).output
    for device in (laptop, tablet):
        device.sync()
        assert device.value("SELECT available_minutes FROM student_profiles") == json.dumps(WEEK, separators=(",", ":"))
    assert converged(fleet, laptop, tablet)
    assert laptop.value("SELECT restored_at_ms FROM sync_conflicts WHERE id = ?", conflict) > 0
    assert fleet.server("SELECT clocks->'available_minutes'->>1 FROM student_profiles") == [(SERVER_WRITER,)]
    assert fleet.server("SELECT action, subject FROM audit_log WHERE action LIKE 'conflict%%'") == [("conflict.restored", conflict)]


def test_a_restored_value_can_be_taken_back_because_what_it_replaced_is_a_conflict_too(fleet: Fleet, conflict: str) -> None:
    carrel_cloud(fleet, "conflicts", "restore", conflict)
    (undo,) = json.loads(carrel_cloud(fleet, "conflicts", "list", "--json").output)
    assert (undo["lost"], undo["kept_by"]) == ([60] * 7, "school")
    carrel_cloud(fleet, "conflicts", "restore", undo["id"])
    assert fleet.server("SELECT available_minutes FROM student_profiles") == [([60] * 7,)]


def test_a_value_is_not_restored_twice(fleet: Fleet, conflict: str) -> None:
    carrel_cloud(fleet, "conflicts", "restore", conflict)
    assert "restored already" in carrel_cloud(fleet, "conflicts", "restore", conflict, exits=Conflict.exit_code).output
    assert fleet.server("SELECT count(*) FROM sync_conflicts") == [(2,)]


def test_a_value_that_does_not_fit_any_more_is_not_restored(fleet: Fleet, conflict: str) -> None:
    before, head = fleet.server("SELECT * FROM student_profiles"), fleet.school.head
    kept = "UPDATE sync_conflicts SET table_name = 'student_profiles', field = 'available_minutes', lost_value = '[]', rule = 'later_clock'"
    for change, words in (
        ("lost_value = '[1, 2]'", "does not fit"),
        ("field = 'shoe_size'", "no such field"),
        ("table_name = 'teams'", "no such field"),
        ("rule = 'deleted'", "deleted"),
        ("table_name = 'study_plan_items', field = 'status', lost_value = '\"done\"'", "deleted"),
    ):
        fleet.server(kept)
        fleet.server(f"UPDATE sync_conflicts SET {change}")
        assert words in carrel_cloud(fleet, "conflicts", "restore", conflict, exits=Conflict.exit_code).output
    assert (fleet.server("SELECT * FROM student_profiles"), fleet.school.head) == (before, head)


def test_conflicts_are_listed_and_shown_to_the_administrator(fleet: Fleet, ada: str, laptop: SyncedDevice, conflict: str) -> None:
    fleet.school.add_user("ben")
    (told,) = json.loads(carrel_cloud(fleet, "conflicts", "list", "--student", "ada", "--json").output)
    assert (told["id"], told["lost"], told["lost_by"], told["username"]) == (conflict, WEEK, f"device:{laptop.id}", "ada")
    assert carrel_cloud(fleet, "conflicts", "list", "--student", "ben").output == "no conflicts\n"
    assert f"now: {[60] * 7}" in carrel_cloud(fleet, "conflicts", "show", conflict).output
    carrel_cloud(fleet, "conflicts", "restore", conflict)
    assert conflict not in carrel_cloud(fleet, "conflicts", "list").output
    assert "  restored " in carrel_cloud(fleet, "conflicts", "list", "--restored").output
    assert carrel_cloud(fleet, "conflicts", "show", "f" * 32, exits=NotFound.exit_code).output


# --- every value that was ever written


@pytest.mark.parametrize("seed", range(4))
def test_LOSER_KEPT_whatever_devices_copies_and_teachers_write_is_there_or_was_replaced_in_sight_or_is_kept(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice, seed: int
) -> None:
    draw, written, replaced = random.Random(seed), 0, set[Any]()
    devices = [laptop, tablet]
    for step in range(40):
        device = draw.choice(devices)
        match draw.choice(["write"] * 5 + ["sync"] * 4 + ["lost", "resend", "teach", "copy"]):
            case "write":
                written += 1
                replaced.update(row[0] for row in device.rows("SELECT grade FROM student_profiles"))
                device.clock.ahead_ms = draw.choice([0, 0, 3_600_000, -3_600_000])
                device.records.update_profile(ada, {"grade": str(written)})
            case "sync":
                device.sync()
            case "lost":
                device.gateway.lose_answers = 1
                device.sync()
            case "resend":
                device.database.write(lambda conn, d=device: d.identity.start_incarnation(conn, resend_all=True))  # type: ignore[misc]
            case "teach" if step > 30:  # the school's word is the last one
                written += 1
                present = [row[0] for row in fleet.server("SELECT grade FROM student_profiles")]
                replaced.update(present)
                teach(fleet, ada, {"grade": str(written)}, seen={"grade": present[0]} if present else {})
            case "copy" if len(devices) < 4:
                devices.append(fleet.open(device.copied()))
    for device in devices * 3:
        device.clock.ahead_ms = 0
        device.sync()
    there = {row[0] for row in fleet.server("SELECT grade FROM student_profiles")}
    kept = {row[0] for row in fleet.server("SELECT lost_value FROM sync_conflicts")}
    assert {str(n) for n in range(1, written + 1)} - replaced - kept <= there
    assert converged(fleet, *devices)


# --- what the server remembers


def test_what_merges_remember_is_forgotten_in_time_and_costs_no_more_than_a_conflict_too_many(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    laptop.records.update_profile(ada, {"grade": "7"})
    laptop.sync()
    tablet.sync()
    tablet.records.update_profile(ada, {"grade": "8"})
    tablet.sync()
    fleet.server("UPDATE settled_values SET settled_at_ms = settled_at_ms - %s", settled.KEEP_MS + 1)
    tablet.records.update_profile(ada, {"available_minutes": WEEK})
    tablet.sync()
    assert fleet.server("SELECT count(*) FROM settled_values") == [(1,)]
    laptop.database.write(lambda conn: laptop.identity.start_incarnation(conn, resend_all=True))
    laptop.sync()
    assert conflicts(fleet) == [("grade", "7", "8", None, "later_clock")]
    assert fleet.server("SELECT grade FROM student_profiles") == [("8",)]


def test_a_deletion_that_is_told_again_is_remembered_anew(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.add_plan(ada, _PLAN, [NewPlanItem(fleet.concepts[0], "2026-12-01", "new", 8, "first")])
    laptop.sync()
    item = laptop.value("SELECT id FROM study_plan_items")
    delete_item(fleet, ada, item)
    fleet.server("UPDATE tombstones SET deleted_at_ms = 1")
    laptop.records.update_plan_item(ada, item, {"status": "done"})
    laptop.sync()
    ((feed_no, deleted_at_ms),) = fleet.server("SELECT feed_no, deleted_at_ms FROM tombstones")
    assert feed_no == fleet.school.head
    assert deleted_at_ms > 1
