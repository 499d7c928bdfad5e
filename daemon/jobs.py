"""When things are done: the sync round, the mastery refresh, the rescan of the inbox. The only module that knows APScheduler.

What a laptop does to a scheduler, and what is done about it:

    sleep                       a job that fell due meanwhile runs once, however late (misfire_grace_time=None, coalesce)
    clock set far forward       the runs between are not enumerated one by one (SteadyInterval)
    clock set back              nothing would run until it catches up, so a heartbeat compares the clocks and pulls every job forward
    a job that hangs at stop    stop() waits for a bounded time and names the jobs it left behind

A job never runs twice at once. `pull_forward` during a run means one more run after it, never none: what arrived while the round was
reading the outbox would otherwise wait for the next poll.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from apscheduler.events import EVENT_JOB_ERROR, EVENT_JOB_EXECUTED, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers import SchedulerNotRunningError
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.interval import IntervalTrigger

from domain.clock import Clock
from domain.errors import CarrelError
from loglines.parts import fields

log = logging.getLogger(__name__)
# It reports every run, and as a warning every run that max_instances held back, which is the normal case here.
logging.getLogger("apscheduler").setLevel(logging.ERROR)

# A first request is answered after this long even when more keep coming.
PULL_FORWARD_MAX_MS = 2_000
# Without a pause, a request that never ends would be a loop that never rests.
PAUSE_MIN_MS = 1
# The clocks may drift apart by this much between two heartbeats before it counts as a jump (NTP slews by 0.5 ms/s).
CLOCK_JUMP_MIN_MS = 2_000


class SteadyInterval(IntervalTrigger):  # type: ignore[misc]  # APScheduler has no types
    """An interval that is counted from the last run, and from now when the last run is long ago.

    Without this every missed run is enumerated in spite of `coalesce`: two years at one second took 105 s of processor and 3.2 GB.
    """

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime | None:
        due: datetime | None = super().get_next_fire_time(previous, now)
        return now + self.interval if previous and due and due <= now else due


@dataclass(frozen=True, slots=True)
class Job:
    """What is done, and how often. Each interval is longer by a random part of `jitter` × interval. `at_start` runs it at once as well."""

    id: str
    run: Callable[[], object]
    interval_s: float
    jitter: float = 0.0
    at_start: bool = False


class Jobs:
    """Runs jobs between `start` and `stop`. Every method may be called from any thread; none waits for a job except `stop`."""

    def __init__(self, jobs: Sequence[Job], clock: Clock, heartbeat_s: float) -> None:
        self._jobs = {job.id: job for job in jobs}
        self._clock = clock
        self._heartbeat_s = heartbeat_s
        self._stopping = threading.Event()
        self._idle = threading.Condition()  # guards the two below
        self._running: set[str] = set()
        self._wanted: dict[str, float] = {}  # job -> when a run was asked for, monotonic ms
        self._heartbeat = threading.Thread(target=self._compare_clocks, name="heartbeat", daemon=True)
        # Few threads that live on, one for each job: a thread's database connection lives as long as the thread.
        self._scheduler = BackgroundScheduler(
            executors={"default": ThreadPoolExecutor(len(jobs), {"thread_name_prefix": "job"})},
            job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1},
            timezone=UTC,
        )
        self._scheduler.add_listener(self._run_again, EVENT_JOB_EXECUTED | EVENT_JOB_ERROR)

    def start(self) -> None:
        for job in self._jobs.values():
            first = {"next_run_time": _now()} if job.at_start else {}
            self._scheduler.add_job(self._run, _trigger(job.interval_s, job.jitter), args=[job.id], id=job.id, **first)
        self._scheduler.start()
        self._heartbeat.start()

    def stop(self, timeout_s: float) -> list[str]:
        """Starts no further runs and waits for those under way. Returns the ids of the jobs that are still running after `timeout_s`."""
        self.stop_starting()
        with self._idle:
            self._idle.wait_for(lambda: not self._running, timeout_s)
            return sorted(self._running)

    def stop_starting(self) -> None:
        """Starts no further runs."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    def pull_forward(self, job_id: str, delay_s: float = 0.0) -> None:
        """Runs the job `delay_s` from now, or at the earlier time already asked for; once more after a run that is under way.

        Does nothing after `stop`.
        """
        due_ms = self._clock.monotonic_ms() + delay_s * 1000
        with self._idle:
            due_ms = self._wanted[job_id] = min(due_ms, self._wanted.get(job_id, due_ms))
        self._set_next_run(job_id, due_ms)

    def reschedule(self, job_id: str, interval_s: float, jitter: float = 0.0) -> None:
        """Another interval from now on."""
        if not self._stopping.is_set():
            self._scheduler.reschedule_job(job_id, trigger=_trigger(interval_s, jitter))

    def _set_next_run(self, job_id: str, due_ms: float) -> None:
        if self._stopping.is_set():
            return
        wait_s = max(0.0, due_ms - self._clock.monotonic_ms()) / 1000
        try:
            self._scheduler.modify_job(job_id, next_run_time=_now() + timedelta(seconds=wait_s))
        except (JobLookupError, SchedulerNotRunningError):
            log.debug("job is gone", extra=fields(job=job_id))  # between stop_starting and here

    def _run(self, job_id: str) -> None:
        with self._idle:
            if self._stopping.is_set():
                return
            self._running.add(job_id)
            if self._wanted.get(job_id, math.inf) <= self._clock.monotonic_ms():
                del self._wanted[job_id]
        try:
            self._jobs[job_id].run()
        except CarrelError as error:
            log.warning("job failed", extra=fields(job=job_id, code=error.code, error=error.message))
        except Exception:
            log.exception("job failed", extra=fields(job=job_id))
        finally:
            with self._idle:
                self._running.discard(job_id)
                self._idle.notify_all()

    def _run_again(self, event: JobExecutionEvent) -> None:
        """A run has ended, and its place is free: one that was asked for meanwhile, and that max_instances held back, can start."""
        with self._idle:
            due_ms = self._wanted.get(event.job_id)
        if due_ms is not None:
            self._set_next_run(event.job_id, due_ms)

    def _compare_clocks(self) -> None:
        """After a jump of the wall clock, or a sleep of the machine, every job runs at once: the scheduler would wait on."""
        offset_ms, beat_ms = self._offset_ms(), self._clock.monotonic_ms()
        while not self._stopping.wait(self._heartbeat_s):
            before_ms, offset_ms = offset_ms, self._offset_ms()
            last_ms, beat_ms = beat_ms, self._clock.monotonic_ms()
            slept_ms = beat_ms - last_ms - round(self._heartbeat_s * 1000)  # the wait above stands still while the machine sleeps
            if abs(offset_ms - before_ms) >= CLOCK_JUMP_MIN_MS or slept_ms >= CLOCK_JUMP_MIN_MS:
                log.info("the clock jumped or the machine slept", extra=fields(by_ms=offset_ms - before_ms, slept_ms=slept_ms))
                for job_id in self._jobs:
                    self.pull_forward(job_id)

    def _offset_ms(self) -> int:
        return self._clock.now_ms() - self._clock.monotonic_ms()


