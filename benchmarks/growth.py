"""Growth: a small sync round with many rows behind it, against the same with few."""

from __future__ import annotations

from statistics import median

from benchmarks.device import OpenDevice, open_device
from benchmarks.report import Bound, Check, Result
from benchmarks.stage import FILLED, Stage
from benchmarks.timing import ratio_of, seconds
from daemon.records import NewAttempt

GROWTH_MAX = 1.2
ATTEMPTS = 20
# Rounds of one run, of which the median counts.
ROUNDS = 15
WARM_UP_ROUNDS = 3


def measure(stage: Stage) -> Result:
    """Two devices with a server each, in turn: one pair with `effort.rows` attempts behind it, one with none. 20 attempts are recorded before
    each round, which is timed without that.
    """
    rows, pushed = stage.effort.rows, stage.pushed
    with stage.cloud() as small_cloud, stage.cloud(FILLED) as large_cloud:
        small_folder, large_folder = stage.copy(stage.writer, small_cloud.url), stage.copy(pushed, large_cloud.url)
        with open_device(small_folder) as small, open_device(large_folder) as large:
            for device in (small, large):
                _round_s(device)
            _together(small, large, WARM_UP_ROUNDS)
            runs = [_together(small, large, ROUNDS) for _ in range(stage.effort.runs)]
    for folder in (small_folder, large_folder):
        stage.forget(folder)
    growth = ratio_of([large_s / small_s for small_s, large_s in runs])
    what = f"a round of {ATTEMPTS} attempts with {rows:,} behind it, against the same with none"
    return Result(
        "growth",
        [Check(what, growth.middle, "×", Bound.AT_MOST, GROWTH_MAX, growth.spread)],
        {"round with few rows, ms": 1000 * median(s for s, _ in runs), "round with many rows, ms": 1000 * median(s for _, s in runs)},
    )


def _together(small: OpenDevice, large: OpenDevice, rounds: int) -> tuple[float, float]:
    """Rounds of both in turn; the median seconds of each."""
    pairs = [(_round_s(small), _round_s(large)) for _ in range(rounds)]
    return median(s for s, _ in pairs), median(s for _, s in pairs)


def _round_s(device: OpenDevice) -> float:
    question = device.questions()[0]
    device.record([NewAttempt(question.id, True, "quiz", answer=question.right, active_ms=5_000) for _ in range(ATTEMPTS)])
    return seconds(device.sync)
