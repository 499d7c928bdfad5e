"""A world made from one seed: a school, its server, devices, students who work, and everything that goes wrong.

`World.run` takes random steps with faults on, checking after each what must hold at every moment; then faults stop, everything drains, and what
must hold in the end is checked (docs/protocol.md; the names of the invariants stand in the messages). Same seed, same trace.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from cloud_api.database import CloudDatabase
from cloud_api.enrolment import Grant
from cloud_api.people import create_user, end_memberships
from cloud_api.publication import Publication
from cloud_api.schools import create_school
from cloud_api.sync.push import PushReceiver
from daemon.records import NewAttempt, NewPlanItem
from domain.ids import Id, IdSource, derived_id
from domain.registry import TABLES, Policy, tables_in
from domain.wire import EnrolAnswer, Limits
from tests.simulation.device import DeviceClock, DeviceCrash, SimulatedDevice, WorldClock
from tests.simulation.gateway import POLL_AFTER_S, Network
from tests.support.cloud import SchoolBuilder
from tests.support.fleet import as_sqlite

START_MS = 1_795_000_000_000
TEN_YEARS_MS = 10 * 365 * 24 * 3_600_000
# Rounds within which every device must be through once faults have stopped.
DRAIN_ROUNDS = 12
DEVICES_MAX = 6


class Violated(AssertionError):
    """An invariant does not hold."""


@dataclass
class World:
    """See the module. `model` maps each accepted attempt to its student and content, `owners` to the files that hold or held it."""

    seed: int
    database: CloudDatabase
    tmp_path: Path
    template: Path
    steps: int = 25
    universe: str = ""  # keeps apart two runs of one seed in one database
    trace: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.randomness = random.Random(self.seed)
        self.clock = WorldClock(START_MS)
        self.ids = IdSource(self.clock.now_ms, self.randomness.getrandbits)
        self.devices: list[SimulatedDevice] = []
        self.accepted: dict[Id, tuple[Id, bool]] = {}
        self.poisoned: set[str] = set()
        self.excused: set[Id] = set()
        limits = Limits(self.randomness.choice([1, 3, 10, 2_000]))
        receiver = PushReceiver(self.clock, self.ids.new, limits, POLL_AFTER_S)
        self.network = Network(self.database, receiver, self.clock, self.randomness)
        self.page_rows = self.randomness.choice([1, 2, 7, 5_000])
        self._found_school()

    # The school

    def _found_school(self) -> None:
        with self.database.transaction() as cursor:
            name = f"seed {self.seed} {self.universe}"
            self.school_id = create_school(cursor, derived_id(name), name, self.clock.now_ms()).id
        self.school = SchoolBuilder(self.database, self.clock, self.ids, self.school_id)
        self.class_id, topic = self.ids.new(), self.ids.new()
        self.concepts = [self.ids.new() for _ in range(2)]
        self.questions = [self.ids.new() for _ in range(5)]
        self._publish(self._content(topic))
        self.students = [self._student(name) for name in ("ada", "ben")]
        self.outsider = self._student("cleo", in_class=False)

    def _content(self, topic: Id) -> Callable[[Publication], None]:
        def put(publication: Publication) -> None:
            nothing = {"external_id": None, "retired_at_ms": None}
            publication.put("classes", {"id": self.class_id, "name": "Knots 1", **nothing})
            row = {"id": topic, "parent_id": None, "title": "Knots", "level": "lesson", "position": 1, "weightage": None}
            publication.put("topics", {**row, **nothing})
            for concept in self.concepts:
                row = {"id": concept, "topic_ids": [topic], "title": "c", "mastery_threshold": 0.85}
                publication.put("concepts", {**row, **nothing})
            for question in self.questions:
                publication.put("questions", self._question(question, topic, "Why?") | nothing)

        self.topic = topic
        return put

    def _question(self, question: Id, topic: Id, stem: str) -> dict[str, Any]:
        concepts = [self.concepts[self.questions.index(question) % 2]]
        row = {"id": question, "topic_id": topic, "concept_ids": concepts, "kind": "short_text", "stem": stem}
        return row | {"choices": None, "answers": ["yes"], "source": None}

    def _publish(self, change: Callable[[Publication], None]) -> None:
        publication = Publication(self.school_id)
        change(publication)
        with self.database.transaction() as cursor:
            publication.write(cursor, self.clock.now_ms())

    def _student(self, name: str, *, in_class: bool = True) -> Id:
        with self.database.transaction() as cursor:
            classes = ["Knots 1"] if in_class else []
            return create_user(cursor, self.ids, self.school_id, name, name, "student", classes, self.clock.now_ms()).id

    # The devices

    def _enrol(self) -> None:
        if len(self.devices) >= DEVICES_MAX:
            return
        grants = self.randomness.choice(
            [[Grant("class", self.class_id)], [Grant("student", self.students[0])], [Grant("student", self.students[1])]]
        )
        enrolled = self.school.enrol(*grants)
        folder = self.tmp_path / f"device{len(self.devices)}-{self.seed}"
        folder.mkdir()
        (folder / "device.sqlite3").write_bytes(self.template.read_bytes())
        device = self._open(folder)
        epoch = self.school.value("SELECT epoch FROM server_state")
        answer = EnrolAnswer(enrolled.id, enrolled.school_id, enrolled.school_name, enrolled.token, epoch, Limits())
        device.identity.adopt(answer, "http://127.0.0.1")

    def _open(self, folder: Path) -> SimulatedDevice:
        clock = DeviceClock(self.clock)
        device = SimulatedDevice(f"d{len(self.devices)}", folder, clock, self.network, random.Random(self.randomness.getrandbits(64)))
        device.rounds._puller._page_rows = self.page_rows
        self.devices.append(device)
        return device

    # What happens

    def run(self) -> str:
        """The whole life of the world; returns the hash of its trace. Raises Violated."""
        try:
            self._enrol()
            self._enrol()
            for _ in range(self.steps):
                self._step()
            self._settle()
            return hashlib.blake2b("\n".join(self.trace).encode(), digest_size=8).hexdigest()
        finally:
            for device in self.devices:
                device.stop()

    def _step(self) -> None:
        self.clock.time_ms += self.randomness.choice([1, 50, 2_000, 60_000, 86_400_000])
        device = self.randomness.choice(self.devices)
        happenings: list[tuple[int, Callable[[SimulatedDevice], None]]] = [
            (8, self._answer_questions),
            (8, self._sync),
            (3, self._edit_profile),
            (2, self._plan),
            (2, self._crash),
            (1, self._clone),
            (1, self._restore_older),
            (1, self._clock_jump),
            (1, self._poison),
            (1, self._teacher_edits),
            (1, self._membership),
            (1, lambda _: self._enrol()),
            (1, lambda _: self.network.deliver_late()),
        ]
        weights, actions = zip(*happenings, strict=True)
        action = self.randomness.choices(actions, weights)[0]
        action(device)
        self._note(getattr(action, "__name__", "?"), device)
        self._check_always(device)

    def _students_of(self, device: SimulatedDevice) -> list[str]:
        return sorted(scope.removeprefix("student:") for (scope,) in device.rows("SELECT scope FROM cursors WHERE scope LIKE 'student:%'"))

    def _answer_questions(self, device: SimulatedDevice) -> None:
        students = self._students_of(device)
        known = [q for (q,) in device.rows("SELECT id FROM questions ORDER BY id")]
        if not students or not known:
            return
        student = Id(self.randomness.choice(students))
        new = [
            NewAttempt(self.randomness.choice(known), self.randomness.random() < 0.6, "free", answer=str(self.randomness.randrange(9)))
            for _ in range(self.randomness.randint(1, 4))
        ]
        try:
            recorded = device.records.record_attempts(student, new)
        except DeviceCrash:
            device.restart()
            return
        for attempt, row in zip(new, recorded, strict=True):
            self.accepted[row.id] = (student, attempt.correct)

    def _edit_profile(self, device: SimulatedDevice) -> None:
        for student in self._students_of(device)[:1]:
            field_name = self.randomness.choice(["grade", "exam_on", "available_minutes"])
            value: Any = {"grade": str(self.randomness.randrange(9)), "exam_on": "2027-05-04", "available_minutes": [30] * 7}[field_name]
            self._surviving(device, partial(device.records.update_profile, Id(student), {field_name: value}))

    def _plan(self, device: SimulatedDevice) -> None:
        for student in self._students_of(device)[:1]:
            items = device.rows("SELECT id FROM study_plan_items WHERE student_id = ? ORDER BY id", student)
            if items and self.randomness.random() < 0.6:
                item = self.randomness.choice(items)[0]
                status = self.randomness.choice(["done", "skipped"])
                self._surviving(device, partial(device.records.update_plan_item, Id(student), item, {"status": status}))
            else:
                plan = {"starts_on": "2026-12-01", "days": 7, "planner_version": "sim", "forecast": None}
                new = [NewPlanItem(c, "2026-12-01", "new", 8, "because") for c in self.concepts]
                self._surviving(device, partial(device.records.add_plan, Id(student), plan, new))

    def _surviving(self, device: SimulatedDevice, work: Callable[[], object]) -> None:
        try:
            work()
        except DeviceCrash:
            device.restart()

    def _sync(self, device: SimulatedDevice) -> None:
        result = device.round()
        device.rounds._puller._page_rows = self.page_rows
        self._note(result.outcome if result else "died", device)

    def _crash(self, device: SimulatedDevice) -> None:
        device.dies_soon()
        self._sync(device)

    def _clone(self, device: SimulatedDevice) -> None:
        if len(self.devices) < DEVICES_MAX:
            folder = self.tmp_path / f"clone{len(self.devices)}-{self.seed}"
            device.copy_to(folder)
            self._open(folder)

    def _restore_older(self, device: SimulatedDevice) -> None:
        """The file goes back to an older copy. What only the lost file held is lost with it: no software can keep that."""
        kept = device.older
        if kept is None:
            device.older = self.tmp_path / f"older-{device.name}-{len(self.trace)}"
            device.copy_to(device.older)
            return
        lost = {row for (row,) in device.rows("SELECT row_id FROM sync_operations WHERE state <> 'synced'")}
        device.stop()
        for leftover in device.folder.glob("device.sqlite3*"):
            leftover.unlink()
        (device.folder / "device.sqlite3").write_bytes((kept / "device.sqlite3").read_bytes())
        device.older = None
        device.start()
        device.rounds._puller._page_rows = self.page_rows
        elsewhere = {row for d in self.devices for (row,) in d.rows("SELECT row_id FROM sync_operations")}
        self.excused |= {Id(row) for row in lost - elsewhere}

    def _clock_jump(self, device: SimulatedDevice) -> None:
        device.clock.offset_ms = self.randomness.choice([0, -TEN_YEARS_MS, TEN_YEARS_MS, 3_600_000, -90_000])

    def _poison(self, device: SimulatedDevice) -> None:
        rows = device.rows("SELECT op_no, row_id, payload FROM sync_operations WHERE state = 'pending' AND kind = 'insert' ORDER BY op_no")
        if rows:
            op_no, row_id, payload = self.randomness.choice(rows)
            text = json.dumps({**json.loads(payload), "purpose": "fun"}, separators=(",", ":"), ensure_ascii=False)
            self._surviving(device, lambda: device.database.write(
                lambda conn: conn.execute("UPDATE sync_operations SET payload = ? WHERE op_no = ?", (text, op_no)).rowcount
            ))  # fmt: skip
            self.poisoned.add(row_id)

    def _teacher_edits(self, device: SimulatedDevice) -> None:
        question = self.randomness.choice(self.questions)
        retired = self.clock.now_ms() if self.randomness.random() < 0.3 else None
        row = self._question(question, self.topic, f"Why {self.randomness.randrange(99)}?")
        self._publish(lambda p: p.put("questions", {**row, "external_id": None, "retired_at_ms": retired}))

    def _membership(self, device: SimulatedDevice) -> None:
        """The second student leaves the class, or comes back."""
        student = self.students[1]
        with self.database.transaction() as cursor:
            cursor.execute(
                "SELECT id FROM class_members WHERE school_id = %s AND class_id = %s AND user_id = %s",
                (self.school_id, self.class_id, student),
            )
            found = cursor.fetchone()
            publication = Publication(self.school_id)
            member = {"id": found[0] if found else self.ids.new(), "class_id": self.class_id, "user_id": student, "role": "student"}
            if found:
                end_memberships(cursor, publication, self.school_id, [member], self.clock.now_ms())
            else:
                publication.put("class_members", member)
            publication.write(cursor, self.clock.now_ms())

    def _note(self, what: str, device: SimulatedDevice) -> None:
        operations = device.rows("SELECT count(*), sum(state = 'pending'), sum(state = 'rejected') FROM sync_operations")
        rows = device.rows("SELECT count(*), coalesce(sum(feed_no), 0) FROM question_attempts")
        self.trace.append(f"{what} {device.name} {operations} {rows}")

    # What must hold

    def _demand(self, holds: bool, name: str, words: str) -> None:
        if not holds:
            recent = "\n  ".join(self.trace[-15:])
            raise Violated(f"{name} (seed {self.seed}): {words}\n  {recent}")

    def _check_always(self, device: SimulatedDevice) -> None:
        self._check_no_leak(device)
        self._check_no_gap(device)
        self._check_status(device)

    def _check_no_leak(self, device: SimulatedDevice) -> None:
        students = {row for (row,) in device.rows("SELECT DISTINCT student_id FROM question_attempts")}
        self._demand(self.outsider not in students, "NO_LEAK", "rows of a student whom nobody granted")
        here = set(self._students_of(device))
        queued = {row for (row,) in device.rows("SELECT row_id FROM sync_operations WHERE state <> 'synced'")}
        for row_id, student in device.rows("SELECT id, student_id FROM question_attempts"):
            self._demand(student in here or row_id in queued, "NO_LEAK", f"{device.name} keeps rows of a scope that it has lost")

    def _check_no_gap(self, device: SimulatedDevice) -> None:
        """Every row up to the cursor is here."""
        for scope, cursor_no in device.rows("SELECT scope, cursor FROM cursors ORDER BY scope"):
            kind, _, subject = scope.partition(":")
            for table in (t for t in TABLES.values() if t.scope == kind):
                where = f"AND {table.scope_column} = %s" if table.scope_column else ""
                with self.database.transaction(read_only=True) as cursor:
                    cursor.execute(
                        f"SELECT id FROM {table.name} WHERE school_id = %s AND feed_no <= %s {where}",
                        (self.school_id, cursor_no, *([subject] if where else [])),
                    )
                    expected = {row[0] for row in cursor.fetchall()}
                missing = expected - {row for (row,) in device.rows(f"SELECT id FROM {table.name}")}
                self._demand(not missing, "NO_GAP", f"{device.name} lacks {len(missing)} rows of {table.name} up to {scope} {cursor_no}")

    def _check_status(self, device: SimulatedDevice) -> None:
        status = device.rounds.status()
        if status.state != "synced":
            return
        unsettled = device.rows("SELECT count(*) FROM sync_operations WHERE state = 'pending'")[0][0]
        self._demand(unsettled == 0, "TRUTHFUL_STATUS", f"{device.name} says synced with {unsettled} operations queued")
        mine = {row for (row,) in device.rows("SELECT id FROM question_attempts")}
        missing = (mine & self.accepted.keys()) - self._on_server() - self._dead()
        self._demand(not missing, "TRUTHFUL_STATUS", f"{device.name} says synced, and {len(missing)} answers are not at school")

    def _on_server(self) -> set[Id]:
        with self.database.transaction(read_only=True) as cursor:
            cursor.execute("SELECT id FROM question_attempts WHERE school_id = %s", (self.school_id,))
            return {row[0] for row in cursor.fetchall()}

    def _dead(self) -> set[Id]:
        with self.database.transaction(read_only=True) as cursor:
            cursor.execute("SELECT row_id FROM dead_letters WHERE school_id = %s", (self.school_id,))
            return {row[0] for row in cursor.fetchall()}

    def _settle(self) -> None:
        """Faults stop; everything drains; what must hold in the end holds."""
        self.network.faults = False
        for device in self.devices:
            device.clock.offset_ms = 0
            device.database.commits_left = device.requests_left = float("inf")
        self.network.deliver_late()
        for _ in range(DRAIN_ROUNDS):
            self.clock.time_ms += 60_000
            for device in self.devices:
                self._sync(device)
        for device in self.devices:
            status = device.rounds.status()
            self._demand(status.state in ("synced", "rejected"), "NO_WEDGE", f"{device.name} is {status.state}: {status.message}")
            self._check_always(device)
        self._check_nothing_lost()
        self._check_converged()

    def _check_nothing_lost(self) -> None:
        stored, dead = self._on_server(), self._dead()
        lost = self.accepted.keys() - stored - dead - self.excused
        self._demand(not lost, "NO_LOST_OP", f"{len(lost)} accepted answers are nowhere")
        unexpected = {row for row in dead & self.accepted.keys() if row not in self.poisoned} - stored
        for row in unexpected:  # a grant that had ended is the only other reason
            code = self.school.value("SELECT code FROM dead_letters WHERE school_id = %s AND row_id = %s", self.school_id, row)
            self._demand(code == "not_granted", "NO_LOST_OP", f"a good answer was rejected: {code}")
        with self.database.transaction(read_only=True) as cursor:
            cursor.execute("SELECT id, student_id, correct FROM question_attempts WHERE school_id = %s", (self.school_id,))
            for row_id, student, correct in cursor.fetchall():
                if row_id in self.accepted:
                    self._demand(self.accepted[row_id] == (student, correct), "EXACTLY_ONCE", "an answer is stored with other content")

    def _check_converged(self) -> None:
        for device in self.devices:
            scopes = {scope for (scope,) in device.rows("SELECT scope FROM cursors")}
            for scope in sorted(scopes):
                kind, _, subject = scope.partition(":")
                for table in tables_in(type(TABLES["users"].scope)(kind)):
                    self._compare(device, scope, table.name, subject)

    def _compare(self, device: SimulatedDevice, scope: str, table: str, subject: str) -> None:
        column = TABLES[table].scope_column
        names = ", ".join(("feed_no", *TABLES[table].column_names))
        with self.database.transaction(read_only=True) as cursor:
            where = f"AND {column} = %s" if column else ""
            cursor.execute(
                f"SELECT {names} FROM {table} WHERE school_id = %s {where} ORDER BY id", (self.school_id, *([subject] if column else []))
            )
            there = [_plain(row) for row in as_sqlite(cursor.fetchall())]
        rejected = {row for (row,) in device.rows("SELECT row_id FROM sync_operations WHERE state = 'rejected'")}
        here = [
            _plain(row)
            for row in device.rows(
                f"SELECT {names} FROM {table} {f'WHERE {column} = ?' if column else ''} ORDER BY id", *([subject] if column else [])
            )
            if row[1] not in rejected or TABLES[table].policy is not Policy.APPEND_ONLY or row[1] in {r[1] for r in there}
        ]
        if TABLES[table].policy is Policy.LAST_WRITER:
            stored = {row[1] for row in there}
            here = [row for row in here if row[1] in stored or row[1] not in rejected]
        self._demand(here == there, "CONVERGENCE", f"{device.name} and the server differ in {table} of {scope}:\n{here}\n{there}")


def _plain(row: tuple[Any, ...]) -> tuple[Any, ...]:
    """JSON columns opened, so that both sides' spellings compare."""
    return tuple(json.loads(v) if isinstance(v, str) and v[:1] in ("[", "{") else v for v in row)
