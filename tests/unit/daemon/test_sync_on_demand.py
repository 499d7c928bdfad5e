"""Rounds that somebody waits for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from daemon.sync.on_demand import WAITERS_MAX, SyncOnDemand
from daemon.sync.round import RoundResult
from domain.errors import CloudUnreachable, Unavailable

WAIT_S = 10


class Rounds:
    """Rounds that last until they are let go; each answers with its number."""

    def __init__(self) -> None:
        self.begun, self.let_go, self.count = threading.Semaphore(0), threading.Semaphore(0), 0

    def run(self) -> RoundResult:
        self.count += 1
        number = self.count
        self.begun.release()
        assert self.let_go.acquire(timeout=WAIT_S)
        return RoundResult("done", pushed=number)


@pytest.fixture
def rounds() -> Rounds:
    return Rounds()


@pytest.fixture
def on_demand(rounds: Rounds) -> Iterator[SyncOnDemand[RoundResult]]:
    made = SyncOnDemand(rounds.run, wait_max_s=WAIT_S)
    yield made
    made.close()
    rounds.let_go.release(10)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads


def test_who_asks_during_a_round_gets_the_one_after_it(
    rounds: Rounds, on_demand: SyncOnDemand[RoundResult], pool: ThreadPoolExecutor
) -> None:
    first = pool.submit(on_demand.run)
    assert rounds.begun.acquire(timeout=WAIT_S)
    second = pool.submit(on_demand.run)
    rounds.let_go.release(2)
    results = [f.result(WAIT_S) for f in (first, second)]
    assert [r.pushed for r in results if r] == [1, 2]


def test_no_more_than_two_wait_at_the_same_moment(rounds: Rounds, on_demand: SyncOnDemand[RoundResult], pool: ThreadPoolExecutor) -> None:
    waiting: list[Future[RoundResult | None]] = []
    for _ in range(WAITERS_MAX + 1):
        waiting.append(pool.submit(on_demand.run))
        if len(waiting) == 1:
            assert rounds.begun.acquire(timeout=WAIT_S)
    # The last of them to come is turned away at once, whichever it is; the others are let go then.
    done = next(f for f in _first_done(waiting))
    assert done.result() is None
    rounds.let_go.release(2)
    assert sum(f.result(WAIT_S) is not None for f in waiting) == WAITERS_MAX


def _first_done(futures: list[Future[RoundResult | None]]) -> set[Future[RoundResult | None]]:
    from concurrent.futures import FIRST_COMPLETED, wait

    return wait(futures, timeout=WAIT_S, return_when=FIRST_COMPLETED).done


def test_what_a_round_raises_is_raised_to_who_waits() -> None:
    def fail() -> RoundResult:
        raise CloudUnreachable("offline", "No.")

    on_demand = SyncOnDemand(fail)
    with pytest.raises(CloudUnreachable):
        on_demand.run()
    on_demand.close()


def test_after_closing_nothing_begins(rounds: Rounds) -> None:
    on_demand = SyncOnDemand(rounds.run)
    on_demand.close()
    with pytest.raises(Unavailable):
        on_demand.run()
    assert rounds.count == 0
