"""What the fleet page shows of all devices together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from cloud_api.fleet.hours import Hour
from cloud_api.fleet.overview import State, Totals
from cloud_api.pages import words
from cloud_api.pages.fleet.words import Standing, standing

# Columns of the charts.
HOURS = 48


@dataclass(frozen=True, slots=True)
class Figure:
    """A number, and what it counts."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class FleetView:
    """Everything that the template shows; both charts have a column for each of the last HOURS hours. `devices`: how many are in use."""

    devices: int
    standing: Standing
    figures: list[Figure]
    operations: list[int]
    operations_names: list[str]
    operations_label: str
    operations_note: str
    backlog: list[int]
    backlog_names: list[str]
    backlog_label: str
    backlog_note: str


def view_of(totals: Totals, hours: Sequence[Hour], now_ms: int) -> FleetView:
    """The view at a moment."""
    hours = [*hours[:-1], replace(hours[-1], backlog=totals.pending)]
    operations = [hour.operations for hour in hours]
    came = f"{words.count(sum(operations), 'change')}, at most {words.number(max(operations))} an hour"
    last = f"{words.count(totals.pending, 'change')} now"
    return FleetView(
        totals.devices,
        standing(totals),
        _figures(totals, now_ms),
        operations,
        [f"{_when(hour, now_ms)}: {words.count(hour.operations, 'change')}" for hour in hours],
        f"Changes that came to school in each of the last {HOURS} hours: {came}.",
        came,
        [hour.backlog or 0 for hour in hours],
        [f"{_when(hour, now_ms)}: {_backlog(hour)}" for hour in hours],
        f"Changes that waited on devices in each of the last {HOURS} hours, by their own word: {last}.",
        last,
    )


def _figures(totals: Totals, now_ms: int) -> list[Figure]:
    quiet = totals.states[State.SILENT] + totals.states[State.NEVER]
    oldest = totals.oldest_pending_at_ms
    return [
        Figure(
            words.number(totals.devices),
            "device" if totals.devices == 1 else "devices",
            f"last contact {words.ago(totals.last_seen_ms, now_ms)}",
        ),
        Figure(words.number(quiet), "silent"),
        Figure(
            words.number(totals.pending),
            "change waiting on devices" if totals.pending == 1 else "changes waiting on devices",
            f"the oldest for {words.span(now_ms - oldest)}" if oldest is not None else "",
        ),
        Figure(words.number(totals.first_syncs), "fetching everything"),
        Figure(words.number(totals.dead_letters), "refused changes"),
        Figure(words.number(totals.conflicts), "conflicts"),
        Figure(words.number(totals.clocks_wrong), "wrong clocks"),
    ]


def _when(hour: Hour, now_ms: int) -> str:
    return "this hour" if now_ms - hour.began_ms < words.HOUR_MS else f"{words.span(now_ms - hour.began_ms)} ago"


def _backlog(hour: Hour) -> str:
    return "nothing came, so nobody counted" if hour.backlog is None else f"{words.number(hour.backlog)} waiting"
