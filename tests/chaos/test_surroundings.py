"""The network, the clock and the disk of a device. What a round demands in the end stands in `World.judge`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import faults, rounds

needs_strace = pytest.mark.skipif(bool(faults.without_strace()), reason="needs strace")
needs_faketime = pytest.mark.skipif(bool(faults.without_faketime()), reason="needs libfaketime")


def test_NO_LOST_OP_and_EXACTLY_ONCE_over_a_network_that_cuts_delays_repeats_and_swallows(folder: Path, cloud_database: str) -> None:
    figures = rounds.bad_network(folder, 2, cloud_database, seconds=4)
    assert figures["struck"]


@needs_faketime
def test_TRUTHFUL_STATUS_while_the_clock_jumps_by_years(folder: Path, cloud_database: str) -> None:
    assert rounds.jumping_clock(folder, 1, cloud_database, jumps=4)["jumps"] == 4


@needs_strace
def test_DURABLE_when_fsync_fails_or_lies_and_when_the_disk_is_full(folder: Path, cloud_database: str) -> None:
    figures = rounds.failing_disk(folder, 1, cloud_database)
    assert (figures["ended_after_eio"], figures["lies"], figures["enospc"]) == (1, 1, 1)
