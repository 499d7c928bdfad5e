"""Many at once against a real PostgreSQL: nobody's cursor passes over a row, and one device's log stays one."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import msgspec
import pytest

from cloud_api.devices.enrolment import EnrolledDevice, Grant
from cloud_api.sync.batch import decode_push
from cloud_api.sync.pull import give_page
from cloud_api.sync.push import PushReceiver
from daemon.sync.push import chain_after, encode_runs
from domain.blocks import decode_column
from domain.errors import SyncRefused
from domain.ids import Id
from domain.operations import CHAIN_START, Operation
from domain.registry import Kind
from domain.wire import ClockReading, Limits, PullRequest, PushAnswer, PushRequest
from tests.support.fleet import Fleet

WRITERS, READERS = 16, 12
PUSHES, ROWS = 6, 4


class Pen:
    """Writes attempts as a device would, without a file: operations in order, and the pushes that carry them."""

    def __init__(self, fleet: Fleet, student: str, device: EnrolledDevice) -> None:
        self.fleet, self.student, self.device = fleet, student, device
        self.incarnation = fleet.school.ids.new()
        self.seq, self.chain = 0, CHAIN_START

    def operations(self, count: int) -> list[Operation]:
        now_ms = self.fleet.school.clock.now_ms()
        payload = {
            "student_id": self.student, "question_id": self.fleet.questions[0], "answer": None, "correct": True, "answered_at_ms": now_ms,
            "active_ms": None, "confidence": None, "purpose": "free", "device_id": self.device.id,
        }  # fmt: skip
        text = msgspec.json.encode(payload).decode()
        rows = [self.fleet.school.ids.new() for _ in range(count)]
        return [
            Operation(seq, row, "question_attempts", row, "insert", 1, 0, now_ms, 5, "b" * 32, text)
            for seq, row in enumerate(rows, self.seq + 1)
        ]

    def request(self, operations: Sequence[Operation]) -> PushRequest:
        clock = ClockReading(self.fleet.school.clock.now_ms(), 5, "b" * 32)
        return PushRequest(1, self.incarnation, operations[0].seq, self.chain.hex(), clock, encode_runs(operations))

    def settled(self, operations: Sequence[Operation]) -> None:
        self.seq, self.chain = operations[-1].seq, chain_after(self.chain, operations)


@pytest.fixture
def receiver(fleet: Fleet) -> PushReceiver:
    return PushReceiver(fleet.school.clock, fleet.school.ids.new, Limits(), 30.0)


def pushed(fleet: Fleet, receiver: PushReceiver, token: str, request: PushRequest) -> PushAnswer:
    """One push in its transaction, whose commit comes late now and then."""

    decoded = decode_push(request)

    def work(cursor: Any) -> PushAnswer:
        answer = receiver.receive(cursor, token, decoded)
        cursor.execute("SELECT pg_sleep(%s)", (random.choice((0, 0.002, 0.006)),))
        return answer

    return fleet.school.database.retrying(work)


def test_NO_GAP_no_readers_cursor_passes_over_a_row_under_sixteen_writers(fleet: Fleet, ada: Id, receiver: PushReceiver) -> None:
    grant = Grant("student", ada)
    pens = [Pen(fleet, ada, fleet.school.enrol(grant)) for _ in range(WRITERS)]
    readers = [fleet.school.enrol(grant).token for _ in range(READERS)]
    written = threading.Event()

    def write(pen: Pen) -> None:
        for _ in range(PUSHES):
            operations = pen.operations(ROWS)
            pushed(fleet, receiver, pen.device.token, pen.request(operations))
            pen.settled(operations)

    def read(token: str) -> list[tuple[str, int]]:
        cursors: dict[str, int] = {}
        seen: list[tuple[str, int]] = []
        while True:
            last = written.is_set()
            request = PullRequest(1, "c" * 32, cursors, page_rows=random.choice((1, 3, 7, 50)))
            with fleet.school.database.transaction(read_only=True, snapshot=True) as cursor:
                page = give_page(cursor, token, request, fleet.school.clock, 30.0)
            if block := page.tables.get("question_attempts"):
                numbers = decode_column(Kind.INTEGER, block.columns["feed_no"], block.n)
                assert all(number > cursors.get(f"student:{ada}", 0) for number in numbers)
                seen += zip(decode_column(Kind.ID, block.columns["id"], block.n), numbers, strict=True)
            cursors = page.cursors
            if last and not page.has_more:
                return seen

    with ThreadPoolExecutor(WRITERS + READERS) as pool:
        reading = [pool.submit(read, token) for token in readers]
        try:
            for writing in [pool.submit(write, pen) for pen in pens]:
                writing.result()
        finally:
            written.set()
        results = [future.result() for future in reading]
    stored = fleet.server("SELECT id, feed_no FROM question_attempts ORDER BY feed_no")
    assert len(stored) == WRITERS * PUSHES * ROWS
    for seen in results:
        assert seen == stored  # each row once, in feed order, none passed over


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """What each call gave or raised, all begun at the same moment."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        gate.wait(10)
        try:
            return call()
        except SyncRefused as refused:
            return refused.code

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def test_EXACTLY_ONCE_when_one_push_arrives_several_times_at_the_same_moment(fleet: Fleet, ada: Id, receiver: PushReceiver) -> None:
    pen = Pen(fleet, ada, fleet.school.enrol(Grant("student", ada)))
    for _ in range(3):
        operations = pen.operations(20)
        request = pen.request(operations)
        answers = at_once([lambda: pushed(fleet, receiver, pen.device.token, request)] * 6)  # noqa: B023  # done within the turn
        pen.settled(operations)
        assert {(answer.acked_through, answer.chain) for answer in answers} == {(pen.seq, pen.chain.hex())}
        assert sorted(len(answer.verdicts) for answer in answers) == [0, *[20] * 5]  # one applied it, the others found duplicates
        numbers = [{first + i: number + i for first, last, number in a.feed for i in range(last - first + 1)} for a in answers]
        assert numbers == [numbers[0]] * 6
        assert numbers[0].keys() == set(range(operations[0].seq, pen.seq + 1))
    assert fleet.server("SELECT count(*), count(DISTINCT id), count(DISTINCT feed_no) FROM question_attempts") == [(60, 60, 60)]


