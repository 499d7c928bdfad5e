"""The real scheduler and real threads; only the clock that the heartbeat compares is in the test's hands."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from daemon.jobs import Debounce, Job, Jobs, SteadyInterval, _trigger
from domain.clock import SystemClock
from domain.errors import Unavailable

WAIT_S = 5.0
HOUR_S = 3600.0


class SteppedClock(SystemClock):
    """The machine's clock with a wall time that the test moves."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


class Counter:
    """A job's work: counts its runs, lets tests wait for the nth, and holds each run while `gate` is closed."""

    def __init__(self) -> None:
        self.runs = 0
        self.gate = threading.Event()
        self.gate.set()
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self.runs += 1
            self._changed.notify_all()
        self.gate.wait(WAIT_S)

    def reaches(self, runs: int, timeout_s: float = WAIT_S) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.runs >= runs, timeout_s)


Start = Callable[..., Jobs]


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def start(clock: SteppedClock) -> Iterator[Start]:
    started: list[Jobs] = []

    def start_jobs(*jobs: Job, heartbeat_s: float = HOUR_S) -> Jobs:
        started.append(Jobs(jobs, clock, heartbeat_s))
        started[-1].start()
        return started[-1]

    yield start_jobs
    for jobs in started:
        assert jobs.stop(WAIT_S) == []


def test_a_job_runs_at_every_interval(start: Start) -> None:
    work = Counter()
    start(Job("a", work, 0.02))
    assert work.reaches(3)


def test_a_job_runs_at_the_start_only_when_it_says_so(start: Start) -> None:
    now, later = Counter(), Counter()
    start(Job("now", now, HOUR_S, at_start=True), Job("later", later, HOUR_S))
    assert now.reaches(1)
    assert later.runs == 0


def test_a_job_that_is_pulled_forward_runs_long_before_its_time(start: Start) -> None:
    work = Counter()
    start(Job("a", work, HOUR_S)).pull_forward("a")
    assert work.reaches(1)


def test_a_pull_during_a_run_leads_to_exactly_one_more_run(start: Start) -> None:
    work = Counter()
    jobs = start(Job("a", work, HOUR_S))
    work.gate.clear()
    jobs.pull_forward("a")
    assert work.reaches(1)
    for _ in range(10):
        jobs.pull_forward("a")
    assert not work.reaches(2, timeout_s=0.1), "the scheduler has found the job running, and passed over the pulls"
    work.gate.set()
    assert work.reaches(2)
    assert not work.reaches(3, timeout_s=0.2)


def test_a_later_pull_does_not_put_off_an_earlier_one(start: Start) -> None:
    work = Counter()
    jobs = start(Job("a", work, HOUR_S))
    work.gate.clear()
    jobs.pull_forward("a")
    assert work.reaches(1)
    jobs.pull_forward("a")
    jobs.pull_forward("a", delay_s=HOUR_S)
    work.gate.set()
    assert work.reaches(2)


def test_a_pull_from_within_the_run_waits_for_its_delay(start: Start) -> None:
    work = Counter()
    jobs: list[Jobs] = []

    def work_and_ask_again() -> None:
        work()
        jobs[0].pull_forward("a", delay_s=HOUR_S)

    jobs.append(start(Job("a", work_and_ask_again, HOUR_S)))
    jobs[0].pull_forward("a")
    assert work.reaches(1)
    assert not work.reaches(2, timeout_s=0.2)


def test_a_job_never_runs_twice_at_once(start: Start) -> None:
    overlaps: list[bool] = []
    busy = threading.Lock()
    work = Counter()

    def run() -> None:
        overlaps.append(not busy.acquire(blocking=False))
        work()
        busy.release()

    jobs = start(Job("a", run, 0.005))
    for _ in range(50):
        jobs.pull_forward("a")
    assert work.reaches(10)
    assert True not in overlaps


