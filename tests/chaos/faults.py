"""What is done to a running world. Every function strikes for a bounded time and leaves the repair to `World.settle`."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import urllib3

from daemon.recovery.journal_file import journal_path, read, scan
from tests.chaos.app import wait_for_answers
from tests.chaos.namespaces import Wire
from tests.chaos.power import copy_of, lose_power
from tests.chaos.processes import ASK_MAX_S, POLL_S
from tests.chaos.proxy import PARTITION, STORM
from tests.chaos.world import World

# Between two strikes, drawn: as short as a start of a daemon, or long enough for a round.
QUIET_S = (0.0, 0.8)
BUSY_MAX_S = 3.0
# What the cloud API says of an invented token, with and without its database; how long it may be without one, and how long one answer may take.
KNOWS_NO_SUCH_TOKEN, UNAVAILABLE = 401, 503
AWAY_MAX_S = 120.0
# How long a process under strace may take until it reaches its last system call; after that it is killed where it is.
LAST_CALL_MAX_S = 12.0
# System calls at whose entry a process dies, and up to which one of each thread; more of them go into a start and a second of work.
DAEMON_CALLS = {"pwrite64": 120, "fdatasync": 30, "sendto": 12, "recvfrom": 12, "openat": 700, "rename": 3, "ftruncate": 2}
CLOUD_CALLS = {"sendto": 40, "recvfrom": 40, "openat": 700}
# Not --seccomp-bpf: with it strace 6.1 counts no calls, and `when=` never comes.
STRACE = ("strace", "-f", "-qq", "-o", "/dev/null")
# A partition begins after so many bytes at most, counted from a moment when the school has something new; small numbers are likelier.
PASSED_MAX_BYTES = 60_000
PARTITION_S = (0.1, 2.5)
TOPICS_WRITTEN = 300
# How much of what was not synced has come to the disk all the same.
SHARES_ON_DISK = (0.0, 0.0, 0.1, 0.5, 0.9)
DISK_CALLS = "fdatasync,fsync"
EXIT_DATABASE_FAILED = 1


def without_strace() -> str | None:
    """Why system calls cannot be tampered with on this machine; None when they can."""
    return None if shutil.which("strace") else "needs strace"


def quiet(world: World) -> None:
    """Lets the world work for a random while, or until a few more answers are acknowledged."""
    if world.randomness.random() < 0.5:
        _stay(world.randomness.uniform(*QUIET_S))
        return
    wanted, deadline_s = len(world.app.acknowledged) + world.randomness.randint(1, 60), time.monotonic() + BUSY_MAX_S
    while len(world.app.acknowledged) < wanted and time.monotonic() < deadline_s:
        time.sleep(POLL_S)


def _stay(seconds: float) -> None:
    threading.Event().wait(seconds)


def await_answers_of_database(world: World) -> float:
    """After the database has died: how many seconds the cloud API is without one. Meanwhile every answer must be a 503 that says when to come again."""
    began_s, refused = time.monotonic(), 0
    with urllib3.PoolManager(retries=False, timeout=ASK_MAX_S) as http:
        while time.monotonic() - began_s < AWAY_MAX_S:
            answer = http.request("GET", f"{world.cloud.url}/v1/sync/head", headers={"Authorization": f"Bearer {'n' * 43}"})
            if answer.status == KNOWS_NO_SUCH_TOKEN:
                if not refused:
                    raise AssertionError("the API never noticed that its database had died")
                world.count("refused_meanwhile", refused)
                return time.monotonic() - began_s
            if answer.status != UNAVAILABLE or not answer.headers.get("Retry-After", "").isdigit():
                raise AssertionError(f"without its database the API says {answer.status}, {dict(answer.headers)}")
            refused += 1
            time.sleep(POLL_S)
    raise AssertionError(f"the API had no database for {AWAY_MAX_S:.0f} s")


# --- sudden death


def kill_at_random(world: World, kills: int) -> None:
    """SIGKILL to daemon, server or one of the server's workers, wherever they are; what was killed starts again at once or with the next."""
    strikes: list[Callable[[World], None]] = [_kill_daemon, _kill_daemon, _kill_cloud, _kill_worker, _kill_both]
    for _ in range(kills):
        quiet(world)
        world.randomness.choice(strikes)(world)
        world.count("kills")
        for program in (world.daemon, world.cloud):
            if not program.alive and world.randomness.random() < 0.8:
                program.kill()
                program.start()