class Debounce:
    """Turns many requests into one call: `pause_ms` after the last of them, and at most two seconds after the first.

    `request` costs a flag, so that it may be called on every write. `react` runs in this object's own thread and should only hand on.
    """

    def __init__(self, react: Callable[[], None], pause_ms: Callable[[], float], name: str) -> None:
        self._react = react
        self._pause_ms = pause_ms
        self._requested = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def request(self) -> None:
        """Asks for a call. Never waits, never raises."""
        if not self._requested.is_set():
            self._requested.set()

    def stop(self, timeout_s: float) -> None:
        """Ends the thread; a request that is still waiting is dropped."""
        self._stopping.set()
        self._requested.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _work(self) -> None:
        while self._requested.wait() and not self._stopping.is_set():
            self._wait_for_quiet()
            if self._stopping.is_set():
                return
            try:
                self._react()
            except Exception:
                log.exception("a request could not be handed on", extra=fields(thread=self._thread.name))

    def _wait_for_quiet(self) -> None:
        """Until one pause has gone by without a request, or the longest wait is over. No request is pending afterwards."""
        left_ms: float = PULL_FORWARD_MAX_MS
        while self._requested.is_set() and left_ms > 0:
            self._requested.clear()
            pause_ms = min(max(self._pause_ms(), PAUSE_MIN_MS), left_ms)
            left_ms -= pause_ms
            if self._stopping.wait(pause_ms / 1000):
                return
        self._requested.clear()


def _trigger(interval_s: float, jitter: float) -> SteadyInterval:
    return SteadyInterval(seconds=interval_s, jitter=interval_s * jitter or None, timezone=UTC)


def _now() -> Any:
    """The scheduler's own time: it compares next_run_time with datetime.now."""
    return datetime.now(UTC)