@pytest.mark.parametrize("error", [ValueError("boom"), Unavailable("not now")])
def test_a_job_that_fails_is_logged_once_and_runs_again(start: Start, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    work = Counter()

    def run() -> None:
        work()
        if work.runs == 1:
            raise error

    with caplog.at_level(logging.WARNING):
        jobs = start(Job("a", run, HOUR_S))
        jobs.pull_forward("a")
        assert work.reaches(1)
        jobs.pull_forward("a")
        assert work.reaches(2)
    assert [record.message for record in caplog.records] == ["job failed"]


@pytest.mark.parametrize("jump_ms", [-3_600_000, 3_600_000], ids=["back", "forward"])
def test_after_a_jump_of_the_clock_every_job_runs_at_once(start: Start, clock: SteppedClock, jump_ms: int) -> None:
    one, two = Counter(), Counter()
    start(Job("one", one, HOUR_S), Job("two", two, HOUR_S), heartbeat_s=0.01)
    clock.ahead_ms += jump_ms
    assert one.reaches(1)
    assert two.reaches(1)


def test_a_clock_that_is_slewed_pulls_nothing_forward(start: Start, clock: SteppedClock) -> None:
    work = Counter()
    start(Job("a", work, HOUR_S), heartbeat_s=0.01)
    for _ in range(10):
        clock.ahead_ms += 50
        assert not work.reaches(1, timeout_s=0.02)


def test_stopping_waits_for_the_run_under_way(start: Start) -> None:
    work = Counter()
    jobs = start(Job("a", work, HOUR_S))
    work.gate.clear()
    jobs.pull_forward("a")
    assert work.reaches(1)
    threading.Timer(0.05, work.gate.set).start()
    assert jobs.stop(WAIT_S) == []


def test_stopping_names_a_job_that_does_not_end_in_time(start: Start) -> None:
    work = Counter()
    jobs = start(Job("a", work, HOUR_S), Job("b", Counter(), HOUR_S))
    work.gate.clear()
    jobs.pull_forward("a")
    assert work.reaches(1)
    assert jobs.stop(0.05) == ["a"]
    work.gate.set()


def test_nothing_starts_after_the_stop(start: Start) -> None:
    work = Counter()
    jobs = start(Job("a", work, HOUR_S))
    jobs.stop(WAIT_S)
    jobs.pull_forward("a")
    jobs.reschedule("a", 0.01)
    assert not work.reaches(1, timeout_s=0.1)


def test_another_interval_holds_from_then_on(start: Start) -> None:
    work = Counter()
    start(Job("a", work, HOUR_S)).reschedule("a", 0.02)
    assert work.reaches(3)


def test_years_without_a_run_are_not_enumerated() -> None:
    trigger = SteadyInterval(seconds=1, timezone=UTC)
    now = datetime.now(UTC)
    due = trigger.get_next_fire_time(now - timedelta(days=730), now)
    assert due == now + timedelta(seconds=1)


def test_while_runs_are_on_time_the_interval_is_counted_from_the_last() -> None:
    trigger = SteadyInterval(seconds=60, timezone=UTC)
    now = datetime.now(UTC)
    assert trigger.get_next_fire_time(now - timedelta(seconds=1), now) == now + timedelta(seconds=59)


@pytest.fixture
def debounced() -> Iterator[tuple[Debounce, Counter]]:
    work = Counter()
    debounce = Debounce(work, lambda: 30.0, "debounce")
    debounce.start()
    yield debounce, work
    debounce.stop(WAIT_S)


def test_many_requests_in_a_row_are_one_call(debounced: tuple[Debounce, Counter]) -> None:
    debounce, work = debounced
    for _ in range(1000):
        debounce.request()
    assert work.reaches(1)
    assert not work.reaches(2, timeout_s=0.2)


def test_requests_that_never_pause_are_answered_all_the_same(debounced: tuple[Debounce, Counter], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.jobs.PULL_FORWARD_MAX_MS", 100)
    debounce, work = debounced
    stop = threading.Event()

    def request_for_ever() -> None:
        while not stop.wait(0.001):
            debounce.request()

    writer = threading.Thread(target=request_for_ever)
    writer.start()
    try:
        assert work.reaches(3)
    finally:
        stop.set()
        writer.join()


def test_a_request_during_the_call_leads_to_another(debounced: tuple[Debounce, Counter]) -> None:
    debounce, work = debounced
    work.gate.clear()
    debounce.request()
    assert work.reaches(1)
    debounce.request()
    work.gate.set()
    assert work.reaches(2)


def test_a_call_that_fails_does_not_end_the_debouncing(caplog: pytest.LogCaptureFixture) -> None:
    work = Counter()

    def fail() -> None:
        work()
        raise ValueError("boom")

    debounce = Debounce(fail, lambda: 1.0, "debounce")
    debounce.start()
    for runs, _ in pairwise(range(1, 4)):
        debounce.request()
        assert work.reaches(runs)
    debounce.stop(WAIT_S)


def test_intervals_are_longer_by_a_share_of_chance_so_that_devices_started_together_drift_apart() -> None:
    began = datetime(2026, 3, 4, 8, tzinfo=UTC)
    trigger = _trigger(30.0, 0.2)
    times = [trigger.get_next_fire_time(began, began) for _ in range(200)]
    waits_s = [(time - began).total_seconds() for time in times if time]
    assert 30.0 <= min(waits_s) <= max(waits_s) <= 36.0
    assert max(waits_s) - min(waits_s) > 3.0
