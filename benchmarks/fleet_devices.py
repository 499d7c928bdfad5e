"""Devices of one process of the fleet: `python -m benchmarks.fleet_devices`, driven by lines of JSON on its standard input.

The first line is `{"folder", "url", "attempts", "devices": [{"name", "code"}]}`; each following one is the name of a phase, answered with one
line: what every device did in it, all at the same time, each in a thread of its own with the product's outbox, sync round, gateway and SQLite file.

    enrol    redeem the code, and sync until everything is here
    record   record attempts, without the network
    sync     sync until nothing is queued and everything is here
    count    how many attempts are in each file
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.device import SHEET_ATTEMPTS, OpenDevice
from daemon.config import DATABASE_NAME
from daemon.database import DeviceDatabase
from daemon.gateway import HttpGateway
from daemon.identity.device import Identity
from daemon.identity.enrolment import Enrolment
from daemon.models import MODELS
from daemon.records import NewAttempt
from daemon.sync.round import SyncRound
from domain.clock import SystemClock
from domain.errors import CarrelError, CloudUnreachable
from domain.ids import Id, IdSource
from domain.wire import EnrolAnswer, EnrolRequest, HeadAnswer, PullAnswer, PullRequest, PushAnswer, PushRequest
from migrations.runner import upgrade_device

# A device that is not through after this long counts as one that waits for ever.
PHASE_MAX_S = 900.0
RETRY_MAX_S = 5.0

T = TypeVar("T")


class TimedGateway(HttpGateway):
    """The product's gateway; `took` gets (kind, seconds, whether a usable answer came) of each request."""

    def __init__(self, url: str, took: Callable[[str, float, bool], None]) -> None:
        super().__init__(url)
        self._took = took

    def push(self, token: str, request: PushRequest) -> PushAnswer:
        return self._timed("push", lambda: super(TimedGateway, self).push(token, request))

    def pull(self, token: str, request: PullRequest) -> PullAnswer:
        return self._timed("pull", lambda: super(TimedGateway, self).pull(token, request))

    def head(self, token: str, etag: str | None) -> tuple[HeadAnswer, str] | None:
        return self._timed("head", lambda: super(TimedGateway, self).head(token, etag))

    def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        return self._timed("enrol", lambda: super(TimedGateway, self).enrol(request))

    def _timed(self, kind: str, ask: Callable[[], T]) -> T:
        started_s, answered = time.perf_counter(), False
        try:
            answer = ask()
            answered = True
        finally:
            self._took(kind, time.perf_counter() - started_s, answered)
        return answer


class FleetDevice:
    """One device. `requests` are those of the phase under way; `failed` are its rounds that did not come through, by reason."""

    def __init__(self, folder: Path, url: str, told: dict[str, str], parts: ExitStack) -> None:
        self._url, self._told = url, told
        clock = SystemClock()
        database = DeviceDatabase(folder / DATABASE_NAME)
        database.open(MODELS)
        parts.callback(database.close)
        self._gateway = TimedGateway(url, lambda *request: self.requests.append(request))
        parts.callback(self._gateway.close)
        identity = Identity(database, folder, clock, IdSource(clock.now_ms))
        rounds = SyncRound(database, identity, clock, lambda _: self._gateway)
        self._device = OpenDevice(database, identity, rounds, clock)
        self.requests: list[tuple[str, float, bool]] = []
        self.failed: Counter[str] = Counter()

    def enrol(self, deadline_s: float) -> None:
        while time.monotonic() < deadline_s:
            try:
                Enrolment(self._device.identity, lambda _: self._gateway).enrol(self._url, self._told["code"], self._told["name"])
                break
            except CloudUnreachable as refusal:
                self.failed[refusal.reason] += 1
                _pause(random.uniform(0, RETRY_MAX_S), deadline_s)
        self.sync(deadline_s)

    def record(self, attempts: int) -> None:
        """Invented answers, a sheet in a transaction."""
        with self._device.database.read() as conn:
            questions = [Id(row[0]) for row in conn.execute("SELECT id FROM questions ORDER BY id LIMIT 100")]
        answers = [NewAttempt(random.choice(questions), random.random() < 0.7, "free", answer="4") for _ in range(attempts)]
        for first in range(0, attempts, SHEET_ATTEMPTS):
            self._device.record(answers[first : first + SHEET_ATTEMPTS])

    def sync(self, deadline_s: float) -> None:
        """Rounds with the product's own backoff until one comes through. Raises Unavailable at the deadline."""
        while time.monotonic() < deadline_s:
            result = self._device.rounds.run()
            if result.outcome == "done":
                return
            if result.outcome != "backing_off":
                self.failed[result.outcome] += 1
            _pause(self._device.rounds.status().next_attempt_in_s or 0.0, deadline_s)
        raise CloudUnreachable("timeout", "This device never got through.")

    def count(self) -> int:
        with self._device.database.read() as conn:
            return int(conn.execute("SELECT count(*) FROM question_attempts").fetchone()[0])


def _pause(seconds: float, deadline_s: float) -> None:
    threading.Event().wait(max(0.0, min(seconds, deadline_s - time.monotonic())))


@contextmanager
def opened(folder: Path, url: str, told: list[dict[str, str]]) -> Iterator[list[FleetDevice]]:
    """Fresh devices, all of them open."""
    with ExitStack() as parts:
        template = folder / "template.sqlite3"
        upgrade_device(template)
        devices = []
        for device in told:
            state_dir = folder / device["name"]
            state_dir.mkdir(0o700)
            shutil.copy(template, state_dir / DATABASE_NAME)
            devices.append(FleetDevice(state_dir, url, device, parts))
        yield devices


def run_phase(name: str, devices: list[FleetDevice], attempts: int) -> dict[str, Any]:
    """What all devices did at once: {"requests", "failed", "seconds", "errors", "counts"}; `seconds` says when each was through."""
    for device in devices:
        device.requests, device.failed = [], Counter()
    started_s = time.monotonic()
    deadline_s = started_s + PHASE_MAX_S
    do: dict[str, Callable[[FleetDevice], Any]] = {
        "enrol": lambda device: device.enrol(deadline_s),
        "record": lambda device: device.record(attempts),
        "sync": lambda device: device.sync(deadline_s),
        "count": lambda device: device.count(),
    }
    seconds: list[float] = []
    errors: list[str] = []
    counts: list[int] = []

    def one(device: FleetDevice) -> None:
        try:
            counts.append(do[name](device) or 0)
            seconds.append(time.monotonic() - started_s)
        except CarrelError as error:
            errors.append(error.message)

    with ThreadPoolExecutor(len(devices)) as threads:
        list(threads.map(one, devices))
    requests = [request for device in devices for request in device.requests]
    failed = sum((device.failed for device in devices), Counter[str]())
    return {"requests": requests, "failed": failed, "seconds": seconds, "errors": errors, "counts": counts}


def main() -> None:
    """Opens the devices, says so with an empty line of JSON, and does phase after phase until the input ends."""
    _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))  # a device has half a dozen open
    given = json.loads(sys.stdin.readline())
    with opened(Path(given["folder"]), given["url"], given["devices"]) as devices:
        print("{}", flush=True)
        for line in sys.stdin:
            print(json.dumps(run_phase(line.strip(), devices, given["attempts"])), flush=True)


if __name__ == "__main__":
    # As on a device, where it is not installed.
    sys.modules.setdefault("psycopg2", None)  # type: ignore[arg-type]
    main()
