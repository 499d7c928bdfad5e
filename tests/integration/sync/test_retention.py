"""What the device keeps of its log, and that whatever it keeps can be sent again."""

from __future__ import annotations

from daemon.queue import outbox
from domain.ids import Id
from tests.support.fleet import Fleet, SyncedDevice

DAY_MS = 24 * 3600 * 1000


def test_prune_keeps_what_is_unsettled_or_rejected_and_sixty_days_of_the_rest_or_a_week_of_what_a_backup_holds(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    now_ms = fleet.school.clock.now_ms()
    laptop.records.record_attempts(ada, fleet.attempts(6))
    laptop.sync()
    laptop.records.record_attempts(ada, fleet.attempts(2))
    laptop.change("UPDATE sync_operations SET settled_at_ms = ? WHERE op_no <= 3", now_ms - 61 * DAY_MS)
    laptop.change("UPDATE sync_operations SET state = 'rejected' WHERE op_no = 2")
    removed = laptop.database.write(lambda conn: outbox.prune(conn, durable_op_no=0, now_ms=now_ms))
    assert removed == 2
    assert laptop.rows("SELECT op_no, state FROM sync_operations") == [
        (2, "rejected"),
        *((n, "synced") for n in (4, 5, 6)),
        *((n, "pending") for n in (7, 8)),
    ]
    assert laptop.database.write(lambda conn: outbox.prune(conn, durable_op_no=5, now_ms=now_ms)) == 0
    assert laptop.database.write(lambda conn: outbox.prune(conn, durable_op_no=5, now_ms=now_ms + 8 * DAY_MS)) == 2
    assert laptop.value("SELECT count(*) FROM question_attempts") == 8


def test_NO_WEDGE_operations_settled_under_a_wrong_clock_leave_no_gap_in_the_log(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(5))
    laptop.sync()
    laptop.change("UPDATE sync_operations SET settled_at_ms = 946684800000 WHERE op_no = 3")  # a clock that began at 2000-01-01
    laptop.database.write(lambda conn: outbox.prune(conn, durable_op_no=0, now_ms=fleet.school.clock.now_ms()))
    fleet.server("DELETE FROM question_attempts")
    fleet.server("DELETE FROM device_incarnations")
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")
    laptop.records.record_attempts(ada, fleet.attempts(1))
    assert laptop.sync().outcome == "done"
    assert laptop.rounds.status().pending == 0
    assert len(fleet.server_rows("question_attempts")) == 6


def test_answers_given_while_the_clock_stands_before_all_schools_are_accepted(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    class DeadBattery:
        def now_ms(self) -> int:
            return 5_000

        def monotonic_ms(self) -> int:
            return 5_000

    laptop.records._clock = DeadBattery()
    laptop.records.record_attempts(ada, fleet.attempts(1))
    laptop.records.add_plan(ada, {"starts_on": "2026-12-01", "days": 7, "planner_version": "test", "forecast": None}, [])
    assert laptop.sync().rejected == 0
    assert len(fleet.server_rows("question_attempts")) == 1
    assert len(fleet.server_rows("study_plans")) == 1


def test_NO_LOST_OP_a_device_whose_log_the_server_has_let_go_of_sends_again_and_goes_on(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    laptop.records.record_attempts(ada, fleet.attempts(4))
    laptop.sync()
    fleet.server("DELETE FROM device_incarnations")
    laptop.records.record_attempts(ada, fleet.attempts(2))
    laptop.sync()
    laptop.sync()
    assert laptop.rounds.status().state == "synced"
    assert len(fleet.server_rows("question_attempts")) == 6
