"""Idle CPU: the processor time of a daemon that has nothing to do."""

from __future__ import annotations

import time

from benchmarks.processes import await_synced, processor_s, running_daemon
from benchmarks.report import Bound, Check, Result
from benchmarks.stage import Stage

SHARE_MAX_PERCENT = 0.5
# What the first seconds after a start still do.
SETTLE_S = 3.0


def measure(stage: Stage) -> Result:
    """`carrel run`, enrolled, everything synced, its server at hand: all of its threads, over `effort.rest_s` seconds. In the default 30 it polls
    the server once, as a rule.
    """
    with stage.cloud() as cloud:
        folder = stage.copy(stage.writer, cloud.url)
        with running_daemon(folder) as daemon:
            await_synced(folder)
            time.sleep(min(SETTLE_S, stage.effort.rest_s))
            before_s, began_s = processor_s(daemon.pid), time.monotonic()
            time.sleep(stage.effort.rest_s)
            share = (processor_s(daemon.pid) - before_s) / (time.monotonic() - began_s)
    stage.forget(folder)
    what = f"a daemon at rest over {stage.effort.rest_s:g} s"
    return Result("idle_cpu", [Check(what, 100 * share, "% of a core", Bound.AT_MOST, SHARE_MAX_PERCENT)])
