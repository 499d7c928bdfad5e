"""Memory: the daemon at rest, and every process of both sides while they push and pull."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

from benchmarks.app_client import AppClient
from benchmarks.processes import Running, await_synced, children, peak_resident_mb, resident_mb, running_daemon
from benchmarks.report import Bound, Check, Result
from benchmarks.stage import FILLED, SCHOOL, Stage

REST_MAX_MB = 50
PEAK_MAX_MB = 100
# The daemon is at rest this long after its first round.
REST_S = 8.0


def measure(stage: Stage) -> Result:
    """`carrel run` and `carrel-cloud serve` as they are installed; the daemon syncs by its own schedule, and folds the attempts of every
    student.

    RSS of each process as the kernel counts it, pages shared with other processes included; the server's total counts them once per process.
    """
    at_rest = _at_rest(stage)
    rows = stage.effort.rows
    # `queued` and `pushed` are made before anything is measured.
    push = _peaks(stage, stage.queued, SCHOOL)
    pull = _peaks(stage, stage.reader, FILLED)
    checks = [Check("daemon at rest", at_rest, "MB", Bound.AT_MOST, REST_MAX_MB)]
    figures: dict[str, float] = {}
    for way, (daemon, master, workers) in (("push", push), ("pull", pull)):
        checks.append(Check(f"daemon, most during a {way} of {rows:,} attempts", daemon, "MB", Bound.AT_MOST, PEAK_MAX_MB))
        checks.append(Check(f"server process, most during the {way}", max(master, *workers), "MB", Bound.AT_MOST, PEAK_MAX_MB))
        figures |= {f"{way}: gunicorn master, MB": master}
        figures |= {f"{way}: gunicorn worker {number}, MB": worker for number, worker in enumerate(workers, 1)}
    return Result("memory", checks, figures)


def _at_rest(stage: Stage) -> float:
    with stage.cloud() as cloud:
        folder = stage.copy(stage.writer, cloud.url)
        with running_daemon(folder) as daemon:
            await_synced(folder)
            time.sleep(min(REST_S, stage.effort.rest_s))
            resting_mb = resident_mb(daemon.pid)
    stage.forget(folder)
    return resting_mb


def _peaks(stage: Stage, device: Path, template: str) -> tuple[float, float, list[float]]:
    """The most that daemon, gunicorn's master and its workers ever held until device and school agree and mastery is up to date."""
    with stage.cloud(template) as cloud:
        folder = stage.copy(device, cloud.url)
        with running_daemon(folder) as daemon:
            await_synced(folder)
            _fold(daemon, folder)
            peaks = peak_resident_mb(daemon.pid), peak_resident_mb(cloud.pid), _workers_mb(cloud)
    stage.forget(folder)
    return peaks


def _fold(daemon: Running, folder: Path) -> None:
    """Asks for every student's mastery, so that it is computed now and not some seconds later."""
    with closing(AppClient(daemon.url, folder)) as app:
        for student in app.students():
            app.sign_in(student)
            app.ask("/v1/mastery")


def _workers_mb(cloud: Running) -> list[float]:
    return [peak_resident_mb(pid) for pid in children(cloud.pid)]
