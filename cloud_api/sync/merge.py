"""Applying rows whose fields devices change: per field the last writer wins, and what loses is kept (domain/merge.py decides)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud_api.sync.base import read_base
from cloud_api.sync.batch import Batch, DecodedRun
from cloud_api.sync.grants import Writer, judge_stored_rows, students_of
from cloud_api.sync.insert import Target
from cloud_api.sync.losers import Lost
from cloud_api.sync.references import judge_by_references, refused_rows
from cloud_api.sync.rows import fetch_rows, upsert_rows
from cloud_api.sync.savepoints import write_bisected
from cloud_api.sync.settled import Memory
from cloud_api.sync.tombstones import deleted_rows, tell_again
from domain.clock import clamp_hlc
from domain.merge import Base, FieldClock, Loser, merge_fields, merge_into_deleted
from domain.operations import OperationKind, Rejection
from domain.registry import Table

# The server itself is named as the origin of merged rows, so that the device that sent the change pulls the merged row too.
SERVER_ORIGIN = 0
# Tables whose row comes into being with the first change of one of its fields.
MADE_BY_UPDATE = ("student_profiles",)


@dataclass(slots=True)
class _Working:
    """A row while the operations of a run are merged into it."""

    row: dict[str, Any]
    seqs: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Merged:
    """What became of a run: seqs of operations that lost at least one field, that changed nothing, and the losers to keep."""

    losing: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    losers: list[Lost] = field(default_factory=list)


class Merger:
    """Merges one run of `writer` into the stored rows; `now_ms` is the server's time, by which clocks are clamped.

    `may_be_deleted` says whether the school has tombstones of this table at all.
    """

    def __init__(
        self, cursor: Any, target: Target, batch: Batch, run: DecodedRun, table: Table, writer: Writer, now_ms: int, *, may_be_deleted: bool
    ) -> None:
        self._cursor, self._target, self._batch, self._run, self._table = cursor, target, batch, run, table
        self._writer, self._now_ms, self._may_be_deleted = writer, now_ms, may_be_deleted
        self._memory = Memory(cursor, target.school_id, writer.device_id, table, run)
        self._result = Merged()

    def merge(self) -> Merged:
        """Applies the run: reads its rows, and what of it was dealt with before, in one statement each, decides, and writes the changed rows in another."""
        run, batch = self._run, self._batch
        places = self._not_refused(range(run.count))
        stored = fetch_rows(self._cursor, self._table, self._target.school_id, [run.row_ids[i] for i in places], lock=True)
        working = {row_id: _Working(row) for row_id, row in stored.items()}
        places = self._without_deleted(places, working)
        places = self._with_known_references(places, working)
        if not students_of(run):
            students = {i: working[run.row_ids[i]].row[self._table.scope_column or ""] for i in places}
            judge_stored_rows(self._cursor, batch, run, students, self._writer)
            places = self._not_refused(places)
        self._apply_all(working, places)
        self._result.losers = [lost for lost in self._result.losers if lost.seq not in batch.refusals]
        return self._result

    def _not_refused(self, places: Iterable[int]) -> list[int]:
        return [i for i in places if self._run.first_seq + i not in self._batch.refusals]

    def _without_deleted(self, places: list[int], working: dict[str, _Working]) -> list[int]:
        """Leaves out operations on rows that were deleted: what they say is kept as conflicts, and nothing rises again."""
        absent = [self._run.row_ids[i] for i in places if self._run.row_ids[i] not in working]
        if not absent or not self._may_be_deleted:
            return places
        deleted = deleted_rows(self._cursor, self._target.school_id, self._table.name, absent)
        students = {i: deleted[row_id].partition(":")[2] for i in places if (row_id := self._run.row_ids[i]) in deleted}
        if not students_of(self._run):
            judge_stored_rows(self._cursor, self._batch, self._run, students, self._writer)
        again = {}
        kept = self._not_refused(students)
        self._memory.recall(kept)
        for place in kept:
            known, _ = self._parted(self._memory.fresh(place))
            self._lose(place, students[place], merge_into_deleted(known, self._clock(place), self._base(place)))
            again[self._run.row_ids[place]] = self._target.number(self._run.first_seq + place)
        self._memory.remember(kept, self._now_ms)
        tell_again(self._cursor, self._target.school_id, self._table.name, again, self._now_ms)
        return [i for i in places if i not in students]

    def _with_known_references(self, places: list[int], working: dict[str, _Working]) -> list[int]:
        """Leaves out operations on rows that cannot be: inserts that refer to nothing, changes of rows that never came."""
        if self._run.kind == OperationKind.INSERT or self._table.name in MADE_BY_UPDATE:
            new = [i for i in places if self._run.row_ids[i] not in working]
            good = set(judge_by_references(self._cursor, self._target.school_id, self._batch, self._run, new))
            return [i for i in places if i in good or self._run.row_ids[i] in working]
        absent = {self._run.row_ids[i] for i in places} - working.keys()
        rejected = refused_rows(self._cursor, self._target.school_id, self._batch, absent) if absent else set()
        for place in places:
            row_id = self._run.row_ids[place]
            if row_id in rejected:
                self._batch.refuse(self._run.first_seq + place, Rejection.DEPENDS_ON, "The row's own operation was rejected.")
            elif row_id in absent:
                self._batch.refuse(self._run.first_seq + place, Rejection.UNKNOWN_REFERENCE, "There is no such row.")
        return [i for i in places if self._run.row_ids[i] not in absent]

    def _apply_all(self, working: dict[str, _Working], places: Sequence[int]) -> None:
        if self._run.kind == OperationKind.INSERT:
            for place in places:
                self._insert(working, place)
            self._write([w for w in working.values() if w.seqs])
            return
        self._memory.recall(places)
        for place in places:
            self._update(working, place)
        self._write([w for w in working.values() if w.seqs])
        self._memory.remember(self._not_refused(places), self._now_ms)

    def _insert(self, working: dict[str, _Working], place: int) -> None:
        seq, row_id = self._run.first_seq + place, self._run.row_ids[place]
        known, extra = self._parted(self._run.payload(place))
        clock = self._clock(place)
        held = working.get(row_id)
        if held is None:
            clocks = {name: clock for name in self._table.updatable if name in known}
            working[row_id] = _Working(self._new_row(row_id, known, extra, clocks), [seq])
        elif any(held.row[n] != v for n, v in known.items() if n not in self._table.updatable):
            self._batch.refuse(seq, Rejection.IMMUTABLE, "A row with this id exists with other content.")
        else:
            self._result.duplicates.append(seq)
            held_clocks = _clocks_of(held.row)
            if any(held.row[n] != known[n] or held_clocks.get(n) != clock for n in self._table.updatable if n in known):
                held.seqs.append(seq)

    def _update(self, working: dict[str, _Working], place: int) -> None:
        """Merges one update. Whatever comes of it, the row is written under the operation's number, so that the device that sent it, and shows
        its own value, pulls the row and gives way to it.
        """
        seq, row_id = self._run.first_seq + place, self._run.row_ids[place]
        known, extra = self._parted(self._memory.fresh(place))
        held = working.get(row_id)
        if held is None:
            held = working[row_id] = _Working(self._new_row(row_id, {}, {}, {}))
        merged = merge_fields(self._table, held.row, _clocks_of(held.row), known, self._clock(place), self._base(place))
        self._lose(place, held.row[self._table.scope_column or "id"], merged.losers)
        if not merged.changed and not merged.losers and not extra:
            self._result.duplicates.append(seq)
        held.row |= {**merged.changed, "clocks": merged.clocks, "_extra": {**(held.row["_extra"] or {}), **extra} or None}
        held.seqs.append(seq)

    def _parted(self, payload: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Columns of the registry, and fields of a newer peer."""
        known = {name: value for name, value in payload.items() if name in self._table.column_names}
        return known, {name: value for name, value in payload.items() if name not in known}

    def _clock(self, place: int) -> FieldClock:
        return clamp_hlc(self._run.hlcs[place], self._now_ms), self._writer.device_id

    def _base(self, place: int) -> Base | None:
        return read_base(self._table, self._run.bases[place]) if self._run.bases else None

    def _lose(self, place: int, student_id: str, losers: Sequence[Loser]) -> None:
        seq = self._run.first_seq + place
        if any(loser.arrived for loser in losers):
            self._result.losing.append(seq)
        raw = self._run.hlcs[place]
        row_id = self._run.row_ids[place]
        self._result.losers.extend(Lost(seq, row_id, student_id, raw if x.arrived else x.lost_clock[0], x) for x in losers)

    def _new_row(self, row_id: str, known: dict[str, Any], extra: dict[str, Any], clocks: dict[str, FieldClock]) -> dict[str, Any]:
        row = dict.fromkeys(self._table.column_names)
        return {**row, **known, "id": row_id, "clocks": clocks, "_extra": extra or None}

    def _write(self, changed: Sequence[_Working]) -> None:
        for working in changed:
            working.row |= {"feed_no": self._target.number(working.seqs[-1]), "origin_no": SERVER_ORIGIN}

        def write(part: Sequence[_Working]) -> None:
            upsert_rows(self._cursor, self._table, self._target.school_id, [w.row for w in part])

        for refused in write_bisected(self._cursor, changed, write):
            for seq in refused.seqs:
                self._batch.refuse(seq, Rejection.REFUSED, "The database does not take this row.")


def _clocks_of(row: dict[str, Any]) -> dict[str, FieldClock]:
    return {name: (int(value), str(writer)) for name, (value, writer) in row["clocks"].items()}
