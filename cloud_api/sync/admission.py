"""How many devices a server lets work at the same time: first syncs are admitted by lease, polls are spread by the pace that devices are told.

A thousand devices that come back after the holidays, or that were enrolled the same morning, would else ask all at once for everything.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from cloud_api.devices.auth import device_for
from domain.clock import Clock
from domain.errors import FirstSyncsBusy

# A device that asks for no further page for so long gives its place up; longer than the slowest link needs for a page.
LEASE_MS = 3 * 60 * 1000
# A device that has to wait comes back after a time between these, the longer the more devices there are.
TURN_AFTER_MIN_S, TURN_AFTER_MAX_S = 2.0, 60.0
# Key of the advisory lock under which places are given: the letters of "admit".
_LOCK = 0x61646D6974

# Devices seen within this time count as those that will poll; it is longer than the longest pause between two polls.
SEEN_WITHIN_MS = 30 * 60 * 1000
# The longest pause between polls that a server asks for.
POLL_AFTER_MAX_S = 900.0
# How often each process counts.
COUNT_EVERY_MS = 5_000


def admit_first_sync(
    cursor: Any, token: str, clock: Clock, first_syncs_max: int, turn_after_s: float, jitter: Callable[[], float] = random.random
) -> None:
    """Gives the device one of `first_syncs_max` places on this server, or prolongs the one that it has; in a short transaction of its own.

    Raises FirstSyncsBusy when all are taken, with a time to wait of `turn_after_s` and up to half of it more, another one for every device;
    NotSignedIn or Forbidden for the token.
    """
    now_ms = clock.now_ms()
    device = device_for(cursor, token, lock=False)
    cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    cursor.execute(
        "UPDATE devices SET first_sync_until_ms = %(until)s WHERE school_id = %(school)s AND id = %(device)s"
        " AND (first_sync_until_ms > %(now)s OR (SELECT first_syncs FROM devices_at_work(%(now)s, %(now)s)) < %(max)s) RETURNING id",
        {"until": now_ms + LEASE_MS, "now": now_ms, "max": first_syncs_max, "school": device.school_id, "device": device.id},
    )
    if cursor.fetchone() is None:
        wait_s = turn_after_s * (1 + jitter() / 2)
        raise FirstSyncsBusy("Many devices are fetching everything at the moment; this one's turn comes.", wait_s)


def release_first_sync(cursor: Any, token: str) -> None:
    """Gives the device's place to the next one: it has fetched its last page."""
    device = device_for(cursor, token, lock=False)
    cursor.execute(
        "UPDATE devices SET first_sync_until_ms = NULL WHERE school_id = %s AND id = %s AND first_sync_until_ms IS NOT NULL",
        (device.school_id, device.id),
    )


def poll_after_s(devices: int, least_s: float, polls_per_s: float) -> float:
    """How long devices are asked to wait between polls: so long that `devices` of them make at most `polls_per_s` requests a second.

    Never less than `least_s`, the pace of a quiet server, and never more than POLL_AFTER_MAX_S.
    """
    return max(least_s, min(POLL_AFTER_MAX_S, devices / polls_per_s))


def turn_after_s(devices: int, polls_per_s: float) -> float:
    """How long a device that is refused a place is asked to wait: so long that `devices` of them ask at most `polls_per_s` times a second."""
    return max(TURN_AFTER_MIN_S, min(TURN_AFTER_MAX_S, devices / polls_per_s))


class Pace:
    """The pace that devices are told, from how many were seen lately. They are counted now and then, along with the answer to a poll."""

    def __init__(self, clock: Clock, least_s: float, polls_per_s: float) -> None:
        self._clock, self._least_s, self._polls_per_s = clock, least_s, polls_per_s
        self._counted_ms: int | None = None
        self.told_s = least_s
        self.turn_after_s = TURN_AFTER_MIN_S

    def is_to_be_counted(self) -> bool:
        """Whether it is time to count; says so once, so that one request of this process does it."""
        now_ms = self._clock.monotonic_ms()
        if self._counted_ms is not None and now_ms - self._counted_ms < COUNT_EVERY_MS:
            return False
        self._counted_ms = now_ms
        return True

    def heard(self, devices: int) -> None:
        """So many devices were seen within SEEN_WITHIN_MS."""
        self.told_s = poll_after_s(devices, self._least_s, self._polls_per_s)
        self.turn_after_s = turn_after_s(devices, self._polls_per_s)
