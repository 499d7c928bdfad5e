"""Push: attempts queued in a device's file, to durable PostgreSQL, the whole way over HTTP."""

from __future__ import annotations

from benchmarks.floors import load_by_copy
from benchmarks.processes import serving_cloud, sync_in_own_process
from benchmarks.report import Bound, Check, Result
from benchmarks.stage import Stage
from benchmarks.timing import alternate, speed_against_floor
from domain.errors import OperatorError

SHARE_MIN = 0.5


def measure(stage: Stage) -> Result:
    """The device's sync round in one process and `carrel-cloud serve` in others, against reading the same file and one COPY.

    Every run begins with a copy of the same device and of the same database, in which the table of attempts is empty.
    """
    rows, queued = stage.effort.rows, stage.queued

    def product() -> float:
        with stage.database() as url, serving_cloud(url) as cloud:
            device = stage.copy(queued, cloud.url)
            done = sync_in_own_process(device)
            stage.forget(device)
        if done["pushed"] != rows:
            raise OperatorError(f"{done['pushed']} of {rows} attempts were pushed.")
        return float(done["seconds"])

    def floor() -> float:
        with stage.database() as url:
            return load_by_copy(queued, stage.beyond_row_security(url), stage.school.id)

    pairs = alternate(floor, product, stage.effort.runs)
    share = speed_against_floor(pairs)
    best = min(pairs, key=lambda pair: pair.product_s)
    return Result(
        "push",
        [Check(f"speed of a push of {rows:,} attempts, as a share of COPY's", share.middle, "×", Bound.AT_LEAST, SHARE_MIN, share.spread)],
        {"attempts/s, best run": rows / best.product_s, "COPY attempts/s, same run": rows / best.floor_s},
    )
