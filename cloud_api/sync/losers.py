"""Values that lost a merge, on their way into `sync_conflicts`: readable, restorable, and told to the student's devices."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg2.extras import execute_values

from cloud_api.sync.insert import Target
from domain.ids import Id
from domain.merge import Loser


@dataclass(frozen=True, slots=True)
class Lost:
    """A loser with the operation that brought it about. `raw_hlc` is the lost value's clock before clamping, where it is known."""

    seq: int
    row_id: str
    student_id: str
    raw_hlc: int
    loser: Loser


def keep_losers(
    cursor: Any, target: Target, device_id: str, table: str, losers: Sequence[Lost], ids: Callable[[], Id], now_ms: int
) -> None:
    """Stores losers; each goes by the feed number of its operation. `device_id` is the device whose push made the two values meet."""
    if not losers:
        return
    execute_values(
        cursor,
        "INSERT INTO sync_conflicts (school_id, id, student_id, table_name, row_id, field, base_value, base_clock, kept_value, kept_clock,"
        " lost_value, lost_clock, lost_raw_hlc, device_id, rule, created_at_ms, feed_no) VALUES %s",
        [
            (
                target.school_id,
                ids(),
                lost.student_id,
                table,
                lost.row_id,
                lost.loser.field,
                _json(lost.loser.base and lost.loser.base.value),
                _json(lost.loser.base and lost.loser.base.clock),
                _json(lost.loser.kept),
                _json(lost.loser.kept_clock),
                _json(lost.loser.lost),
                json.dumps(lost.loser.lost_clock),
                lost.raw_hlc,
                device_id,
                lost.loser.rule.value,
                now_ms,
                target.number(lost.seq),
            )
            for lost in losers
        ],
    )


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value)
