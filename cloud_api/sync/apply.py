"""Applying judged operations run by run, under feed numbers of their own: the part of a push that an administrator's replay shares."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud_api.sync import feed
from cloud_api.sync.batch import Batch, DecodedRun
from cloud_api.sync.clocks import CorrectionRange
from cloud_api.sync.grants import Writer
from cloud_api.sync.insert import FeedRange, Target, insert_run
from cloud_api.sync.losers import keep_losers
from cloud_api.sync.merge import Merger
from cloud_api.sync.tombstones import refuse_deleted, tables_with_tombstones
from domain.ids import Id
from domain.registry import Policy


@dataclass(slots=True)
class Settled:
    """What became of a batch, besides its refusals."""

    feed: list[FeedRange] = field(default_factory=list)
    duplicates: list[int] = field(default_factory=list)
    losing: list[int] = field(default_factory=list)
    corrections: list[CorrectionRange] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose rows are written: the device that wrote them, and the number of the incarnation under which they go into the feed."""

    writer: Writer
    incarnation_no: int


class Applier:
    """Applies the runs of one batch in the caller's transaction. `ids` makes ids for conflicts, `now_ms` is the server's time."""

    def __init__(self, cursor: Any, origin: Origin, ids: Callable[[], Id], now_ms: int) -> None:
        self._cursor, self._writer, self._origin_no, self._ids, self._now_ms = cursor, origin.writer, origin.incarnation_no, ids, now_ms
        self._with_tombstones: frozenset[str] = frozenset()

    def apply(self, batch: Batch, runs: Sequence[DecodedRun], settled: Settled) -> None:
        """Applies what is not refused of the runs, the last ones of the batch. Takes a feed number for each of their operations."""
        left = [run for run in runs if not _refused_whole(batch, run)]
        if not left:
            return
        count = sum(run.count for run in runs)
        number = feed.take(self._cursor, self._writer.school_id, count)
        target = Target(self._writer.school_id, self._origin_no, runs[0].first_seq, number)
        self._with_tombstones = tables_with_tombstones(self._cursor, target.school_id, [run.table_name for run in left])
        refuse_deleted(self._cursor, target, batch, left, self._with_tombstones, self._now_ms)
        for run in left:
            self._apply_run(target, batch, run, settled)

    def _apply_run(self, target: Target, batch: Batch, run: DecodedRun, settled: Settled) -> None:
        table = run.table
        if table is None or _refused_whole(batch, run):
            return
        if table.policy is Policy.APPEND_ONLY:
            inserted = insert_run(self._cursor, target, batch, run)
            settled.feed.extend(inserted.feed)
            settled.duplicates.extend(inserted.duplicates)
            settled.corrections.extend(inserted.corrections)
            return
        may_be_deleted = table.name in self._with_tombstones
        merger = Merger(self._cursor, target, batch, run, table, self._writer, self._now_ms, may_be_deleted=may_be_deleted)
        merged = merger.merge()
        keep_losers(self._cursor, target, self._writer.device_id, table.name, merged.losers, self._ids, self._now_ms)
        settled.duplicates.extend(merged.duplicates)
        settled.losing.extend(merged.losing)


def _refused_whole(batch: Batch, run: DecodedRun) -> bool:
    return all(seq in batch.refusals for seq in range(run.first_seq, run.first_seq + run.count))
