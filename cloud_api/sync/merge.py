"""Applying rows whose fields devices change: per field the last writer wins, and what loses is kept (domain/merge.py decides)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg2.extras import execute_values

from cloud_api.sync.batch import Batch, DecodedRun
from cloud_api.sync.grants import Writer, judge_stored_rows, students_of
from cloud_api.sync.insert import Target
from cloud_api.sync.references import judge_by_references, refused_rows
from cloud_api.sync.rows import fetch_rows, upsert_rows
from cloud_api.sync.savepoints import write_bisected
from domain.clock import clamp_hlc
from domain.ids import Id
from domain.merge import FieldClock, Loser, merge_fields
from domain.operations import OperationKind, Rejection
from domain.registry import Table

# The server itself is named as the origin of merged rows, so that the device that sent the change pulls the merged row too.
_SERVER_ORIGIN = 0
# Tables whose row comes into being with the first change of one of its fields.
_MADE_BY_UPDATE = ("student_profiles",)


@dataclass(slots=True)
class _Working:
    """A row while the operations of a run are merged into it."""

    row: dict[str, Any]
    seqs: list[int] = field(default_factory=list)
    changed: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """A loser with the operation it came from."""

    seq: int
    row_id: str
    student_id: str
    raw_hlc: int
    loser: Loser


@dataclass(slots=True)
class Merged:
    """What became of a run: seqs of operations that lost at least one field, that changed nothing, and the losers to keep."""

    losing: list[int] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    losers: list[Lost] = field(default_factory=list)


class Merger:
    """Merges one run of `writer` into the stored rows; `now_ms` is the server's time, by which clocks are clamped."""

    def __init__(self, cursor: Any, target: Target, batch: Batch, run: DecodedRun, table: Table, writer: Writer, now_ms: int) -> None:
        self._cursor, self._target, self._batch, self._run, self._table = cursor, target, batch, run, table
        self._writer, self._now_ms = writer, now_ms
        self._result = Merged()

    def merge(self) -> Merged:
        """Applies the run: reads its rows in one statement, decides, and writes the changed ones in another."""
        run, batch = self._run, self._batch
        places = [i for i in range(run.count) if run.first_seq + i not in batch.refusals]
        stored = fetch_rows(self._cursor, self._table, self._target.school_id, [run.row_ids[i] for i in places], lock=True)
        working = {row_id: _Working(row) for row_id, row in stored.items()}
        places = self._with_known_references(places, working)
        if not students_of(run):
            students = {i: working[run.row_ids[i]].row[self._table.scope_column or ""] for i in places}
            judge_stored_rows(self._cursor, batch, run, students, self._writer)
            places = [i for i in places if run.first_seq + i not in batch.refusals]
        for place in places:
            self._apply(working, place)
        self._write([w for w in working.values() if w.changed])
        return self._result

    def _with_known_references(self, places: list[int], working: dict[str, _Working]) -> list[int]:
        """Leaves out operations on rows that cannot be: inserts that refer to nothing, changes of rows that never came."""
        if self._run.kind == OperationKind.INSERT or self._table.name in _MADE_BY_UPDATE:
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

    def _apply(self, working: dict[str, _Working], place: int) -> None:
        seq, row_id = self._run.first_seq + place, self._run.row_ids[place]
        clock = (clamp_hlc(self._run.hlcs[place], self._now_ms), self._writer.device_id)
        payload = self._run.payload(place)
        known = {name: value for name, value in payload.items() if name in self._table.column_names}
        extra = {name: value for name, value in payload.items() if name not in known}
        held = working.get(row_id)
        if self._run.kind == OperationKind.INSERT:
            if held is None:
                working[row_id] = _Working(self._new_row(row_id, known, extra, clock), [seq], changed=True)
            elif any(held.row[n] != v for n, v in known.items() if n not in self._table.updatable):
                self._batch.refuse(seq, Rejection.IMMUTABLE, "A row with this id exists with other content.")
            else:
                self._result.duplicates.append(seq)
                if any(held.row[n] != v for n, v in known.items()):
                    self._publish(held, seq)
            return
        if held is None:
            held = working[row_id] = _Working(self._new_row(row_id, {}, {}, clock))
            held.row["clocks"] = {}
        self._merge_into(held, seq, known, extra, clock, self._run.hlcs[place])

    def _new_row(self, row_id: str, known: dict[str, Any], extra: dict[str, Any], clock: FieldClock) -> dict[str, Any]:
        row = dict.fromkeys(self._table.column_names)
        clocks = {name: clock for name in self._table.updatable if name in known}
        return {**row, **known, "id": row_id, "clocks": clocks, "_extra": extra or None}

    def _merge_into(self, held: _Working, seq: int, fields: dict[str, Any], extra: dict[str, Any], clock: FieldClock, raw_hlc: int) -> None:
        clocks = {name: (int(c[0]), str(c[1])) for name, c in held.row["clocks"].items()}
        merged = merge_fields(self._table, held.row, clocks, fields, clock)
        if merged.losers:
            self._result.losing.append(seq)
            student = held.row[self._table.scope_column or "id"]
            self._result.losers.extend(Lost(seq, held.row["id"], student, raw_hlc, loser) for loser in merged.losers)
        if merged.changed or extra:
            held.row |= {**merged.changed, "clocks": merged.clocks, "_extra": {**(held.row["_extra"] or {}), **extra} or None}
            self._publish(held, seq)
        elif merged.losers:
            self._publish(held, seq)
        else:
            self._result.duplicates.append(seq)

    def _publish(self, held: _Working, seq: int) -> None:
        """Has the row written under the operation's number: a device that has its own, losing value on show pulls the row and gives way to it."""
        held.seqs.append(seq)
        held.changed = True

    def _write(self, changed: Sequence[_Working]) -> None:
        for working in changed:
            working.row |= {"feed_no": self._target.number(working.seqs[-1]), "origin_no": _SERVER_ORIGIN}

        def write(part: Sequence[_Working]) -> None:
            upsert_rows(self._cursor, self._table, self._target.school_id, [w.row for w in part])

        for refused in write_bisected(self._cursor, changed, write):
            for seq in refused.seqs:
                self._batch.refuse(seq, Rejection.REFUSED, "The database does not take this row.")


def keep_losers(
    cursor: Any, target: Target, writer: Writer, table: Table, losers: Sequence[Lost], ids: Callable[[], Id], now_ms: int
) -> None:
    """Stores the values that lost in `sync_conflicts`, readable and restorable; each goes by the feed number of its operation."""
    if not losers:
        return
    execute_values(
        cursor,
        "INSERT INTO sync_conflicts (school_id, id, student_id, table_name, row_id, field, kept_value, kept_clock, lost_value, lost_clock,"
        " lost_raw_hlc, device_id, rule, created_at_ms, feed_no) VALUES %s",
        [
            (
                writer.school_id,
                ids(),
                lost.student_id,
                table.name,
                lost.row_id,
                lost.loser.field,
                json.dumps(lost.loser.kept),
                json.dumps(lost.loser.kept_clock),
                json.dumps(lost.loser.lost),
                json.dumps(lost.loser.lost_clock),
                lost.raw_hlc,
                writer.device_id,
                lost.loser.rule.value,
                now_ms,
                target.number(lost.seq),
            )
            for lost in losers
        ],
    )
