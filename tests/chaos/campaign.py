"""A campaign of rounds, one seed after the other, for as long as one likes. Each round is a line in a file of results, which the next campaign goes on from."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import platformdirs

from domain.errors import CarrelError
from tests.chaos.rounds import ROUNDS, Figures
from tests.support.devstack import reachable_temporary_folder

RESULTS_VARIABLE = "CARREL_CHAOS_RESULTS"
FAILURE_CHARACTERS_MAX = 4_000
KEPT = ("*.log", "clock", "*/device.sqlite3*", "postgres/server.log*", "standby/server.log*")


def results_file() -> Path:
    """The file that CARREL_CHAOS_RESULTS names, else one in the account's state folder: outside the repository."""
    named = os.environ.get(RESULTS_VARIABLE)
    return Path(named) if named else platformdirs.user_state_path("carrel-chaos") / "results.jsonl"


@dataclass(frozen=True, slots=True)
class Result:
    """One round. `failure` says which invariant did not hold."""

    seed: int
    kind: str
    seconds: float
    figures: Figures = field(default_factory=dict)
    failure: str | None = None


def read_results(path: Path) -> list[Result]:
    """Every round so far. A line that was cut off by the death of a campaign is left out."""
    if not path.exists():
        return []
    return list(_read_lines(path.read_text().splitlines()))


def _read_lines(lines: Sequence[str]) -> Iterator[Result]:
    for line in lines:
        try:
            yield Result(**json.loads(line))
        except (ValueError, TypeError):
            continue


def totals(results: Sequence[Result]) -> dict[str, dict[str, Any]]:
    """Kind of round → how many rounds, how many of them failed, and the sums of their figures."""
    sums: dict[str, dict[str, Any]] = {}
    for result in results:
        kind = sums.setdefault(result.kind, {"rounds": 0, "failed": 0})
        kind["rounds"] += 1
        kind["failed"] += result.failure is not None
        for name, value in result.figures.items():
            if isinstance(value, int):
                kind[name] = kind.get(name, 0) + value
    return dict(sorted(sums.items()))


class Campaign:
    """Goes on after the last seed of the file `results`, which it appends to. `say` is told of each round."""

    def __init__(self, results: Path, say: Callable[[str], None]) -> None:
        self._results, self._say = results, say
        results.parent.mkdir(parents=True, exist_ok=True)
        self._seed = max((result.seed for result in read_results(results)), default=0) + 1

    def run(self, until_s: float, kind: str | None = None) -> int:
        """Rounds until the monotonic clock says `until_s`; the one that has begun is finished. Returns how many failed."""
        failed = 0
        while time.monotonic() < until_s:
            failed += self.round(kind).failure is not None
        return failed

    def round(self, kind: str | None = None) -> Result:
        """One round with the next seed: of the given kind, else of the kind that the seed draws among those this machine is fit for."""
        seed, self._seed = self._seed, self._seed + 1
        kind = kind or _draw(seed)
        started_s = time.monotonic()
        with reachable_temporary_folder() as folder:
            figures, failure = _outcome(kind, folder, seed)
            if failure:
                failure += f"\nkept: {self._keep(folder, seed)}"
        result = Result(seed, kind, round(time.monotonic() - started_s, 1), figures, failure)
        with self._results.open("a") as file:
            file.write(json.dumps(asdict(result)) + "\n")
        told = ", ".join(f"{name} {value}" for name, value in figures.items() if isinstance(value, int))
        self._say(f"seed {seed}  {kind:<16} {result.seconds:5.1f} s  {'FAILED: ' + failure if failure else 'holds'}  {told}")
        return result

    def _keep(self, folder: Path, seed: int) -> Path:
        """Saves what explains a failure."""
        kept = self._results.parent / f"seed-{seed}"
        for pattern in KEPT:
            for path in folder.glob(pattern):
                target = kept / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, target)
        return kept


def _draw(seed: int) -> str:
    fit = {name: kind.weight for name, kind in ROUNDS.items() if kind.why_not() is None}
    return random.Random(f"campaign {seed}").choices(list(fit), list(fit.values()))[0]


def _outcome(kind: str, folder: Path, seed: int) -> tuple[Figures, str | None]:
    try:
        return ROUNDS[kind].run(folder, seed), None
    except (AssertionError, CarrelError, OSError) as error:
        return {}, (str(error) or type(error).__name__)[:FAILURE_CHARACTERS_MAX]
