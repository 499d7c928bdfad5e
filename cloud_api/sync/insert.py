"""Applying append-only rows: one statement when all of them are new, and set-wise sorting out when they are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cloud_api.sync.batch import Batch, DecodedRun
from cloud_api.sync.clocks import CorrectionRange, corrected_columns, stored_correction, told_corrections
from cloud_api.sync.references import judge_by_references
from cloud_api.sync.rows import ColumnValues, fetch_rows, insert_columns
from cloud_api.sync.savepoints import accepted, write_bisected
from domain.operations import Rejection
from domain.registry import Kind, Table

FeedRange = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Target:
    """Where rows go: the school, the incarnation that writes them, and the feed number that the operation `first_seq` takes.

    Every operation of a batch has a number of its own, `feed_no + seq - first_seq`; numbers of operations that write nothing stay unused.
    """

    school_id: str
    origin_no: int
    first_seq: int
    feed_no: int

    def number(self, seq: int) -> int:
        return self.feed_no + seq - self.first_seq


@dataclass(frozen=True, slots=True)
class Inserted:
    """What became of a run: ranges [first seq, last seq, feed number of the first] of stored rows, the seqs of old ones, and the corrections of
    their times.
    """

    feed: list[FeedRange]
    duplicates: list[int]
    corrections: list[CorrectionRange]


def insert_run(cursor: Any, target: Target, batch: Batch, run: DecodedRun) -> Inserted:
    """Inserts the run's rows that nothing speaks against, refusing the others in `batch`.

    The common case, all new, is one INSERT. When PostgreSQL refuses that, the run is sorted out: rows that exist are duplicates or
    `immutable`, rows that refer to nothing are refused, the rest is written in ever smaller parts.
    """
    if not any(run.first_seq <= seq < run.first_seq + run.count for seq in batch.refusals):
        places: Sequence[int] = range(run.count)
        if accepted(cursor, lambda: _insert(cursor, target, run, places)):
            through = run.first_seq + run.count - 1
            return Inserted([(run.first_seq, through, target.number(run.first_seq))], [], told_corrections(run, places))
    return _insert_sorted_out(cursor, target, batch, run)


def _insert_sorted_out(cursor: Any, target: Target, batch: Batch, run: DecodedRun) -> Inserted:
    table = _table(run)
    places = [i for i in range(run.count) if run.first_seq + i not in batch.refusals]
    stored = fetch_rows(cursor, table, target.school_id, [run.row_ids[i] for i in places])
    feed: list[FeedRange] = []
    duplicates: list[int] = []
    corrected: list[CorrectionRange] = []
    new: list[int] = []
    first_place: dict[str, int] = {}
    for place in places:
        row_id, seq = run.row_ids[place], run.first_seq + place
        before = stored.get(row_id)
        if before is None and row_id in first_place:
            before = run.payload(first_place[row_id]) | {"feed_no": target.number(run.first_seq + first_place[row_id])}
        if before is None:
            first_place[row_id] = place
            new.append(place)
        elif same_content(table, run, place, before):
            duplicates.append(seq)
            feed.append((seq, seq, before["feed_no"]))
            corrected.extend(stored_correction(seq, before))
        else:
            batch.refuse(seq, Rejection.IMMUTABLE, "A row with this id exists with other content.")
    new = judge_by_references(cursor, target.school_id, batch, run, new)
    refused = write_bisected(cursor, new, lambda part: _insert(cursor, target, run, part))
    for place in refused:
        batch.refuse(run.first_seq + place, Rejection.REFUSED, "The database does not take this row.")
    kept = sorted(set(new).difference(refused))
    feed.extend((run.first_seq + p, run.first_seq + p, target.number(run.first_seq + p)) for p in kept)
    return Inserted(_joined(sorted(feed)), duplicates, corrected + told_corrections(run, kept))


def _table(run: DecodedRun) -> Table:
    if run.table is None:
        raise LookupError(run.table_name)  # runs of unknown tables are refused before they come here
    return run.table


def same_content(table: Table, run: DecodedRun, place: int, stored: dict[str, Any]) -> bool:
    """Whether a stored row holds what an operation would insert, or held it before somebody let go of a part."""
    return all(c.agrees(stored.get(c.name), run.fields[c.name][place]) for c in table.columns[1:] if c.name in run.fields)


def _joined(ranges: list[FeedRange]) -> list[FeedRange]:
    """Neighbouring ranges made one."""
    joined: list[FeedRange] = []
    for first, last, number in ranges:
        if joined and joined[-1][1] == first - 1 and joined[-1][2] + first - joined[-1][0] == number:
            joined[-1] = (joined[-1][0], last, joined[-1][2])
        else:
            joined.append((first, last, number))
    return joined


def _insert(cursor: Any, target: Target, run: DecodedRun, places: Sequence[int]) -> None:
    table = _table(run)
    whole = len(places) == run.count

    def taken(values: Sequence[Any]) -> Sequence[Any]:
        return values if whole else [values[i] for i in places]

    first = target.number(run.first_seq)
    columns = [
        ColumnValues("id", Kind.ID, taken(run.row_ids)),
        *(ColumnValues(c.name, c.kind, taken(run.fields[c.name])) for c in table.columns[1:] if c.name in run.fields),
        *(ColumnValues(name, table.column(name).kind, values) for name, values in corrected_columns(run, places).items()),
        ColumnValues("feed_no", Kind.INTEGER, [first + i for i in places]),
        *_extra(table, run, places),
    ]
    insert_columns(cursor, table.name, {"school_id": target.school_id, "origin_no": target.origin_no}, columns)


def _extra(table: Table, run: DecodedRun, places: Sequence[int]) -> list[ColumnValues]:
    """Fields of a newer peer, kept until a migration gives them a place."""
    unknown = [name for name in run.fields if name not in table.column_names]
    if not unknown:
        return []
    return [ColumnValues("_extra", Kind.JSON, [{name: run.fields[name][i] for name in unknown} for i in places])]
