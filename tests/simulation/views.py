"""What is stored, seen from outside: the rows of the server, read as far as they changed, and those of a device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from daemon import inbox
from domain.ids import Id
from domain.registry import TABLES, ScopeKind, Table
from tests.simulation.cloud import SimulatedCloud
from tests.simulation.device import SimulatedDevice

# What a row is known by here: the subject of its scope (a class, a student, nobody), and its feed number.
Place = tuple[str, int]
Rows = dict[str, dict[Id, Place]]


def subject_sql(table: Table) -> str:
    """SQL for the subject of a row's scope."""
    return table.scope_column or "NULL"


@dataclass
class ServerView:
    """The school's rows by table and id, the dead letters' codes by row, the feed's head and the server's epoch. `refresh` reads what is new."""

    database: SimulatedCloud
    school_id: Id
    rows: Rows = field(default_factory=lambda: {name: {} for name in TABLES})
    dead: dict[str, str] = field(default_factory=dict)
    head: int = 0
    epoch: str = ""
    _seen_commits: int = -1

    def refresh(self) -> bool:
        """Reads what came since, by feed number and tombstone; whether there may have been anything."""
        if self.database.commits == self._seen_commits:
            return False
        self._seen_commits = self.database.commits
        with self.database.transaction(read_only=True) as cursor:
            cursor.execute(_CHANGES, {"school": self.school_id, "head": self.head})
            for kind, row_id, subject, number in cursor.fetchall():
                if kind == "head":
                    self.head = number
                elif kind == "epoch":
                    self.epoch = row_id
                elif kind == "dead":
                    self.dead[row_id] = subject
                elif kind in self.rows:
                    self.rows[kind][row_id] = (_plain(subject), number)
                else:
                    self.rows[kind.removeprefix("-")].pop(row_id, None)
        return True

    def read_all(self) -> None:
        """Forgets everything and reads it again: by number alone one would not see what was written without one."""
        self.rows, self.dead, self.head, self._seen_commits = {name: {} for name in TABLES}, {}, 0, -1
        self.refresh()


def _plain(subject: str | None) -> str:
    return (subject or "").replace("-", "")


_CHANGES = " UNION ALL ".join(
    [
        "SELECT '-' || table_name, row_id, scope, feed_no FROM tombstones WHERE school_id = %(school)s::uuid AND feed_no > %(head)s::bigint",
        *(
            f"SELECT '{t.name}', id, {subject_sql(t)}::text, feed_no FROM {t.name} WHERE school_id = %(school)s::uuid AND feed_no > %(head)s::bigint"
            for t in TABLES.values()
        ),
        "SELECT 'dead', row_id, code, 0 FROM dead_letters WHERE school_id = %(school)s::uuid",
        "SELECT 'epoch', epoch, NULL, 0 FROM server_state",
        "SELECT 'head', NULL, NULL, head FROM schools WHERE id = %(school)s::uuid",
    ]
)


@dataclass
class DeviceView:
    """A device's rows by table and id, its cursors by scope and the epoch that they are of, and the ids of the operations in its log; read again after
    a commit.

    `queued` are the operations that no server has settled for good: pending and rejected ones. `changes` are (operation, table, row, payload) of
    the pending changes of rows, oldest first.
    """

    device: SimulatedDevice
    rows: Rows = field(default_factory=dict)
    cursors: dict[str, int] = field(default_factory=dict)
    epoch: str = ""
    logged: frozenset[str] = frozenset()
    pending: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()
    queued_rows: frozenset[str] = frozenset()
    changes: list[tuple[str, str, Id, str]] = field(default_factory=list)
    _seen: Any = None

    def refresh(self) -> bool:
        """Reads everything if the file was written since; whether it was."""
        state = (self.device.database, self.device.database.writes)
        if state == self._seen:
            return False
        self._seen = state
        self.rows = {name: {} for name in TABLES}
        with self.device.database.read() as conn:
            for table, row_id, subject, feed_no in conn.execute(_DEVICE_ROWS):
                self.rows[table][row_id] = (subject or "", feed_no)
            self.cursors = inbox.read_cursors(conn)
            self.epoch = (conn.execute("SELECT server_epoch FROM identity").fetchone() or ("",))[0]
            self._read_log(conn.execute("SELECT op_id, row_id, state FROM sync_operations").fetchall())
            self.changes = conn.execute(_QUEUED_CHANGES).fetchall()
        return True

    def _read_log(self, operations: Iterable[tuple[str, str, str]]) -> None:
        by_state: dict[str, set[str]] = {"pending": set(), "rejected": set(), "synced": set()}
        rows = set()
        for op_id, row_id, state in operations:
            by_state[state].add(op_id)
            if state != "synced":
                rows.add(row_id)
        self.pending, self.rejected = frozenset(by_state["pending"]), frozenset(by_state["rejected"])
        self.logged, self.queued_rows = self.pending | self.rejected | by_state["synced"], frozenset(rows)

    @property
    def queued(self) -> frozenset[str]:
        return self.pending | self.rejected

    @property
    def present(self) -> list[Id]:
        """The students who can be signed in: what a device is granted, it need not have yet."""
        return [student for student in self.students if student in self.rows["users"]]

    @property
    def students(self) -> list[Id]:
        """The students whose scope the device follows."""
        return sorted(Id(scope.partition(":")[2]) for scope in self.cursors if scope.startswith(f"{ScopeKind.STUDENT}:"))

    def summary(self) -> str:
        """In few words, for the trace."""
        attempts = self.rows["question_attempts"].values()
        return f"{len(self.logged)} logged, {len(self.pending)} pending, {len(self.rejected)} rejected; attempts {len(attempts)}/{sum(n for _, n in attempts)}"


_QUEUED_CHANGES = (
    "SELECT op_id, table_name, row_id, payload FROM sync_operations WHERE state = 'pending' AND kind = 'update' ORDER BY op_no"
)
_DEVICE_ROWS = " UNION ALL ".join(f"SELECT '{t.name}', id, {subject_sql(t)}, feed_no FROM {t.name}" for t in TABLES.values())
