"""Rounds of chaos: a world is made, something is done to it, it comes to rest and is judged. All take a folder, a seed, and how much is done.

A round returns its figures, and raises AssertionError when an invariant of the protocol does not hold.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos import faults
from tests.chaos.app import wait_for_answers
from tests.chaos.namespaces import wired_networks, without_networks
from tests.chaos.patroni import patroni_cluster, without_patroni
from tests.chaos.postgres import (
    Postgres,
    address_of_both,
    pgbouncer,
    replicated_postgres,
    running_postgres,
    without_pgbouncer,
    without_replication,
)
from tests.chaos.processes import wait_until
from tests.chaos.proxy import STORM
from tests.chaos.world import World, running_world
from tests.support.examples import said_in

Figures = dict[str, Any]
# A pgbouncer that knows no `options` demands this.
BOUNCED = {"CARREL_CLOUD_DATABASE_STARTUP_OPTIONS": "false"}
# How long a statement may take while the standby is stalled, and how many rounds the device makes meanwhile.
IMPATIENT_S = 1
STALLED_ROUNDS = 3


def killed(folder: Path, seed: int, database_url: str, kills: int = 30) -> Figures:
    """Daemon, server and its workers die at random moments."""
    with running_world(folder, seed, database_url) as world:
        wait_for_answers(world.app, 1)
        faults.kill_at_random(world, kills)
        return _at_rest(world)


def killed_at_calls(folder: Path, seed: int, database_url: str, kills: int = 15) -> Figures:
    """Daemon and server die on entering chosen system calls."""
    with running_world(folder, seed, database_url) as world:
        wait_for_answers(world.app, 1)
        faults.kill_at_system_calls(world, kills)
        return _at_rest(world)


def bad_network(folder: Path, seed: int, database_url: str, seconds: float = 15.0) -> Figures:
    """Everything that a network does."""
    with running_world(folder, seed, database_url) as world:
        faults.break_network(world, seconds)
        return _at_rest(world)


def partitioned(folder: Path, seed: int, times: int = 12, kills: bool = True) -> Figures:
    """Device and school are in networks of their own, and the wire between the two is cut in the middle of pushes and pulls."""
    with (
        wired_networks() as wire,
        wire.school.entered(),
        running_postgres(folder) as postgres,
        running_world(folder, seed, postgres.url, wire=wire) as world,
    ):
        wait_for_answers(world.app, 1)
        faults.partition(world, times, kills)
        world.count("rounds_broken", world.daemon.log.read_text(errors="replace").count("sync failed"))
        world.count("wire_bytes", wire.passed_bytes())
        return _at_rest(world)


def jumping_clock(folder: Path, seed: int, database_url: str, jumps: int = 12) -> Figures:
    """The device's clock is wrong, and another wrong one a moment later."""
    with running_world(folder, seed, database_url) as world:
        faults.jump_clock(world, jumps)
        return _at_rest(world)


def failing_disk(folder: Path, seed: int, database_url: str) -> Figures:
    """fsync fails, fsync lies, the disk is full: on the device."""
    with running_world(folder, seed, database_url) as world:
        wait_for_answers(world.app, 1)
        for fault in world.randomness.sample([faults.fail_fsync, faults.lie_about_fsync, faults.fill_disk], 3):
            fault(world)
        return _at_rest(world)


def lying_disk(folder: Path, seed: int, database_url: str, losses: int = 6) -> Figures:
    """The power fails under a device whose disk had synced nothing of what it said."""
    with running_world(folder, seed, database_url) as world:
        wait_for_answers(world.app, 1)
        for _ in range(losses):
            faults.lose_power_on_a_lying_disk(world)
        return _at_rest(world)


def dying_postgres(folder: Path, seed: int, deaths: int = 5) -> Figures:
    """The school's PostgreSQL dies whole, or one of its processes does."""
    with running_postgres(folder) as postgres, running_world(folder, seed, postgres.url) as world:
        wait_for_answers(world.app, 1)
        for _ in range(deaths):
            _kill_postgres(world, postgres)
        return _at_rest(world)


def failing_over(folder: Path, seed: int) -> Figures:
    """The primary dies for good and its standby takes over, under an address that names both."""
    with replicated_postgres(folder) as (primary, standby), running_world(folder, seed, address_of_both(primary, standby)) as world:
        wait_for_answers(world.app, 20 + world.randomness.randint(0, 200))
        primary.kill()
        faults.quiet(world)
        standby.promote()
        world.count("failovers")
        wait_for_answers(world.app, 20)
        return _at_rest(world)


def failing_over_to_the_past(folder: Path, seed: int) -> Figures:
    """An asynchronous standby takes over that lacks what devices were told is at school. They are told of it as docs/install.md says."""
    with (
        replicated_postgres(folder, synchronous=False) as (primary, standby),
        running_world(folder, seed, address_of_both(primary, standby)) as world,
    ):
        wait_for_answers(world.app, 20)
        standby.kill()
        wait_for_answers(world.app, 50)
        world.app.stop()
        wait_until(lambda: (world.daemon.status() or {}).get("state") == "synced", "the device has been told that all is at school")
        primary.kill()
        standby.start()
        standby.promote()
        world.count("missing", len(world.app.acknowledged) - standby.ask("SELECT count(*) FROM question_attempts"))
        standby.ask(said_in("install.md", r"psql -c '(UPDATE server_state [^']+)'"))
        # Which is when it hears of it: until then it may well say `synced`.
        world.daemon.sync()
        return _at_rest(world)


