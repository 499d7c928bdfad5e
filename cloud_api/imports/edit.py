"""A planned change of a school's rows: what is stored, what shall be, and the difference, counted table by table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cloud_api.database import Cursor
from cloud_api.people import end_memberships
from cloud_api.plan_rules import follow_classes
from cloud_api.publication import Progress, Publication, Row, read_rows
from domain.ids import IdSource
from domain.registry import TABLES, ScopeKind


@dataclass(slots=True)
class Counts:
    """Rows of one table: new, changed, retired or deleted because they vanished, and left as they were."""

    created: int = 0
    changed: int = 0
    retired: int = 0
    unchanged: int = 0


class Edit:
    """Rows that shall be so, compared with those that are; nothing is written before `write`.

    Reads a table when it is first asked for, in the caller's transaction, which must hold the school's edit lock.
    """

    def __init__(self, cursor: Cursor, school_id: str, ids: IdSource, now_ms: int) -> None:
        self.school_id = school_id
        self.now_ms = now_ms
        self.counts: dict[str, Counts] = {}
        self._cursor = cursor
        self._ids = ids
        self._publication = Publication(school_id)
        self._ended_members: list[Row] = []
        self._created: defaultdict[str, list[str]] = defaultdict(list)
        self._stored: dict[str, dict[str, Row]] = {}

    def stored(self, table: str) -> dict[str, Row]:
        """The school's rows of a table as they are now, by id."""
        if table not in self._stored:
            self._stored[table] = read_rows(self._cursor, TABLES[table], self.school_id)
        return self._stored[table]

    def by_external_id(self, table: str) -> dict[str, Row]:
        """The stored rows that have an external id, by it."""
        return {row["external_id"]: row for row in self.stored(table).values() if row["external_id"]}

    def id_for(self, row: Mapping[str, Any] | None) -> str:
        """The id of a stored row, or a new one."""
        return row["id"] if row else self._ids.new()

    def put(self, table: str, row: Row) -> None:
        """A row that shall be so, with its id; counted as created, changed or unchanged."""
        counts = self._counts(table)
        now = self.stored(table).get(row["id"])
        if now is None:
            counts.created += 1
            self._created[table].append(row["id"])
            self._publication.put(table, row)
        elif any(now[name] != value for name, value in row.items()):
            counts.changed += 1
            self._publication.put(table, {**now, **row})
        else:
            counts.unchanged += 1

    def retire(self, table: str, row: Row) -> None:
        """A stored row that is no longer to be used; it stays for whatever refers to it."""
        self._counts(table).retired += 1
        self._publication.put(table, {**row, "retired_at_ms": self.now_ms})

    def delete(self, table: str, row: Row) -> None:
        """A stored row of the scope `school` that nothing refers to."""
        self._counts(table).retired += 1
        self._publication.delete(table, row["id"], ScopeKind.SCHOOL)

    def end_membership(self, member: Row) -> None:
        """A stored row of class_members that is to leave its class."""
        self._counts("class_members").retired += 1
        self._ended_members.append(member)

    def write(self, progress: Progress) -> range:
        """Writes the difference and returns the feed numbers taken; the last change of its transaction (`Publication.write`)."""
        end_memberships(self._cursor, self._publication, self.school_id, self._ended_members, self.now_ms)
        numbers = self._publication.write(self._cursor, self.now_ms, progress)
        if self._ended_members or self._created["class_members"]:
            followed = follow_classes(self._cursor, self._ids, self.school_id, self._created["class_members"], self.now_ms)
            return range(numbers.start, followed.stop) if followed else numbers
        return numbers

    def _counts(self, table: str) -> Counts:
        return self.counts.setdefault(table, Counts())
