"""Local write: one attempt through the daemon's API until it is on the disk."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.app_client import AppClient
from benchmarks.device import open_device
from benchmarks.floors import BareWriter, attempt_ids, open_file
from benchmarks.processes import running_daemon
from benchmarks.report import Bound, Check, Result
from benchmarks.stage import Stage
from benchmarks.timing import ratio_of, seconds
from domain.ids import Id, dashed

TIMES_FLOOR_MAX = 4
WRITERS = 16
# Writes of one run: one after another, and of each of the concurrent writers.
WRITES = 250
WRITES_EACH = 40
WARM_UP_WRITES = 30
# A path that the API does not have: the request is parsed, refused by the router and answered, and nothing else happens.
EMPTY_PATH = "/v1/nothing"
# Does as little, but goes through the writing thread.
HEALTH_PATH = "/v1/health"


@dataclass(frozen=True, slots=True)
class Turn:
    """Seconds of one write, and of what it is held against, one right after the other; or the medians of many."""

    write_s: float
    bare_s: float
    empty_s: float
    health_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """Medians of a run's turns, and writes a second by one writer and by all."""

    turn: Turn
    alone_per_s: float
    together_per_s: float

    @property
    def times_floor(self) -> float:
        return self.turn.write_s / (self.turn.bare_s + self.turn.empty_s)


@dataclass(frozen=True, slots=True)
class Scene:
    """The apps of one student at a daemon, the attempt that they record, and the bare file."""

    apps: list[AppClient]
    attempt: bytes
    bare: BareWriter

    def write(self, app: AppClient, times: int = 1) -> None:
        for _ in range(times):
            app.record(self.attempt)

    def turn(self) -> Turn:
        app = self.apps[0]
        return Turn(
            seconds(lambda: self.write(app)), self.bare.write(), seconds(lambda: app.ask(EMPTY_PATH)), seconds(lambda: app.ask(HEALTH_PATH))
        )

    def run(self) -> Run:
        turns = [self.turn() for _ in range(WRITES)]
        alone_s = seconds(lambda: self.write(self.apps[0], WRITES))
        together_s = seconds(self._write_together)
        medians = Turn(*(median(getattr(turn, name) for turn in turns) for name in Turn.__slots__))
        return Run(medians, WRITES / alone_s, WRITERS * WRITES_EACH / together_s)

    def _write_together(self) -> None:
        with ThreadPoolExecutor(WRITERS) as pool:
            for done in [pool.submit(self.write, app, WRITES_EACH) for app in self.apps]:
                done.result()


def measure(stage: Stage) -> Result:
    """A real daemon, away from its school: what a write costs does not depend on the network, and no round runs in between.

    Floor: the same two rows in a bare transaction on a copy of the same file, with the same pragmas, and a request that does nothing to the same
    daemon. They take turns write by write.
    """
    folder, bare_folder = stage.copy(stage.writer), stage.copy(stage.writer)
    with open_device(folder) as device:
        student, question = device.students()[0], device.questions()[0]
    attempt = {"question_id": dashed(question.id), "correct": True, "answer": "7", "active_ms": 5_000, "purpose": "free"}
    with running_daemon(folder) as daemon, ExitStack() as parts:
        conn = parts.enter_context(closing(open_file(bare_folder)))
        apps = [parts.enter_context(closing(AppClient(daemon.url, folder))) for _ in range(WRITERS)]
        for app in apps:
            app.sign_in(student)
        scene = Scene(apps, json.dumps(attempt).encode(), BareWriter(conn, student, question.id, json.dumps(attempt)))
        scene.write(apps[0], WARM_UP_WRITES)
        runs = [scene.run() for _ in range(stage.effort.runs)]
    lost = _lost(folder, apps)
    for device_folder in (folder, bare_folder):
        stage.forget(device_folder)
    return _result(runs, lost)


def _lost(folder: Path, apps: list[AppClient]) -> int:
    """Attempts that were acknowledged and are not in the file of the daemon, which has ended."""
    acknowledged: set[Id] = {id_ for app in apps for id_ in app.acknowledged}
    with closing(open_file(folder)) as conn:
        return len(acknowledged - attempt_ids(conn))


def _result(runs: list[Run], lost: int) -> Result:
    times = ratio_of([run.times_floor for run in runs])
    gain = ratio_of([run.together_per_s / run.alone_per_s for run in runs])
    return Result(
        "local_write",
        [
            Check(
                "one attempt, against a bare transaction and an empty request",
                times.middle,
                "×",
                Bound.AT_MOST,
                TIMES_FLOOR_MAX,
                times.spread,
            ),
            Check(f"acknowledged attempts lost, {WRITERS} writers at once", lost, "attempts", Bound.AT_MOST, 0),
            Check(f"writes a second of {WRITERS} writers, against one", gain.middle, "×", Bound.AT_LEAST, 1, gain.spread),
        ],
        {
            "POST /v1/attempts, ms": 1000 * median(run.turn.write_s for run in runs),
            "bare transaction, ms": 1000 * median(run.turn.bare_s for run in runs),
            "empty request, ms": 1000 * median(run.turn.empty_s for run in runs),
            "GET /v1/health, ms": 1000 * median(run.turn.health_s for run in runs),
            "one writer, writes/s": median(run.alone_per_s for run in runs),
            f"{WRITERS} writers, writes/s": median(run.together_per_s for run in runs),
        },
    )
