"""`python -m benchmarks.fleet`: many devices at once against one server.

Every device is the product's own outbox, sync round, gateway and SQLite file, and speaks HTTP to `carrel-cloud serve` with its defaults, over a PostgreSQL
with fsync. The devices live in a few processes of many threads, and share the machine with the server. A student has two devices, so that every
attempt goes up from one and down to the other. The exit code is 0 when every device came through and nothing was lost.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import click

from benchmarks.fleet_processes import DeviceProcess, running_devices
from benchmarks.fleet_school import DEVICES_OF_A_STUDENT, enrolments
from benchmarks.processes import children, peak_resident_mb, serving_cloud
from cloud_api.database import CloudDatabase
from cloud_api.embedded import EmbeddedPostgres, reachable_folder
from domain.errors import OperatorError
from domain.ids import Id
from migrations.runner import upgrade_cloud

CONNECTIONS = 2
FIRST_SYNCS_VARIABLE = "CARREL_CLOUD_SERVER_FIRST_SYNCS_MAX"


@dataclass(frozen=True, slots=True)
class Scenario:
    """How many devices there are, how many attempts each makes away from the network, whether the course is a real one (some 900 rows) or a tiny
    one, whether all enrol at the same moment, and how many the server lets do their first sync at a time (None: its default)."""

    name: str
    devices: int
    attempts: int
    real_course: bool = True
    enrol_at_once: bool = True
    first_syncs_max: int | None = None


SCENARIOS = {
    s.name: s
    for s in (
        Scenario("classroom", 30, 50),
        Scenario("school", 200, 50),
        # Their enrolment is only the preparation.
        Scenario("holidays", 1_000, 100, real_course=False, enrol_at_once=False, first_syncs_max=200),
    )
}


@dataclass(frozen=True, slots=True)
class Phase:
    """What all devices did at once. Requests by kind: how many, and the 50th and 99th percentile and maximum of what a device waited, ms."""

    name: str
    seconds: float
    through_p50_s: float
    operations: int
    requests: dict[str, tuple[int, float, float, float]]
    unanswered: int
    failed_rounds: dict[str, int]

    @property
    def requests_per_s(self) -> float:
        return sum(count for count, *_ in self.requests.values()) / self.seconds

    @property
    def operations_per_s(self) -> float:
        return self.operations / self.seconds


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario that was played. `problems` says who did not come through, and what is missing where; `server_mb` the peak of each process."""

    scenario: Scenario
    phases: Sequence[Phase]
    server_mb: Sequence[float]
    problems: Sequence[str]


def play(scenario: Scenario, *, durable: bool = True) -> Outcome:
    """Plays one scenario in a temporary folder; without `durable` PostgreSQL does not wait for the disk.

    Raises OperatorError when something does not start, or a device does not come through.
    """
    settings = {} if scenario.first_syncs_max is None else {FIRST_SYNCS_VARIABLE: str(scenario.first_syncs_max)}
    with ExitStack() as parts:
        folder, data_dir = parts.enter_context(_folders())
        postgres = parts.enter_context(EmbeddedPostgres.start(data_dir, durable=durable))
        url = postgres.create_database("fleet")
        upgrade_cloud(url)
        database = parts.enter_context(closing(CloudDatabase(url, CONNECTIONS, CONNECTIONS)))
        school, told = enrolments(database, scenario.devices, real_course=scenario.real_course)
        cloud = parts.enter_context(serving_cloud(url, settings))
        fleet = parts.enter_context(running_devices(folder, cloud.url, told, scenario.attempts))
        phases = list(_phases(fleet, scenario))
        server_mb = [peak_resident_mb(pid) for pid in (cloud.pid, *children(cloud.pid))]
        return Outcome(scenario, phases, server_mb, list(_problems(fleet, database, school, scenario)))


@contextmanager
def _folders() -> Iterator[tuple[Path, Path]]:
    """A temporary folder, and the place for PostgreSQL's data in it or where its account can get to."""
    folder = Path(tempfile.mkdtemp(prefix="carrel-fleet-"))
    if os.geteuid() == 0:
        folder.chmod(0o711)
    data_dir = reachable_folder(folder / "postgres")
    try:
        yield folder, data_dir
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(data_dir, ignore_errors=True)


def _phases(fleet: list[DeviceProcess], scenario: Scenario) -> Iterator[Phase]:
    recorded = scenario.devices * scenario.attempts
    if scenario.enrol_at_once:
        yield _phase("enrol and first sync", fleet, "enrol", 0)
    else:
        for process in fleet:  # a part of them each, as in the course of a term
            _phase("enrol", [process], "enrol", 0)
    _phase("record", fleet, "record", 0)
    yield _phase("push, and pull of what is there", fleet, "sync", recorded)
    yield _phase("pull of what came meanwhile", fleet, "sync", 0)