def _kill_daemon(world: World) -> None:
    world.daemon.kill()


def _kill_cloud(world: World) -> None:
    world.cloud.kill()


def _kill_both(world: World) -> None:
    world.cloud.kill()
    world.daemon.kill()


def _kill_worker(world: World) -> None:
    if world.cloud.alive and (workers := world.cloud.workers()):
        with suppress(ProcessLookupError):
            os.kill(world.randomness.choice(workers), signal.SIGKILL)


def kill_at_system_calls(world: World, kills: int) -> None:
    """The daemon, or a worker of the server, dies on entering the n-th call of a kind. Needs strace."""
    for _ in range(kills):
        calls, program = world.randomness.choice([(DAEMON_CALLS, world.daemon), (DAEMON_CALLS, world.daemon), (CLOUD_CALLS, world.cloud)])
        name = world.randomness.choice(sorted(calls))
        number = world.randomness.randint(1, calls[name])
        program.kill()
        program.start([*STRACE, "-e", f"trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={number}"])
        died = _wait_for_end(world, program is world.daemon)
        world.count(f"kills_at_{name}" if died else "kills_of_the_traced")
        world.count("kills")
        program.kill()
        program.start()
        if world.randomness.random() < 0.5:
            quiet(world)


def _wait_for_end(world: World, of_daemon: bool) -> bool:
    """Whether the daemon ends by itself, or the server loses a worker, in time."""
    before: list[int] = []
    deadline_s = time.monotonic() + LAST_CALL_MAX_S
    while time.monotonic() < deadline_s:
        if of_daemon:
            if not world.daemon.alive:
                return True
        else:
            now = world.cloud.workers() if world.cloud.alive else []
            if not world.cloud.alive or any(pid not in now for pid in before):
                return True
            before = now
        time.sleep(POLL_S)
    return False


# --- the network


def break_network(world: World, seconds: float) -> None:
    """Connections are refused, cut, delayed, repeated and swallowed, with partitions in between."""
    deadline_s = time.monotonic() + seconds
    while time.monotonic() < deadline_s:
        world.proxy.break_all(PARTITION if world.randomness.random() < 0.2 else STORM)
        _stay(min(world.randomness.uniform(0.5, 1.5), max(0.0, deadline_s - time.monotonic())))
    world.figures["struck"] = dict(world.proxy.struck)


def partition(world: World, times: int, kills: bool = True) -> None:
    """The wire passes nothing for a while, one way or neither, from a moment when something is on it; connections and processes may die meanwhile.

    Before each time the school writes something, so that there is a pull to fall into.
    """
    if (wire := world.wire) is None:
        raise AssertionError("there is no wire")
    for _ in range(times):
        world.school_writes(TOPICS_WRITTEN)
        _wait_for_bytes(wire, int(PASSED_MAX_BYTES ** world.randomness.random()))
        strike = world.randomness.choice([wire.cut, wire.silence, wire.lose_requests, wire.lose_answers])
        strike()
        world.count(strike.__name__)
        _stay(world.randomness.uniform(*PARTITION_S))
        if world.randomness.random() < 0.5:  # else TCP mends it by itself
            wire.forget()
            world.count("connections_lost")
        if kills and world.randomness.random() < 0.3:
            program = world.randomness.choice([world.daemon, world.cloud])
            program.kill()
            program.start()
            world.count("kills")
        wire.heal()
        quiet(world)


def _wait_for_bytes(wire: Wire, count: int) -> None:
    wanted, deadline_s = wire.passed_bytes() + count, time.monotonic() + BUSY_MAX_S
    while wire.passed_bytes() < wanted and time.monotonic() < deadline_s:
        time.sleep(0)


# --- clocks


