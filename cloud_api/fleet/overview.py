"""The devices of a school as school IT looks at them: how many are in which state, a page of them, one of them.

Whatever the number of devices, each look is one statement. A state is what can be vouched for: a device that was not heard of for a day is
silent, whatever it said before that.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cloud_api.database import Cursor, one_row
from cloud_api.devices.replacement import is_replaced
from domain.errors import NotFound
from domain.ids import Id

# A device that was not heard of for so long is silent: a day is longer than a night.
SILENT_AFTER_MS = 24 * 3_600_000
# Work that waits on a device for longer, although the device comes, does not get through.
STUCK_AFTER_MS = 24 * 3_600_000
# What a device's clock may be wrong by (either way) before somebody should look; times of answers are corrected in any case.
CLOCK_WRONG_MS = 5 * 60_000
PAGE_DEVICES = 50


class State(StrEnum):
    """What is to be said of a device, the first that holds."""

    REVOKED = "revoked"  # its access was ended
    REPLACED = "replaced"  # it was enrolled again, and is another device now
    NEVER = "never"  # enrolled, and not heard of since
    SILENT = "silent"  # not heard of for SILENT_AFTER_MS
    TROUBLE = "trouble"  # heard of, and something needs a person: refused changes, work that does not get through, a wrong clock
    FETCHING = "fetching"  # fetches everything for the first time
    WAITING = "waiting"  # heard of, and said that something waits
    CURRENT = "current"  # heard of, and said that nothing waits


# Devices of before: not shown unless asked for, and in no sum.
GONE = (State.REVOKED, State.REPLACED)
# What pages can be ordered by. Ties, and devices alike, stand by name.
SORTS: Mapping[str, str] = {
    "attention": "attention, last_seen_ms NULLS FIRST",
    "name": "",
    "contact": "last_seen_ms NULLS FIRST",
    "backlog": "pending_ops DESC NULLS LAST",
    "refused": "dead_letters DESC",
    "conflicts": "conflicts DESC",
    "clock": "abs(clock_offset_ms) DESC NULLS LAST",
    "version": "app_version",
}


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device. `pending`, `oldest_pending_at_ms` and the versions are its own word, given at `reported_at_ms`; None: it gave none.
    `replaced_by` counts in the state REPLACED.

    `dead_letters` are its changes that the school has refused, `conflicts` the values that lost against another's and were not restored.
    """

    id: Id
    name: str
    state: State
    app_version: str
    schema_version: int | None
    enrolled_at_ms: int
    last_seen_ms: int | None
    clock_offset_ms: int | None
    revoked_at_ms: int | None
    revocation: str | None
    obeyed_at_ms: int | None
    unsent_at_wipe: int | None
    pending: int | None
    oldest_pending_at_ms: int | None
    reported_at_ms: int | None
    replaced_by: Id | None
    dead_letters: int
    conflicts: int

    @property
    def clock_is_wrong(self) -> bool:
        return self.clock_offset_ms is not None and abs(self.clock_offset_ms) > CLOCK_WRONG_MS


@dataclass(frozen=True, slots=True)
class Totals:
    """All devices together: how many are in each state (revoked and replaced ones count in `states` alone), and sums over the others."""

    states: Mapping[State, int]
    pending: int
    oldest_pending_at_ms: int | None
    dead_letters: int
    conflicts: int
    first_syncs: int
    clocks_wrong: int
    last_seen_ms: int | None

    @property
    def devices(self) -> int:
        return sum(count for state, count in self.states.items() if state not in GONE)


