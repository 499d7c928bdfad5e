"""Pull: attempts from durable PostgreSQL into a fresh device, the whole way over HTTP."""

from __future__ import annotations

from benchmarks.floors import fetch_by_copy
from benchmarks.processes import serving_cloud, sync_in_own_process
from benchmarks.report import Bound, Check, Result
from benchmarks.stage import FILLED, Stage
from benchmarks.timing import alternate, speed_against_floor
from domain.errors import OperatorError

SHARE_MIN = 0.4


def measure(stage: Stage) -> Result:
    """The first sync round of a device that has nothing yet, the course included, against COPY out and executemany in.

    Every run begins with a copy of the same device, or an empty file of the same schema, and of the same database.
    """
    rows = stage.effort.rows

    def product() -> float:
        with stage.database(FILLED) as url, serving_cloud(url) as cloud:
            device = stage.copy(stage.reader, cloud.url)
            done = sync_in_own_process(device)
            stage.forget(device)
        if done["pulled"] < rows:
            raise OperatorError(f"{done['pulled']} of more than {rows} rows were pulled.")
        return float(done["seconds"])

    def floor() -> float:
        device = stage.blank_file()
        with stage.database(FILLED) as url:
            took_s = fetch_by_copy(stage.beyond_row_security(url), device)
        stage.forget(device)
        return took_s

    pairs = alternate(floor, product, stage.effort.runs)
    share = speed_against_floor(pairs)
    best = min(pairs, key=lambda pair: pair.product_s)
    return Result(
        "pull",
        [
            Check(
                f"speed of a first pull of {rows:,} attempts, as a share of COPY and executemany",
                share.middle,
                "×",
                Bound.AT_LEAST,
                SHARE_MIN,
                share.spread,
            )
        ],
        {"attempts/s, best run": rows / best.product_s, "floor attempts/s, same run": rows / best.floor_s},
    )