def test_of_copies_that_push_different_logs_at_the_same_moment_one_keeps_the_name(fleet: Fleet, ada: Id, receiver: PushReceiver) -> None:
    pen = Pen(fleet, ada, fleet.school.enrol(Grant("student", ada)))
    logs = [pen.operations(5) for _ in range(5)]
    outcomes = at_once([partial(pushed, fleet, receiver, pen.device.token, pen.request(log)) for log in logs])
    assert sorted(str(o) for o in outcomes if isinstance(o, str)) == ["fork"] * 4
    (won,) = [place for place, outcome in enumerate(outcomes) if isinstance(outcome, PushAnswer)]
    assert {row[0] for row in fleet.server("SELECT id FROM question_attempts")} == {op.row_id for op in logs[won]}


def test_status_does_not_say_synced_while_rounds_fail_on_this_device(fleet: Fleet, ada: Id) -> None:
    laptop = fleet.device(Grant("student", ada))
    laptop.sync()
    assert laptop.rounds.status().state == "synced"
    pages = laptop.database.write(lambda conn: conn.execute("PRAGMA page_count").fetchone()[0])
    laptop.database.write(lambda conn: conn.execute(f"PRAGMA max_page_count = {pages}").fetchone())
    tablet = fleet.device(Grant("student", ada))
    tablet.sync()
    tablet.records.record_attempts(ada, fleet.attempts(200, answer="x" * 500))
    tablet.sync()
    with pytest.raises(Exception, match="full"):
        laptop.sync()
    status = laptop.rounds.status()
    assert (status.state, status.reason) == ("waiting", "storage_full")
    laptop.database.write(lambda conn: conn.execute("PRAGMA max_page_count = 100000").fetchone())
    assert laptop.sync().outcome == "done"
    assert laptop.rounds.status().state == "synced"
    assert len(laptop.synced_rows("question_attempts")) == 200
