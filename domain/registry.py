"""The registry: the only place that says which tables and columns travel between devices and server, and how.

Peewee models and migrations are checked against it (test_models.py of either side); validation, wire format and SQL are made from it. A column that is not
listed here never leaves its machine: `users.password_hash` is not listed. Columns are in their canonical order: parents before
children among the tables, the id first among the columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Any

# Version of the synced schema. Every operation is stamped with the version under which it was written (docs/protocol.md, "Versions").
#   1  the first
SCHEMA_VERSION = 1

INT64_MAX = 2**63 - 1
# Times outside 2000-01-01 … 2100-01-01 are typing errors or broken units, never somebody's clock.
TIME_MIN_MS = 946_684_800_000
TIME_MAX_MS = 4_102_444_800_000

DAY_MINUTES = 24 * 60

PURPOSES = ("plan", "review", "quiz", "free")
ROLES = ("student", "teacher", "admin")
QUESTION_KINDS = ("multiple_choice", "numeric_or_expression", "short_text")
PLAN_ITEM_KINDS = ("new", "review")
PLAN_ITEM_STATES = ("planned", "done", "skipped", "moved")
PLAN_RULES = ("pin", "exclude", "day_off")


class Kind(StrEnum):
    """The type of a column, the same on both sides and on the wire."""

    ID = "id"  # 32 hex digits; `uuid` on PostgreSQL
    INTEGER = "integer"  # 64 bits, signed
    REAL = "real"  # finite
    BOOLEAN = "boolean"
    TEXT = "text"
    DATE = "date"  # a calendar date without a time zone, as text: 2026-01-31
    JSON = "json"  # JSON text on SQLite, jsonb on PostgreSQL; lists of ids, choices, settings


class Shape(StrEnum):
    """What a JSON column that devices write must look like."""

    WEEK_OF_MINUTES = "week_of_minutes"  # seven integers, Monday first
    OBJECT = "object"
    DATES = "dates"  # a list of calendar dates


class Policy(StrEnum):
    """How concurrent writes of one row meet (docs/protocol.md, "Tables")."""

    SERVER = "server"  # the server's word; travels down only
    APPEND_ONLY = "append_only"  # insert if absent; the same id with other content is rejected
    LAST_WRITER = "last_writer"  # per field, by hybrid logical clock and field authority


class ScopeKind(StrEnum):
    """The parts of a school's data that are granted to devices."""

    SCHOOL = "school"
    CLASS = "class"
    STUDENT = "student"


@dataclass(frozen=True, slots=True)
class Column:
    """One travelling column.

    `minimum`/`maximum` bound integers and reals, `length_max` counts characters of text or bytes of JSON text. `choices` closes a
    text column. `updatable` marks a field that a device may change after the row exists, `teacher_owned` one in which the server's
    word comes first, `set_by_server` one that no device may send. `shape` is that of a JSON column. `let_go` marks what a school may let go of in
    time: the row stays, the value becomes null, on every side (docs/protocol.md, section 13).
    """

    name: str
    kind: Kind
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    length_max: int | None = None
    choices: tuple[str, ...] = ()
    updatable: bool = False
    teacher_owned: bool = False
    set_by_server: bool = False
    shape: Shape | None = None
    let_go: bool = False

    def agrees(self, one: Any, other: Any) -> bool:
        """Whether two values of one row may be the same one, of which either side may have let go."""
        return bool(one == other) or (self.let_go and (one is None or other is None))


