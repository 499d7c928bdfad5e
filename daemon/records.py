"""Every local change: the row, its operation, and nothing else, in one transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from daemon.database import DeviceDatabase
from daemon.erasure import answers
from daemon.queue import shown_rows
from daemon.queue.outbox import NewOperation, Outbox
from domain.clock import Clock, HybridClock
from domain.errors import ImmutableRow, InvalidInput, NotFound, NotSignedIn, Problem
from domain.ids import Id, IdSource
from domain.merge import Seen
from domain.operations import OperationKind
from domain.registry import TABLES, TIME_MAX_MS, TIME_MIN_MS, Kind, Policy, Table


@dataclass(frozen=True, slots=True)
class NewAttempt:
    """An answer as an app reports it, already within the registry's limits. Without `id` or `answered_at_ms` the daemon fills them in.

    `path` is where the attempt stands in the request, for problems found here.
    """

    question_id: Id
    correct: bool
    purpose: str
    answer: str | None = None
    answered_at_ms: int | None = None
    active_ms: int | None = None
    confidence: int | None = None
    id: Id | None = None
    path: str = "$"


@dataclass(frozen=True, slots=True)
class RecordedAttempt:
    """`created` is False when the same attempt was already there."""

    id: Id
    answered_at_ms: int
    created: bool


@dataclass(frozen=True, slots=True)
class NewPlanItem:
    """One line of a study plan; `day` is an ISO date, `status` other than planned where it was carried over from the plan before."""

    concept_id: Id
    day: str
    kind: str
    minutes: int
    reason: str
    status: str = "planned"


class LocalRecords:
    """Writes what learning apps report. `device_id` names this device; `on_operation` is called after each commit that queued something."""

    def __init__(
        self,
        database: DeviceDatabase,
        clock: Clock,
        ids: IdSource,
        hlc: HybridClock,
        device_id: Callable[[], Id],
        on_operation: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._ids = ids
        self._hlc = hlc
        self._device_id = device_id
        self._outbox = Outbox(clock)
        self.on_operation = on_operation

    def record_attempts(self, student_id: Id, attempts: Sequence[NewAttempt]) -> list[RecordedAttempt]:
        """Stores the attempts of one student, all or none, and answers for each in order.

        An attempt sent again with equal content is not stored twice. Raises InvalidInput (unknown question, an id twice in one request) and
        ImmutableRow (the id exists with other content).
        """
        now_ms = self.now_ms()
        rows = [self._attempt_row(student_id, attempt, now_ms) for attempt in attempts]

        def work(conn: sqlite3.Connection) -> list[RecordedAttempt]:
            _demand_student(conn, student_id)
            _check_questions(conn, attempts)
            known = _known_attempts(conn, [a.id for a in attempts if a.id])
            new = _unknown_rows(rows, attempts, known)
            self._insert(conn, TABLES["question_attempts"], new)
            if new:
                conn.execute("INSERT OR IGNORE INTO mastery_stale (student_id, mark) VALUES (?, 0)", (student_id,))
            return [RecordedAttempt(row["id"], known.get(row["id"], row)["answered_at_ms"], row["id"] not in known) for row in rows]

        recorded = self._database.write(work)
        if any(r.created for r in recorded):
            self.on_operation()
        return recorded

    def update_profile(self, student_id: Id, fields: Mapping[str, Any]) -> None:
        """Changes fields of the student's profile; makes the profile if there is none. Values are within the registry's limits."""
        table = TABLES["student_profiles"]

        def work(conn: sqlite3.Connection) -> None:
            _demand_student(conn, student_id)
            conn.execute("INSERT OR IGNORE INTO student_profiles (id) VALUES (?)", (student_id,))
            self._update(conn, table, student_id, fields)

        self._database.write(work)
        self.on_operation()

    def add_plan(self, student_id: Id, plan: Mapping[str, Any], items: Sequence[NewPlanItem]) -> Id:
        """Stores a study plan (`starts_on`, `days`, `planner_version`, `forecast`, `notes`) with its items in order; returns its id."""
        plan_id = self._ids.new()
        plan_row = {
            "id": plan_id,
            "student_id": student_id,
            "created_at_ms": self.now_ms(),
            "notes": None,
            **plan,
            "device_id": self._device_id(),
        }
        item_rows = [
            {
                "id": self._ids.new(),
                "plan_id": plan_id,
                "student_id": student_id,
                "concept_id": item.concept_id,
                "day": item.day,
                "position": position,
                "kind": item.kind,
                "minutes": item.minutes,
                "reason": item.reason,
                "status": item.status,
                "moved_to": None,
            }
            for position, item in enumerate(items)
        ]

        def work(conn: sqlite3.Connection) -> None:
            _demand_student(conn, student_id)
            self._insert(conn, TABLES["study_plans"], [plan_row])
            self._insert(conn, TABLES["study_plan_items"], item_rows)

        self._database.write(work)
        self.on_operation()
        return plan_id

    def update_plan_item(self, student_id: Id, item_id: Id, fields: Mapping[str, Any]) -> None:
        """Changes `status` or `moved_to` of one of the student's plan items. Raises NotFound for any other id."""
        table = TABLES["study_plan_items"]

        def work(conn: sqlite3.Connection) -> None:
            if not conn.execute("SELECT 1 FROM study_plan_items WHERE id = ? AND student_id = ?", (item_id, student_id)).fetchone():
                raise NotFound("This student has no such plan item.")
            self._update(conn, table, item_id, fields)

        self._database.write(work)
        self.on_operation()

    def now_ms(self) -> int:
        """The time of what happens now, as it is written. A clock outside the registry's times (a dead battery) must not make an answer unacceptable."""
        return min(max(self._clock.now_ms(), TIME_MIN_MS), TIME_MAX_MS)

    def _attempt_row(self, student_id: Id, attempt: NewAttempt, now_ms: int) -> dict[str, Any]:
        return {
            "id": attempt.id or self._ids.new(),
            "student_id": student_id,
            "question_id": attempt.question_id,
            "answer": attempt.answer,
            "correct": attempt.correct,
            # Nobody answers in the future: it was when it was recorded, at the latest.
            "answered_at_ms": now_ms if attempt.answered_at_ms is None else min(attempt.answered_at_ms, now_ms),
            "active_ms": attempt.active_ms,
            "confidence": attempt.confidence,
            "purpose": attempt.purpose,
            "device_id": self._device_id(),
        }

    def _insert(self, conn: sqlite3.Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Inserts rows (registry columns that devices may send, in order) and queues them."""
        if not rows:
            return
        names = [c.name for c in table.columns if not c.set_by_server]
        payload_names = names[1:]
        hlc = 0
        if table.policy is Policy.LAST_WRITER:
            hlc = self._hlc.tick()
            clocks = dict.fromkeys(sorted(table.updatable), (hlc, self._device_id()))
            names, rows = [*names, "clocks"], [{**row, "clocks": clocks} for row in rows]
        json_names = {c.name for c in table.columns if c.kind is Kind.JSON}
        conn.executemany(
            f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})",
            [[_stored(row[n], n in json_names) for n in names] for row in rows],
        )
        self._outbox.append(
            conn, [NewOperation(table.name, row["id"], OperationKind.INSERT, {n: row[n] for n in payload_names}, hlc) for row in rows]
        )

    def _update(self, conn: sqlite3.Connection, table: Table, row_id: Id, fields: Mapping[str, Any]) -> None:
        """Changes fields of one row and queues the change. `fields` are updatable columns of the table."""
        ordered = {c.name: fields[c.name] for c in table.columns if c.name in fields}
        shown_rows.keep_shadow(conn, table, row_id)
        shown, clocks = shown_rows.shown_fields(conn, table, row_id, ordered)
        # A change made in sight of a value sorts behind it, however wrong this machine's clock is.
        for value, _writer in clocks.values():
            self._hlc.observe(value)
        hlc = self._hlc.tick()
        shown_rows.show_fields(conn, table, row_id, ordered, clocks | dict.fromkeys(ordered, (hlc, self._device_id())))
        base = {name: Seen(value, clocks.get(name)) for name, value in shown.items()}
        self._outbox.append(conn, [NewOperation(table.name, row_id, OperationKind.UPDATE, ordered, hlc, self._ids.new(), base)])


def _stored(value: Any, is_json: bool) -> Any:
    return msgspec.json.encode(value).decode() if is_json and value is not None else value


def _demand_student(conn: sqlite3.Connection, student_id: Id) -> None:
    """Raises NotSignedIn for somebody who was erased while the request was on its way, or a plan was made: nothing of that student comes back."""
    if not conn.execute("SELECT 1 FROM users WHERE id = ?", (student_id,)).fetchone():
        raise NotSignedIn()


def _check_questions(conn: sqlite3.Connection, attempts: Sequence[NewAttempt]) -> None:
    wanted = msgspec.json.encode(sorted({a.question_id for a in attempts})).decode()
    known = {row[0] for row in conn.execute("SELECT id FROM questions WHERE id IN (SELECT value FROM json_each(?))", (wanted,))}
    problems = [
        Problem(f"{a.path}.question_id", "unknown_question", "There is no such question on this device.")
        for a in attempts
        if a.question_id not in known
    ]
    if problems:
        raise InvalidInput(problems)


_COMPARED = ("student_id", "question_id", "answer", "correct", "answered_at_ms", "active_ms", "confidence", "purpose")
_LET_GO = TABLES["question_attempts"].let_go


def _known_attempts(conn: sqlite3.Connection, ids: Sequence[Id]) -> dict[str, dict[str, Any]]:
    """Those of the attempts that are stored already."""
    if not ids:
        return {}
    wanted = msgspec.json.encode(ids).decode()
    rows = conn.execute(f"SELECT id, {', '.join(_COMPARED)} FROM question_attempts WHERE id IN (SELECT value FROM json_each(?))", (wanted,))
    found = {row[0]: dict(zip(_COMPARED, row[1:], strict=True)) for row in rows}
    if not found or not answers.were_let_go(conn):
        return found
    # Of an attempt whose answer was let go of nobody can say any more what it was.
    return {id_: {n: v for n, v in row.items() if n not in _LET_GO or v is not None} for id_, row in found.items()}


def _unknown_rows(
    rows: Sequence[dict[str, Any]], attempts: Sequence[NewAttempt], known: Mapping[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows to insert. An attempt without a time of its own equals a stored one whatever the stored time is."""
    new: dict[str, dict[str, Any]] = {}
    for row, attempt in zip(rows, attempts, strict=True):
        if row["id"] in new:
            raise InvalidInput([Problem(f"{attempt.path}.id", "duplicate_id", "This id stands twice in the request.")])
        stored = known.get(row["id"])
        if stored is None:
            new[row["id"]] = row
        elif any(stored[n] != row[n] for n in _COMPARED if n in stored and n != "answered_at_ms") or _was_earlier(attempt, stored):
            raise ImmutableRow(attempt.path)
    return list(new.values())


def _was_earlier(attempt: NewAttempt, stored: Mapping[str, Any]) -> bool:
    """Whether it claims another time than the stored one. A later one is no other: it lay in the future when the attempt was recorded."""
    return attempt.answered_at_ms is not None and attempt.answered_at_ms < stored["answered_at_ms"]