def failing_over_by_patroni(folder: Path, seed: int, times: int = 2) -> Figures:
    """The leader dies with its Patroni, the other one takes over, and the first comes back as its standby; then the other way round."""
    with patroni_cluster(folder) as cluster, running_world(folder, seed, cluster.url) as world:
        longest_s = 0.0
        for _ in range(times):
            cluster.await_standby()
            wait_for_answers(world.app, 20 + world.randomness.randint(0, 200))
            died = cluster.leader()
            died.kill()
            longest_s = max(longest_s, faults.await_answers_of_database(world))
            died.start()
            world.count("failovers")
            wait_for_answers(world.app, 20)
        world.figures["longest_outage_ms"] = round(longest_s * 1000)
        cluster.await_standby()
        return _at_rest(world)


def stalled_standby(folder: Path, seed: int) -> Figures:
    """The standby stops answering: what is not on its disk must not count as being at school, however long the primary waits for it."""
    settings = {"CARREL_CLOUD_DATABASE_STATEMENT_TIMEOUT_S": str(IMPATIENT_S)}
    with replicated_postgres(folder) as (primary, standby), running_world(folder, seed, primary.url, settings=settings) as world:
        wait_for_answers(world.app, 20)
        wait_until(lambda: (world.daemon.status() or {}).get("last_push_ms") is not None, "a push comes through")
        _signal(standby, signal.SIGSTOP)
        try:
            wait_for_answers(world.app, 20)
            world.app.stop()
            seen = _states_while_stalled(world)
        finally:
            _signal(standby, signal.SIGCONT)
        if "synced" in seen:
            raise AssertionError("TRUTHFUL_STATUS: `synced`, on the word of a primary that nobody follows")
        return _at_rest(world)


def pooled(folder: Path, seed: int, kills: int = 8) -> Figures:
    """pgbouncer in transaction mode stands between server and PostgreSQL, and both sides of it die."""
    with (
        running_postgres(folder) as postgres,
        pgbouncer(postgres, folder) as url,
        running_world(folder, seed, postgres.url, url, BOUNCED) as world,
    ):
        faults.kill_at_random(world, kills)
        postgres.kill_backend(seed)
        faults.quiet(world)
        return _at_rest(world)


def everything(folder: Path, seed: int, kills: int = 15) -> Figures:
    """Processes and PostgreSQL die in a storm on the network."""
    with running_postgres(folder) as postgres, running_world(folder, seed, postgres.url) as world:
        for _ in range(3):
            world.proxy.break_all(STORM)
            faults.kill_at_random(world, kills // 3)
            _kill_postgres(world, postgres)
        world.figures["struck"] = dict(world.proxy.struck)
        return _at_rest(world)


def _kill_postgres(world: World, postgres: Postgres) -> None:
    faults.quiet(world)
    if world.randomness.random() < 0.3:
        postgres.kill_backend(world.randomness.randrange(100))
        world.count("postgres_backends_killed")
        return
    postgres.kill()
    world.count("postgres_killed")
    faults.quiet(world)
    postgres.start()


def _states_while_stalled(world: World) -> set[str]:
    """What the status says after each of some rounds, in every one of which the server gives up waiting."""
    seen: set[str] = set()
    for _ in range(STALLED_ROUNDS):
        world.daemon.sync()
        seen.add(str((world.daemon.status() or {}).get("state")))
    return seen


def _signal(postgres: Postgres, number: signal.Signals) -> None:
    for pid in postgres.processes():
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _at_rest(world: World) -> Figures:
    world.settle()
    world.judge()
    return world.figures


@dataclass(frozen=True, slots=True)
class Round:
    """A kind of round for the campaign. `weight` is its share, `why_not` what is missing for it on this machine."""

    run: Callable[[Path, int], Figures]
    weight: float
    why_not: Callable[[], str | None] = lambda: None


def _on_a_server(run: Callable[[Path, int, str], Figures]) -> Callable[[Path, int], Figures]:
    """The round over a PostgreSQL of its own."""

    def with_server(folder: Path, seed: int) -> Figures:
        with running_postgres(folder) as postgres:
            return run(folder, seed, postgres.url)

    return with_server


ROUNDS = {
    "killed": Round(_on_a_server(killed), 4),
    "killed_at_calls": Round(_on_a_server(killed_at_calls), 3, faults.without_strace),
    "bad_network": Round(_on_a_server(bad_network), 2),
    "partitioned": Round(partitioned, 2, without_networks),
    "jumping_clock": Round(_on_a_server(jumping_clock), 1, faults.without_faketime),
    "failing_disk": Round(_on_a_server(failing_disk), 1, faults.without_strace),
    "lying_disk": Round(_on_a_server(lying_disk), 2),
    "dying_postgres": Round(dying_postgres, 2),
    "failing_over": Round(failing_over, 1, without_replication),
    "failing_over_to_the_past": Round(failing_over_to_the_past, 0.5, without_replication),
    "failing_over_by_patroni": Round(failing_over_by_patroni, 0.3, without_patroni),
    "stalled_standby": Round(stalled_standby, 0.5, without_replication),
    "pooled": Round(pooled, 1, without_pgbouncer),
    "everything": Round(everything, 2),
}