@dataclass(frozen=True, slots=True)
class Table:
    """One synced table. `scope_column` names the column that holds the class or student of a row's scope; None for the school."""

    name: str
    policy: Policy
    scope: ScopeKind
    scope_column: str | None
    columns: tuple[Column, ...]

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(c.name for c in self.columns)

    def column(self, name: str) -> Column:
        """The column of that name; KeyError if it does not travel."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def updatable(self) -> frozenset[str]:
        return frozenset(c.name for c in self.columns if c.updatable)

    @property
    def let_go(self) -> tuple[str, ...]:
        """What a school may let go of in time."""
        return tuple(c.name for c in self.columns if c.let_go)

    @property
    def from_devices(self) -> bool:
        """Whether devices write this table."""
        return self.policy is not Policy.SERVER


def _id(name: str = "id", **options: Any) -> Column:
    return Column(name, Kind.ID, **options)


def _text(name: str, length_max: int, *, choices: tuple[str, ...] = (), nullable: bool = False, **options: Any) -> Column:
    return Column(name, Kind.TEXT, nullable=nullable, length_max=length_max, choices=choices, **options)


def _time(name: str, *, nullable: bool = False, **options: Any) -> Column:
    return Column(name, Kind.INTEGER, nullable=nullable, minimum=TIME_MIN_MS, maximum=TIME_MAX_MS, **options)


def _int(name: str, minimum: int, maximum: int, *, nullable: bool = False, **options: Any) -> Column:
    return Column(name, Kind.INTEGER, nullable=nullable, minimum=minimum, maximum=maximum, **options)


def _json(name: str, length_max: int, *, nullable: bool = False, **options: Any) -> Column:
    return Column(name, Kind.JSON, nullable=nullable, length_max=length_max, **options)


def _date(name: str, *, nullable: bool = False, **options: Any) -> Column:
    return Column(name, Kind.DATE, nullable=nullable, **options)


_RETIRED = _time("retired_at_ms", nullable=True)
_EXTERNAL = _text("external_id", 200, nullable=True)

_TABLES = (
    Table(
        "users",
        Policy.SERVER,
        ScopeKind.SCHOOL,
        None,
        (_id(), _text("role", 16, choices=ROLES), _text("username", 64), _text("display_name", 200), _EXTERNAL, _RETIRED),
    ),
    Table(
        "topics",
        Policy.SERVER,
        ScopeKind.SCHOOL,
        None,
        (
            _id(),
            _id("parent_id", nullable=True),
            _text("title", 300),
            _text("level", 40),
            _int("position", 0, 100_000),
            Column("weightage", Kind.REAL, nullable=True, minimum=0, maximum=100),
            _int("estimated_minutes", 1, 1_000_000, nullable=True),
            _EXTERNAL,
            _RETIRED,
        ),
    ),
    Table(
        "topic_prerequisites",
        Policy.SERVER,
        ScopeKind.SCHOOL,
        None,
        (_id(), _id("topic_id"), _id("prerequisite_topic_id"), _text("reason", 500, nullable=True)),
    ),
    Table(
        "concepts",
        Policy.SERVER,
        ScopeKind.SCHOOL,
        None,
        (
            _id(),
            _json("topic_ids", 2_000),
            _text("title", 300),
            Column("mastery_threshold", Kind.REAL, minimum=0, maximum=1),
            _EXTERNAL,
            _RETIRED,
        ),
    ),
    Table(
        "questions",
        Policy.SERVER,
        ScopeKind.SCHOOL,
        None,
        (
            _id(),
            _id("topic_id"),
            _json("concept_ids", 2_000),
            _text("kind", 40, choices=QUESTION_KINDS),
            _text("stem", 16_000),
            _json("choices", 16_000, nullable=True),
            _json("answers", 16_000),
            _text("source", 500, nullable=True),
            _EXTERNAL,
            _RETIRED,
        ),
    ),
    # How hard questions are, counted over all attempts of the school; the newest counts. `content` as domain/learning/difficulty.py makes it: text, since
    # its hash names it.
    Table(
        "difficulty_snapshots",
        Policy.SERVER,
        ScopeKind.SCHOOL,
        None,
        (_id(), _text("content", 2_000_000), _time("published_at_ms")),
    ),
    # Weights of the mastery model that foretold this school's answers best; the newest for a program's own model counts.
    Table(
        "model_weights",
        Policy.SERVER,
        ScopeKind.SCHOOL,
        None,
        (_id(), _text("model", 40), _text("content", 4_000), _time("published_at_ms")),
    ),
    Table("classes", Policy.SERVER, ScopeKind.CLASS, "id", (_id(), _text("name", 200), _EXTERNAL, _RETIRED)),
    Table(
        "class_members",
        Policy.SERVER,
        ScopeKind.CLASS,
        "class_id",
        (_id(), _id("class_id"), _id("user_id"), _text("role", 16, choices=("student", "teacher"))),
    ),
    Table(
        "student_profiles",
        Policy.LAST_WRITER,
        ScopeKind.STUDENT,
        "id",
        (
            _id(),  # the student's user id: one profile a student
            _text("grade", 40, nullable=True, updatable=True, teacher_owned=True),
            _date("exam_on", nullable=True, updatable=True, teacher_owned=True),
            _json("available_minutes", 100, nullable=True, updatable=True, shape=Shape.WEEK_OF_MINUTES),
            _json("days_off", 8_000, nullable=True, updatable=True, shape=Shape.DATES),
            _json("clocks", 4_000, set_by_server=True),
        ),
    ),
    Table(
        "question_attempts",
        Policy.APPEND_ONLY,
        ScopeKind.STUDENT,
        "student_id",
        (
            _id(),
            _id("student_id"),
            _id("question_id"),
            _text("answer", 4_000, nullable=True, let_go=True),
            Column("correct", Kind.BOOLEAN),
            _time("answered_at_ms"),
            _int("active_ms", 0, 24 * 3600 * 1000, nullable=True),
            _int("confidence", 1, 4, nullable=True, let_go=True),
            _text("purpose", 16, choices=PURPOSES),
            _id("device_id"),
            # The server's correction of a wrong device clock; every holder folds by it once it is known.
            _time("corrected_at_ms", nullable=True, set_by_server=True),
            # True where the server could only guess when the answer was given.
            Column("time_doubtful", Kind.BOOLEAN, nullable=True, set_by_server=True),
        ),
    ),
    Table(
        "study_plans",
        Policy.APPEND_ONLY,
        ScopeKind.STUDENT,
        "student_id",
        (
            _id(),
            _id("student_id"),
            _time("created_at_ms"),
            _date("starts_on"),
            _int("days", 1, 400),
            _text("planner_version", 40),
            _json("forecast", 16_000, nullable=True, shape=Shape.OBJECT),
            _json("notes", 64_000, nullable=True, shape=Shape.OBJECT),
            _id("device_id"),
        ),
    ),
    Table(
        "study_plan_items",
        Policy.LAST_WRITER,
        ScopeKind.STUDENT,
        "student_id",
        (
            _id(),
            _id("plan_id"),
            _id("student_id"),
            _id("concept_id"),
            _date("day"),
            _int("position", 0, 10_000),
            _text("kind", 16, choices=PLAN_ITEM_KINDS),
            _int("minutes", 1, DAY_MINUTES),
            _text("reason", 300),
            _text("status", 16, choices=PLAN_ITEM_STATES, updatable=True),
            _date("moved_to", nullable=True, updatable=True),
            _json("clocks", 4_000, set_by_server=True),
        ),
    ),
    # What the school says about a student's plans: a concept to study on `day` or as soon as there is time, one to leave out, a day without study.
    Table(
        "plan_rules",
        Policy.SERVER,
        ScopeKind.STUDENT,
        "student_id",
        (
            _id(),
            _id("student_id"),
            _text("kind", 16, choices=PLAN_RULES),
            _id("concept_id", nullable=True),
            _date("day", nullable=True),
            _time("created_at_ms"),
        ),
    ),
    # Values that lost a merge: whoever holds the student may read them.
    Table(
        "sync_conflicts",
        Policy.SERVER,
        ScopeKind.STUDENT,
        "student_id",
        (
            _id(),
            _id("student_id"),
            _text("table_name", 40),
            _id("row_id"),
            _text("field", 40),
            _json("base_value", 16_000, nullable=True),
            _json("base_clock", 100, nullable=True),
            _json("kept_value", 16_000, nullable=True),
            _json("kept_clock", 100, nullable=True),
            _json("lost_value", 16_000, nullable=True),
            _json("lost_clock", 100),
            _id("device_id"),  # whose push made the two meet; the school's own id where a change of its own did
            _text("rule", 40),
            _time("created_at_ms"),
            _time("restored_at_ms", nullable=True),
        ),
    ),
)

TABLES: Mapping[str, Table] = MappingProxyType({table.name: table for table in _TABLES})

# A table's place in the order "parents before children".
TABLE_ORDER: Mapping[str, int] = MappingProxyType({table.name: position for position, table in enumerate(_TABLES)})


def tables_in(scope: ScopeKind) -> tuple[Table, ...]:
    """The tables whose rows belong to scopes of this kind, parents first."""
    return tuple(table for table in _TABLES if table.scope is scope)