_JUDGED = """
WITH letters AS MATERIALIZED (SELECT school_id, device_id, count(*) AS n FROM dead_letters WHERE {where} GROUP BY school_id, device_id),
     lost AS MATERIALIZED (SELECT school_id, device_id, count(*) AS n FROM sync_conflicts WHERE {where} AND restored_at_ms IS NULL GROUP BY school_id, device_id),
     counted AS (
         SELECT d.*, coalesce(letters.n, 0) AS dead_letters, coalesce(lost.n, 0) AS conflicts
           FROM devices d
           LEFT JOIN letters ON letters.school_id = d.school_id AND letters.device_id = d.id
           LEFT JOIN lost ON lost.school_id = d.school_id AND lost.device_id = d.id
          WHERE d.{where}
     ),
     judged AS (
         SELECT counted.*, CASE
                WHEN revoked_at_ms IS NOT NULL THEN 'revoked'
                WHEN {replaced} THEN 'replaced'
                WHEN last_seen_ms IS NULL THEN 'never'
                WHEN last_seen_ms < %(now)s - %(silent)s THEN 'silent'
                WHEN dead_letters > 0 OR abs(clock_offset_ms) > %(wrong)s OR oldest_pending_at_ms < %(now)s - %(stuck)s THEN 'trouble'
                WHEN first_sync_until_ms > %(now)s THEN 'fetching'
                WHEN pending_ops > 0 THEN 'waiting'
                ELSE 'current' END AS state
           FROM counted
     )
"""
_OF_SCHOOL, _OF_ALL = (
    _JUDGED.format(where=where, replaced=is_replaced("counted")) for where in ("school_id = %(school)s", "school_id IS NOT NULL")
)
_TOTALS = """
SELECT count(*) FILTER (WHERE state = 'revoked'), count(*) FILTER (WHERE state = 'replaced'), count(*) FILTER (WHERE state = 'never'),
       count(*) FILTER (WHERE state = 'silent'), count(*) FILTER (WHERE state = 'trouble'), count(*) FILTER (WHERE state = 'fetching'), count(*) FILTER (WHERE state = 'waiting'),
       count(*) FILTER (WHERE state = 'current'),
       coalesce(sum(pending_ops) FILTER (WHERE state NOT IN ('revoked', 'replaced')), 0)::bigint,
       min(oldest_pending_at_ms) FILTER (WHERE state NOT IN ('revoked', 'replaced') AND pending_ops > 0),
       (SELECT coalesce(sum(n), 0) FROM letters)::bigint, (SELECT coalesce(sum(n), 0) FROM lost)::bigint,
       count(*) FILTER (WHERE state NOT IN ('revoked', 'replaced') AND first_sync_until_ms > %(now)s),
       count(*) FILTER (WHERE state NOT IN ('revoked', 'replaced') AND abs(clock_offset_ms) > %(wrong)s),
       max(last_seen_ms)
  FROM judged
"""
_COLUMNS = """
SELECT id, name, state, app_version, schema_version, enrolled_at_ms, last_seen_ms, clock_offset_ms, revoked_at_ms, revocation, obeyed_at_ms,
       unsent_at_wipe, pending_ops, oldest_pending_at_ms, reported_at_ms, replaced_by, dead_letters, conflicts,
       array_position(ARRAY['trouble', 'never', 'silent', 'fetching', 'waiting', 'current', 'replaced', 'revoked'], state) AS attention
  FROM judged
"""
_MATCHING = """
 WHERE (%(state)s = '' AND state NOT IN ('revoked', 'replaced') OR state = %(state)s) AND position(lower(%(text)s) IN lower(name)) > 0
"""


def totals(cursor: Cursor, school_id: str | None, now_ms: int) -> Totals:
    """Over one school, or (None) over every school of the server, in a transaction that reaches them."""
    cursor.execute((_OF_ALL if school_id is None else _OF_SCHOOL) + _TOTALS, {"school": school_id, **_limits(now_ms)})
    row = one_row(cursor)
    found = dict(zip(State, row[: len(State)], strict=True))
    return Totals(found, *row[len(State) :])


def devices_page(
    cursor: Cursor, school_id: str, now_ms: int, *, state: str = "", text: str = "", sort: str = "attention", offset: int = 0
) -> tuple[list[DeviceRow], int]:
    """At most PAGE_DEVICES devices of a school from `offset` on, and how many match in all.

    `state` is one of State (empty: all but GONE), `text` a part of the name, `sort` one of SORTS (any other: the first).
    """
    order = ", ".join(filter(None, (SORTS.get(sort, SORTS["attention"]), "lower(name)", "id")))
    cursor.execute(
        f"{_OF_SCHOOL}, found AS ({_COLUMNS}{_MATCHING}) SELECT *, (SELECT count(*) FROM found) FROM found"
        f" ORDER BY {order} OFFSET %(offset)s LIMIT %(rows)s",
        {"school": school_id, "state": state, "text": text, "offset": offset, "rows": PAGE_DEVICES, **_limits(now_ms)},
    )
    rows = cursor.fetchall()
    return [_device(row) for row in rows], rows[0][-1] if rows else 0


def device(cursor: Cursor, school_id: str, device_id: str, now_ms: int) -> DeviceRow:
    """One device. Raises NotFound."""
    cursor.execute(f"{_OF_SCHOOL}{_COLUMNS} WHERE id = %(device)s", {"school": school_id, "device": device_id, **_limits(now_ms)})
    if (row := cursor.fetchone()) is None:
        raise NotFound("There is no such device in the school.")
    return _device(row)


def refused_of(cursor: Cursor, school_id: str, device_id: str) -> list[tuple[str, int]]:
    """Why changes of a device were refused: (code of the rejection, how many), the most frequent first."""
    cursor.execute(
        "SELECT code, count(*) FROM dead_letters WHERE school_id = %s AND device_id = %s GROUP BY code ORDER BY 2 DESC, 1",
        (school_id, device_id),
    )
    return cursor.fetchall()


def _limits(now_ms: int) -> dict[str, Any]:
    return {"now": now_ms, "silent": SILENT_AFTER_MS, "stuck": STUCK_AFTER_MS, "wrong": CLOCK_WRONG_MS}


def _device(row: tuple[Any, ...]) -> DeviceRow:
    id_, name, state, *rest = row[:18]
    return DeviceRow(id_, name, State(state), *rest)
