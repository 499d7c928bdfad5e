"""What the localhost API has accepted in a world, and what became of it: the other side of the invariants' account.

It is kept by what students did, without a look at the product's own books.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from domain.ids import Id

# How long settled operations are kept for a server that is restored from a backup (docs/protocol.md, "Push").
KEPT_MS = 60 * 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """An accepted answer."""

    student: Id
    question: Id
    correct: bool
    answer: str
    by_later: bool  # written by a device of a later version


@dataclass(frozen=True, slots=True)
class Edit:
    """An accepted change of one field. Values are unique in a world; `seen` is the one that was on show when it was made."""

    table: str
    row_id: Id
    field: str
    value: Any
    seen: Any


@dataclass
class Ledger:
    """By operation id (an attempt's is its row's): what was accepted, spoiled by `_poison`, or lost with a file that no software can bring back.

    `settled_ms` is when each operation was first seen settled, in true time; `unlogged` are those that are in no device's log any more for a good
    reason.
    """

    attempts: dict[Id, Attempt] = field(default_factory=dict)
    edits: dict[Id, Edit] = field(default_factory=dict)
    poisoned: set[str] = field(default_factory=set)
    excused: set[str] = field(default_factory=set)
    settled_ms: dict[str, int] = field(default_factory=dict)
    unlogged: set[str] = field(default_factory=set)
    values: int = 0

    def new_value(self) -> int:
        """A number that no other value of the world has."""
        self.values += 1
        return self.values

    @property
    def lost_rows(self) -> set[str]:
        """Rows that the school may lack for good, and that a device may hold all the same."""
        return self.excused | {edit.row_id for op_id, edit in self.edits.items() if op_id in self.excused}

    def note_log(self, before: frozenset[str], queued: frozenset[str], logged: frozenset[str], now_ms: int) -> None:
        """One device's log has changed from `before` to `logged`, of which `queued` are not settled. What went after its time went by right."""
        for op_id in logged - queued:
            self.settled_ms.setdefault(op_id, now_ms)
        for op_id in before - logged:
            if now_ms - self.settled_ms.get(op_id, now_ms) >= KEPT_MS:
                self.unlogged.add(op_id)
