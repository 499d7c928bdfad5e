"""What docs/monitoring ships, run by the programs that it is for: promtool judges the rules, and Prometheus asks a real server and a real device."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import Grant
from daemon.process.state_folder import find_running
from tests.chaos.processes import Cloud, Daemon, free_port, wait_until
from tests.support.cloud import SchoolBuilder, cloud_database, cloud_template
from tests.support.examples import DOCS, example
from tests.support.fleet import running_fleet

__all__ = ["cloud_database", "cloud_template"]
FOLDER = DOCS / "monitoring"
COMMAND_MAX_S, SCRAPED_MAX_S, END_MAX_S = 60.0, 60.0, 20.0
needs_prometheus = pytest.mark.skipif(not (shutil.which("prometheus") and shutil.which("promtool")), reason="needs prometheus and promtool")
ALERTS = set(re.findall(r"- alert: (\w+)", (FOLDER / "alerts.yml").read_text("utf-8")))
PUSHES = 'rate(carrel_cloud_http_request_duration_seconds_count{endpoint="sync.push"}[5m]) > 0'
# Nothing waits at this school, and its device was not compared with it yet.
NOT_YET = {"carrel_cloud_oldest_pending_timestamp_seconds", "carrel_oldest_pending_timestamp_seconds", "carrel_verify_mismatch"}


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=COMMAND_MAX_S, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_prometheus
def test_the_rules_are_valid_and_every_alert_fires_when_it_should_and_not_before() -> None:
    promtool("check", "rules", "alerts.yml")
    promtool("test", "rules", "alerts_test.yml")


def test_there_is_a_case_for_every_alert_both_for_firing_and_for_silence() -> None:
    cases = re.findall(r"alertname: (\w+)(.*?exp_alerts)?", (FOLDER / "alerts_test.yml").read_text("utf-8").replace("\n        ", " "))
    assert {name for name, fires in cases if fires} == ALERTS
    assert {name for name, fires in cases if not fires} == ALERTS


class Prometheus:
    """A running Prometheus, asked through its API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def get(self, path: str, **fields: str) -> Any:
        with urllib3.PoolManager(retries=False, timeout=COMMAND_MAX_S) as http:
            answer = http.request("GET", f"{self._url}/{path}", fields=fields)
        told = answer.json()
        assert told["status"] == "success", f"{fields}: {told}"
        return told["data"]

    def ask(self, expression: str) -> list[Any]:
        """The series that an expression gives now, without those that are no number. An expression that is none is a failure."""
        found = self.get("query", query=expression)["result"]
        return [series for series in found if series["value"][1] != "NaN"]

    def rules(self) -> list[dict[str, Any]]:
        """The alerts, and how they stand."""
        return [rule for group in self.get("rules")["groups"] for rule in group["rules"]]

    def is_up(self) -> bool:
        try:
            self.get("status/buildinfo")
        except (urllib3.exceptions.HTTPError, ValueError):
            return False
        return True


@dataclass(frozen=True)
class School:
    """The ports of a server and of a daemon; `study` has another device send and fetch."""

    cloud_port: int
    device_port: int
    study: Callable[[], object]


@pytest.fixture
def school(cloud_database: str, tmp_path: Path) -> Iterator[School]:
    with ExitStack() as parts:
        database = parts.enter_context(closing(CloudDatabase(cloud_database)))
        cloud = Cloud(cloud_database, tmp_path)
        parts.callback(cloud.kill)
        cloud.start()
        cloud.await_ready()
        fleet = parts.enter_context(running_fleet(SchoolBuilder.build(database), cloud.url, tmp_path))
        ada = fleet.school.add_user("ada").id
        watched, other = (fleet.device(Grant("student", ada)) for _ in range(2))
        other.sync()
        watched.gateway.close()
        watched.database.close()
        daemon = Daemon(watched.folder, watched.folder / "device.sqlite3")
        parts.callback(daemon.kill)
        daemon.start()
        daemon.await_ready()
        daemon.sync()
        found = find_running(watched.folder)
        assert found

        def study() -> None:
            other.records.record_attempts(ada, fleet.attempts(5))
            assert other.sync().outcome == "done"

        yield School(cloud.port, found[0].port, study)


@pytest.fixture
def prometheus(school: School, tmp_path: Path) -> Iterator[Prometheus]:
    """One that watches both, as docs/monitoring/prometheus.yml says, only more often."""
    with _prometheus(school.cloud_port, school.device_port, tmp_path) as running:
        yield running


@contextmanager
def _prometheus(cloud_port: int, device_port: int, folder: Path) -> Iterator[Prometheus]:
    config = {
        "interval: 30s": "interval: 1s",
        "127.0.0.1:8751": f"127.0.0.1:{cloud_port}",
        "#  - job_name: carrel-device": "  - job_name: carrel-device",
        '#    static_configs: [{targets: ["127.0.0.1:8750"]}]': f'    static_configs: [{{targets: ["127.0.0.1:{device_port}"]}}]',
    }
    (folder / "prometheus.yml").write_text(example("monitoring/prometheus.yml", config))
    shutil.copy(FOLDER / "alerts.yml", folder)
    port = free_port()
    command = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(["prometheus", *command], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        running = Prometheus(port)
        wait_until(running.is_up, f"Prometheus answers (log: {log.name})")
        yield running
    finally:
        process.terminate()
        process.wait(END_MAX_S)


@needs_prometheus
def test_prometheus_gets_every_figure_that_dashboard_and_alerts_ask_for(prometheus: Prometheus, school: School) -> None:
    def has_seen() -> bool:
        school.study()
        return all(prometheus.ask(expression) for expression in (PUSHES, "carrel_build_info"))

    wait_until(has_seen, "Prometheus has looked at server and device", SCRAPED_MAX_S)
    board = json.loads((FOLDER / "grafana-server.json").read_text("utf-8"))
    asked = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    assert {expression for expression in asked if not prometheus.ask(expression)} == {
        "time() - carrel_cloud_oldest_pending_timestamp_seconds"
    }
    wait_until(lambda: {rule["health"] for rule in prometheus.rules()} == {"ok"}, "every rule is judged", SCRAPED_MAX_S)
    assert {rule["name"] for rule in prometheus.rules()} == ALERTS
    assert {rule["name"] for rule in prometheus.rules() if rule["state"] != "inactive"} == set()
    named = set(re.findall(r"\bcarrel_[a-z_]+[a-z]", " ".join([*asked, *(rule["query"] for rule in prometheus.rules())])))
    assert {name for name in named if not prometheus.ask(name)} == NOT_YET