def _phase(name: str, fleet: list[DeviceProcess], what: str, operations: int) -> Phase:
    started_s = time.monotonic()
    for process in fleet:
        process.tell(what)
    answers = [process.answer() for process in fleet]
    took_s = time.monotonic() - started_s
    if errors := [error for answer in answers for error in answer["errors"]]:
        raise OperatorError(f"{len(errors)} devices did not come through “{name}”, such as: {errors[0]}")
    waited: dict[str, list[float]] = {}
    unanswered = 0
    for answer in answers:
        for kind, seconds, answered in answer["requests"]:
            waited.setdefault(kind, []).append(seconds * 1000)
            unanswered += not answered
    failed = sum((Counter(answer["failed"]) for answer in answers), Counter[str]())
    through = [s for answer in answers for s in answer["seconds"]]
    spread = {kind: (len(ms), percentile(ms, 50), percentile(ms, 99), max(ms)) for kind, ms in sorted(waited.items())}
    return Phase(name, took_s, percentile(through, 50), operations, spread, unanswered, dict(failed))


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that so many percent are not above (nearest rank). `values` holds at least one."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(percent) // 100) - 1)]


def _problems(fleet: list[DeviceProcess], database: CloudDatabase, school: Id, scenario: Scenario) -> Iterator[str]:
    for process in fleet:
        process.tell("count")
    counts = [count for process in fleet for count in process.answer()["counts"]]
    expected = DEVICES_OF_A_STUDENT * scenario.attempts
    if wrong := [count for count in counts if count != expected]:
        yield f"{len(wrong)} of {len(counts)} devices do not hold their student's {expected} attempts, but for instance {wrong[0]}"
    with database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT count(*) FROM question_attempts WHERE school_id = %s", (school,))
        stored = cast("tuple[int]", cursor.fetchone())[0]
        cursor.execute("SELECT count(*) FROM dead_letters")
        letters = cast("tuple[int]", cursor.fetchone())[0]
    if (stored, letters) != (scenario.devices * scenario.attempts, 0):
        yield f"the server has {stored} attempts and {letters} dead letters"


# --- the command


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a scenario.")
@click.option("--only", type=click.Choice(list(SCENARIOS)), multiple=True, help="Play this scenario; may be given several times.")
@click.option("--devices", type=click.IntRange(2, 2_000), help="Another number of devices.")
@click.option("--attempts", type=click.IntRange(1, 10_000), help="Another number of attempts of each device.")
@click.option("--first-syncs-max", type=click.IntRange(1, 1_000), help="Another value of the server's setting first_syncs_max.")
def main(as_json: bool, only: Sequence[str], devices: int | None, attempts: int | None, first_syncs_max: int | None) -> None:
    """Let a fleet of devices loose on one server on this machine, in a temporary folder."""
    failed = False
    for scenario in (s for name, s in SCENARIOS.items() if not only or name in only):
        played = replace(
            scenario,
            devices=devices or scenario.devices,
            attempts=attempts or scenario.attempts,
            first_syncs_max=first_syncs_max or scenario.first_syncs_max,
        )
        try:
            outcome = play(played)
        except OperatorError as error:
            click.echo(f"{played.name}: {error.message}", err=True)
            failed = True
            continue
        failed |= bool(outcome.problems)
        click.echo(json.dumps(asdict(outcome)) if as_json else as_text(outcome))
    sys.exit(1 if failed else 0)


def as_text(outcome: Outcome) -> str:
    """A few lines a phase, then the server's memory, then what went wrong."""
    scenario = outcome.scenario
    lines = [f"{scenario.name}: {scenario.devices} devices, {scenario.attempts} attempts each"]
    for phase in outcome.phases:
        rate = f", {phase.operations_per_s:,.0f} operations/s" if phase.operations else ""
        lines.append(
            f"  {phase.name}: {phase.seconds:.1f} s, half of the devices after {phase.through_p50_s:.1f} s{rate}, {phase.requests_per_s:.0f} requests/s"
        )
        lines += [
            f"    {kind:<5} {count:>6,}  p50 {p50:>7,.0f} ms  p99 {p99:>7,.0f} ms  most {most:>7,.0f} ms"
            for kind, (count, p50, p99, most) in phase.requests.items()
        ]
        lines.append(f"    without a usable answer: {phase.unanswered}; rounds that failed: {phase.failed_rounds or 'none'}")
    lines.append("  server, most resident memory: " + ", ".join(f"{mb:.0f} MB" for mb in outcome.server_mb))
    return "\n".join(
        [*lines, *(f"  FAILED: {problem}" for problem in outcome.problems or ())]
        + ([] if outcome.problems else ["  nothing lost, nobody left behind"])
    )


if __name__ == "__main__":
    main()
