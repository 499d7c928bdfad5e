"""What the fleet page says: states of devices, the sentence on top, what somebody should do about a device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloud_api.fleet.overview import DeviceRow, State, Totals
from cloud_api.pages.words import DAY_MS, MINUTE_MS, count, number, span

# After so long a silent device is one to look for.
LONG_SILENT_MS = 14 * DAY_MS

# States as the filter names them.
STATES: Mapping[State, str] = {
    State.TROUBLE: "need a look",
    State.NEVER: "not heard of yet",
    State.SILENT: "silent",
    State.FETCHING: "fetching everything",
    State.WAITING: "sending",
    State.CURRENT: "up to date",
    State.REPLACED: "enrolled again",
    State.REVOKED: "revoked",
}
# Columns of the table, as they are headed ("#": of numbers), each with the order in which a click on it puts the devices.
COLUMNS: Sequence[tuple[str, str]] = (
    ("Device", "name"),
    ("State", "attention"),
    ("Last contact", "contact"),
    ("#Waiting", "backlog"),
    ("#Refused", "refused"),
    ("#Conflicts", "conflicts"),
    ("Clock", "clock"),
    ("Version", "version"),
)
SORTS: Mapping[str, str] = {
    "attention": "what needs a look",
    "name": "name",
    "contact": "longest silent",
    "backlog": "most waiting",
    "refused": "most refused",
    "conflicts": "most conflicts",
    "clock": "clock",
    "version": "version",
}
ORDERS: Mapping[str, str] = {
    "lock": "Lock: the device keeps what it holds, and nobody gets at it",
    "wipe": "Wipe: it forgets everything, once everything it had is at school",
    "wipe_discarding_unsent": "Wipe at once: it forgets everything, even what is nowhere else",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """A sentence, the kind of its sign (webpages, `sentence`), and what there is to add."""

    kind: str
    sentence: str
    detail: str = ""


def standing(totals: Totals) -> Standing:
    """Where a school's devices stand: the worst that is true."""
    all_, trouble = totals.devices, totals.states[State.TROUBLE]
    quiet = totals.states[State.SILENT] + totals.states[State.NEVER]
    moving = totals.states[State.FETCHING] + totals.states[State.WAITING]
    unheard = f"{_of(quiet, all_)} not heard of for a day or longer: what waits there, nobody can tell." if quiet else ""
    if not all_:
        return Standing("waiting", "No device is enrolled.", "Make an enrolment code, and type it on the device.")
    if trouble:
        return Standing("bad", f"{_devices(trouble)} {'needs' if trouble == 1 else 'need'} a look.", unheard)
    if quiet:
        return Standing(
            "waiting", f"{_of(quiet, all_)} silent.", "What waits there, nobody can tell. Devices that are switched off lose nothing."
        )
    if moving:
        return Standing("working", f"{_of(moving, all_)} on the way.", "The others have said that nothing waits on them.")
    return Standing(
        "good", "Every device has been heard of today, and says that nothing waits on it." if all_ > 1 else "The device is up to date."
    )


def state_of(device: DeviceRow, now_ms: int) -> tuple[str, str]:
    """What is said of a device, and the kind of the badge that says it."""
    match device.state:
        case State.REVOKED:
            return _revoked(device), "plain"
        case State.REPLACED:
            return "enrolled again", "plain"
        case State.NEVER:
            return "not heard of yet", "waiting"
        case State.SILENT:
            silent_ms = now_ms - (device.last_seen_ms or 0)
            return f"silent for {span(silent_ms)}", "bad" if silent_ms > LONG_SILENT_MS else "waiting"
        case State.TROUBLE:
            return _trouble(device, now_ms), "bad"
        case State.FETCHING:
            return "fetching everything", "working"
        case State.WAITING:
            return "sending", "working"
        case State.CURRENT:
            return "up to date", "good"


def _trouble(device: DeviceRow, now_ms: int) -> str:
    """The first thing that somebody should look at, in as few words as a table has room for."""
    if device.dead_letters:
        return "changes refused"
    if device.clock_is_wrong:
        return "wrong clock"
    oldest = device.oldest_pending_at_ms
    return f"stuck for {span(now_ms - oldest)}" if oldest is not None else "needs a look"


def _revoked(device: DeviceRow) -> str:
    done = {"lock": "locked"}.get(device.revocation or "lock", "wiped")
    return f"revoked and {done}" if device.obeyed_at_ms is not None else f"revoked, not {done} yet"


def troubles(device: DeviceRow, now_ms: int) -> list[str]:
    """What somebody should do about a device, in sentences."""
    found = []
    if device.dead_letters:
        found.append(f"{number(device.dead_letters)} of its changes were refused, for the reasons below.")
    if device.clock_is_wrong:
        found.append(f"Its clock is {clock(device.clock_offset_ms)}. Times of answers are corrected; set the clock all the same.")
    if device.state is State.SILENT:
        found.append(
            f"Nothing was heard of it for {span(now_ms - (device.last_seen_ms or 0))}, and what waits on it by now, nobody can tell. Nothing is lost:"
            " switch it on where it reaches the school."
        )
    elif device.oldest_pending_at_ms is not None and now_ms - device.oldest_pending_at_ms > DAY_MS and device.pending:
        found.append(
            f"Its oldest change has waited for {span(now_ms - device.oldest_pending_at_ms)}, although it reaches the school: “carrel doctor” on it says why."
        )
    return found


def waiting(device: DeviceRow) -> str:
    """How much waits on a device, by its own last word; of a silent one that was then."""
    if device.pending is None:
        return "unknown"
    return f"{number(device.pending)} then" if device.state is State.SILENT else number(device.pending)


def clock(offset_ms: int | None) -> str:
    """How a device's clock stands, as it was last compared: behind or ahead, or right."""
    if offset_ms is None:
        return "unknown"
    if abs(offset_ms) < MINUTE_MS:
        return "right"
    return f"{span(abs(offset_ms))} {'behind' if offset_ms > 0 else 'ahead'}"


def _devices(some: int) -> str:
    return "One device" if some == 1 else count(some, "device")


def _of(some: int, all_: int) -> str:
    if some == all_:
        return "The device is" if all_ == 1 else f"All {number(all_)} devices are"
    return f"{number(some)} of {number(all_)} devices {'is' if some == 1 else 'are'}"
