"""Next question: asked after each new answer, by a student with a long history, against folding that history."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from benchmarks.device import OpenDevice, open_device
from benchmarks.report import Bound, Check, Result
from benchmarks.stage import Stage
from benchmarks.timing import ratio_of, seconds
from daemon.learning.engine import Engine
from daemon.learning.next_question import choose
from daemon.learning.plan_inputs import Wish
from daemon.learning.plan_making import make
from daemon.learning.situation import situation
from daemon.records import LocalRecords, NewAttempt
from domain.clock import HybridClock
from domain.ids import Id, IdSource

# The share of folding everything that the question after a new answer may cost, and how much more with a long history than with a short one.
SHARE_MAX, GROWTH_MAX = 0.1, 4.0
# A diligent student's year.
LONG, SHORT = 6_800, 100
# Questions of one run, of which the median counts.
QUESTIONS = 25


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds: the first question, for which everything is folded, and one after a new answer."""

    cold_s: float
    warm_s: float


def measure(stage: Stage) -> Result:
    """One device, two students with a plan each: one has answered `LONG` questions, one `SHORT`. Recording is not timed."""
    folder = stage.copy(stage.writer)
    with open_device(folder) as device:
        first, second = device.students()[:2]
        device.study(LONG, [first])
        device.study(SHORT, [second])
        runs = [(_times(device, first), _times(device, second)) for _ in range(stage.effort.runs)]
    stage.forget(folder)
    share = ratio_of([long.warm_s / long.cold_s for long, _ in runs])
    growth = ratio_of([long.warm_s / short.warm_s for long, short in runs])
    return Result(
        "next_question",
        [
            Check(
                f"after a new answer, with {LONG:,} before it, against folding them",
                share.middle,
                "×",
                Bound.AT_MOST,
                SHARE_MAX,
                share.spread,
            ),
            Check(f"the same against {SHORT} before it", growth.middle, "×", Bound.AT_MOST, GROWTH_MAX, growth.spread),
        ],
        {
            "first question, ms": 1000 * median(long.cold_s for long, _ in runs),
            "question after an answer, ms": 1000 * median(long.warm_s for long, _ in runs),
            f"the same with {SHORT} answers, ms": 1000 * median(short.warm_s for _, short in runs),
        },
    )


def _times(device: OpenDevice, student: Id) -> Times:
    """With nothing held in memory at first."""
    clock = device.clock
    records = LocalRecords(device.database, clock, IdSource(clock.now_ms), HybridClock(clock), device.identity.device_id)
    make(Engine.of(device.database, records, clock), student, Wish(), situation(clock))
    engine, questions = Engine.of(device.database, records, clock), device.questions()
    cold_s = seconds(lambda: choose(engine, student, situation(clock)))
    warm_s = []
    for number in range(QUESTIONS):
        records.record_attempts(student, [NewAttempt(questions[number].id, number % 4 > 0, "free")])
        warm_s.append(seconds(lambda: choose(engine, student, situation(clock))))
    return Times(cold_s, median(warm_s))
