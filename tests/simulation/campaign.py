"""`python -m tests.simulation.campaign FIRST-LAST`: the worlds of many seeds, in as many processes as asked for.

Prints each failing seed with the fewest steps that lead there, and in the end how often what went wrong, how many worlds were made and what they
cost. The exit code is 1 when one failed.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

from cloud_api.embedded import DatabaseServer
from tests.simulation.checks import Violated
from tests.simulation.ground import Ground, ground_on
from tests.simulation.meter import postgres_s
from tests.simulation.shrink import run_seed
from tests.simulation.storage import DeviceCrash
from tests.support.postgres import running_server

# Worlds of one database: with more of them, whatever looks at all devices of a server gets slower.
BLOCK = 100
# A campaign ends after so many failing seeds; the first ones are enough to work with.
FAILURES_MAX = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a block of seeds: how many worlds, the processor time of Python they took, the failures by seed, and what went wrong in them."""

    worlds: int
    python_s: float
    failures: dict[int, str]
    met: Counter[str]


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the seeds named on the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.campaign", description=__doc__)
    parser.add_argument("seeds", help="FIRST-LAST")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    options = parser.parse_args(arguments)
    first, _, last = options.seeds.partition("-")
    return campaign(range(int(first), int(last or first) + 1), options.jobs)


def campaign(seeds: range, jobs: int) -> int:
    """0 when every world held."""
    began_s = time.monotonic()
    worlds, python_s, failures, met = 0, 0.0, 0, Counter[str]()
    with running_server() as server, ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        before_s = postgres_s(server.url)
        for outcome in pool.map(partial(_run_block, server.url, server.owner), _blocks(seeds)):
            worlds, python_s, failures = worlds + outcome.worlds, python_s + outcome.python_s, failures + len(outcome.failures)
            met += outcome.met
            for seed, told in outcome.failures.items():
                print(f"\nseed {seed}: {told}", flush=True)
            print(f"{worlds} of {len(seeds)} worlds, {failures} failed; {worlds / (time.monotonic() - began_s):.1f} a second", flush=True)
            if failures >= FAILURES_MAX:
                pool.shutdown(cancel_futures=True)
                break
        after_s = postgres_s(server.url)
    print("; ".join(f"{what} {count}" for what, count in sorted(met.items())))
    postgres = f" and {(after_s - before_s) / max(worlds, 1) * 1000:.0f} ms of PostgreSQL" if before_s and after_s else ""
    spent = f"{python_s / max(worlds, 1) * 1000:.0f} ms of Python{postgres} each"
    print(f"{worlds} worlds in {time.monotonic() - began_s:.0f} s with {jobs} processes; {spent}")
    return 1 if failures else 0


def _blocks(seeds: range) -> Iterator[range]:
    for start in range(seeds.start, seeds.stop, BLOCK):
        yield range(start, min(start + BLOCK, seeds.stop))


def _run_block(url: str, owner: str | None, seeds: range) -> Outcome:
    logging.disable(logging.CRITICAL)
    server = DatabaseServer(url)
    server.owner = owner
    with ground_on(server) as ground:
        began_s = time.process_time()
        failures = {seed: told for seed in seeds if (told := _told(seed, ground))}
        return Outcome(len(seeds), time.process_time() - began_s, failures, ground.met)


def _told(seed: int, ground: Ground) -> str:
    """How the world of a seed fails; nothing when it holds."""
    try:
        run_seed(seed, ground)
    except Violated as violated:
        return str(violated)
    except (Exception, DeviceCrash) as error:  # noqa: BLE001  # an error of the product's is a find too
        return f"{type(error).__name__}: {error}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