def faketime_library() -> Path | None:
    """libfaketime for programs with threads; None where it is not installed."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def without_faketime() -> str | None:
    """Why clocks cannot be set on this machine; None when they can."""
    return None if faketime_library() else "needs libfaketime"


def jump_clock(world: World, jumps: int) -> None:
    """The wall clock of the running daemon jumps by up to ten years either way; the monotonic one goes on. Needs libfaketime."""
    offset = world.daemon.state_dir.parent / "clock"
    offset.write_text("+0")
    world.restart_daemon(
        LD_PRELOAD=str(faketime_library()),
        FAKETIME_TIMESTAMP_FILE=str(offset),
        FAKETIME_NO_CACHE="1",
        FAKETIME_DONT_FAKE_MONOTONIC="1",
        FAKETIME_FORCE_MONOTONIC_FIX="0",  # else every wait for Python's own lock takes a fifth of a second
    )
    wait_for_answers(world.app, 5)
    for _ in range(jumps):
        seconds = world.randomness.choice([-1, 1]) * int(10 ** world.randomness.uniform(0, 8.5))
        replacement = offset.with_suffix(".new")
        replacement.write_text(f"{seconds:+d}")
        replacement.replace(offset)
        wait_for_answers(world.app, 20)
        world.count("jumps")
        quiet(world)


# --- the disk


def fail_fsync(world: World) -> None:
    """The disk refuses to make a commit durable, once: EIO. The daemon must answer no 2xx for it, and end. Needs strace."""
    number = world.randomness.randint(3, 40)
    _tamper(world, DISK_CALLS, f"error=EIO:when={number}")
    deadline_s = time.monotonic() + LAST_CALL_MAX_S
    while world.daemon.alive and time.monotonic() < deadline_s:
        time.sleep(POLL_S)
    ended = not world.daemon.alive
    world.daemon.kill()
    if ended:
        world.count("ended_after_eio")
        if world.daemon.exit_code != EXIT_DATABASE_FAILED:
            raise AssertionError(f"the daemon ended with {world.daemon.exit_code} after EIO\n{world.daemon.said()}")
    world.count("eio")
    world.restart_daemon()


def lie_about_fsync(world: World) -> None:
    """The disk claims success and does nothing; then the daemon is killed. Nothing is promised for a power cut there. Needs strace."""
    _tamper(world, DISK_CALLS, "retval=0")
    wait_for_answers(world.app, 40)
    world.count("lies")
    world.restart_daemon()


def lose_power_on_a_lying_disk(world: World) -> None:
    """The device's disk claims to have synced and has not; then the power fails. What became of answers since is nobody's promise.

    What the device can know of must come through all the same: everything acknowledged before the disk began to lie, and everything that its journal still
    says. The rest is forgiven (`World.forgive`), and counted.
    """
    world.daemon.kill()
    folder = world.daemon.state_dir
    on_disk = copy_of(folder, folder.with_name("on-disk"))
    safe = set(world.app.acknowledged)
    world.daemon.start()
    if world.randomness.random() < 0.5:
        world.proxy.break_all(PARTITION)  # else nothing may be unsent
    wait_for_answers(world.app, world.randomness.randint(1, 120))
    world.daemon.kill()
    world.proxy.heal()
    share = world.randomness.choice(SHARES_ON_DISK)
    lose_power(folder, on_disk, world.randomness, share)
    journal = journal_path(world.daemon.database_path)
    told = {operation.row_id for operation in read(journal, scan(journal))}
    world.forgive(lambda id_: id_ not in told and (share > 0 or id_ not in safe))
    world.count("power_losses")
    world.count("damaged_files", -len(list(folder.glob("*.damaged-*"))))
    world.daemon.start()
    world.daemon.await_ready()
    world.count("damaged_files", len(list(folder.glob("*.damaged-*"))))
    quiet(world)


def fill_disk(world: World) -> None:
    """For a while no byte can be written: ENOSPC. Needs strace."""
    first = world.randomness.randint(40, 120)
    _tamper(world, "pwrite64", f"error=ENOSPC:when={first}..{first + 40}")
    before = len(world.app.acknowledged)
    _stay(2.0)
    world.count("enospc")
    if len(world.app.acknowledged) == before:
        wait_for_answers(world.app, 1)
    world.restart_daemon()


def _tamper(world: World, calls: str, what: str) -> None:
    world.daemon.kill()
    world.daemon.start([*STRACE, "-e", f"trace={calls}", "-e", f"inject={calls}:{what}"])
