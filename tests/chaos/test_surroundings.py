"""The network, the wire, the clock and the disk of a device. What a round demands in the end stands in `World.judge`."""

from __future__ import annotations

import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from daemon import gateway
from domain.errors import CloudUnreachable
from tests.chaos import faults, namespaces, rounds

needs_strace = pytest.mark.skipif(bool(faults.without_strace()), reason="needs strace")
needs_networks = pytest.mark.skipif(bool(namespaces.without_networks()), reason=namespaces.without_networks() or "")
needs_faketime = pytest.mark.skipif(bool(faults.without_faketime()), reason="needs libfaketime")


def test_NO_LOST_OP_and_EXACTLY_ONCE_over_a_network_that_cuts_delays_repeats_and_swallows(folder: Path, cloud_database: str) -> None:
    figures = rounds.bad_network(folder, 2, cloud_database, seconds=4)
    assert figures["struck"]


@needs_networks
def test_NO_LOST_OP_and_EXACTLY_ONCE_when_the_wire_is_cut_in_the_middle_of_pushes_and_pulls(folder: Path) -> None:
    figures = rounds.partitioned(folder, 4, times=5)
    assert sum(figures.get(strike, 0) for strike in ("cut", "silence", "lose_requests", "lose_answers")) == 5
    assert figures["connections_lost"]
    assert figures["wire_bytes"] > figures["acknowledged"] * 20


@needs_networks
def test_while_the_wire_is_silent_nothing_passes_either_way_and_when_it_is_healed_everything_does() -> None:
    address = (namespaces.SCHOOL_ADDRESS, 8000)
    with namespaces.wired_networks() as wire, wire.school.entered(), socket.create_server(address) as listener:
        for strike in (wire.cut, wire.silence, wire.lose_requests, wire.lose_answers):
            strike()
            with wire.device.entered(), pytest.raises(OSError, match=r"timed out|unreachable"):
                socket.create_connection(address, 0.2)
            wire.heal()
            with wire.device.entered(), socket.create_connection(address, 5.0):
                listener.accept()[0].close()


@needs_networks
def test_a_request_under_way_when_the_network_goes_is_given_up_long_before_a_server_that_takes_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gateway, "SILENCE_MAX_S", 4)
    with ExitStack() as parts:
        wire = parts.enter_context(namespaces.wired_networks())
        with wire.school.entered():
            listener = parts.enter_context(socket.create_server((namespaces.SCHOOL_ADDRESS, 8000)))
        parts.enter_context(wire.device.entered())
        device = parts.enter_context(ThreadPoolExecutor(1))  # whose thread is inside, too
        asked = device.submit(gateway.HttpGateway(f"http://{namespaces.SCHOOL_ADDRESS}:8000").head, "token", None)
        connection = parts.enter_context(listener.accept()[0])
        assert connection.recv(1)
        wire.silence()
        with pytest.raises(CloudUnreachable):
            asked.result(gateway.READ_TIMEOUT_S / 2)


@needs_faketime
def test_TRUTHFUL_STATUS_while_the_clock_jumps_by_years(folder: Path, cloud_database: str) -> None:
    assert rounds.jumping_clock(folder, 1, cloud_database, jumps=4)["jumps"] == 4


def test_NO_LOST_OP_when_a_disk_that_lied_about_fsync_loses_power(folder: Path, cloud_database: str) -> None:
    figures = rounds.lying_disk(folder, 2, cloud_database, losses=3)
    assert figures["power_losses"] == 3


@needs_strace
def test_DURABLE_when_fsync_fails_or_lies_and_when_the_disk_is_full(folder: Path, cloud_database: str) -> None:
    figures = rounds.failing_disk(folder, 1, cloud_database)
    assert (figures["ended_after_eio"], figures["lies"], figures["enospc"]) == (1, 1, 1)
