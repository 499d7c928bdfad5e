"""GET /metrics of the server: right sums over its processes, for those alone who may read them, and named the same wherever they are named."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import urllib3
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from cloud_api.app import create_app
from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import Grant
from cloud_api.fleet import reports
from domain.wire import DeviceReport
from tests.support.cloud import SchoolBuilder

DOCS = Path(__file__).parents[3] / "docs"
START_MAX_S = 60
REQUESTS = 60


def figures(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """(name, labels) -> value."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: str, name: str, **labels: str) -> float | None:
    return figures(text).get((name, frozenset(labels.items())))


def test_the_figures_say_how_devices_stand_and_name_none(cloud_app: FlaskClient, cloud_school: SchoolBuilder) -> None:
    ada = cloud_school.add_user("ada")
    made = cloud_school.enrol(Grant("student", ada.id), name="Room 5")
    with cloud_school.database.transaction() as cursor:
        reports.note(cursor, cloud_school.id, made.id, DeviceReport(17, 5_000, "1.0", 1), cloud_school.clock.now_ms())
    text = cloud_app.get("/metrics").get_data(as_text=True)
    assert value(text, "carrel_cloud_database_up") == 1
    assert value(text, "carrel_cloud_operations_pending") == 17
    assert value(text, "carrel_cloud_devices", state="never") == 1
    assert value(text, "carrel_cloud_devices", state="current") == 0
    assert not {"Room 5", "ada", made.id, cloud_school.id} & set(re.findall(r'"([^"]*)"', text))


@pytest.mark.parametrize(
    ("address", "headers"),
    [
        ("10.0.0.9", {}),
        ("127.0.0.1", {"X-Forwarded-For": "127.0.0.1"}),
        ("127.0.0.1", {"X-Forwarded-Proto": "https"}),
        ("127.0.0.1", {"Via": "1.1 proxy"}),
        ("::1", {"X-Real-IP": "10.0.0.9"}),
        ("", {}),
    ],
)
def test_from_another_machine_and_through_a_proxy_nobody_reads_them(cloud_app: FlaskClient, address: str, headers: dict[str, str]) -> None:
    refused = cloud_app.get("/metrics", headers=headers, environ_overrides={"REMOTE_ADDR": address})
    assert refused.status_code == 403
    assert b"carrel_cloud_" not in refused.data


def test_without_a_database_the_figures_say_so() -> None:
    database = CloudDatabase("postgresql://nobody@127.0.0.1:1/nothing")
    answer = create_app(CloudConfig(), database).test_client().get("/metrics")
    database.close()
    assert answer.status_code == 200
    text = answer.get_data(as_text=True)
    assert value(text, "carrel_cloud_database_up") == 0
    assert value(text, "carrel_cloud_dead_letters") is None


@contextmanager
def served(url: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server of three processes, which logs into a file; (it, its port)."""
    (folder / "config.toml").write_text('[cloud]\nlog_level = "warning"\n')
    command = [sys.executable, "-m", "cloud_api.cli", "serve", "--port", "0", "--workers", "3", "--config", str(folder / "config.toml")]
    environ = os.environ | {"DATABASE_URL": url, "TMPDIR": str(folder)}
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], START_MAX_S)[0], "the server never said where it listens"
            yield process, int(process.stdout.readline().rpartition(":")[2])
        finally:
            process.terminate()
            process.wait(START_MAX_S)


def ask(port: int, path: str, **options: Any) -> Any:
    """One request on a connection of its own, so that any of the processes may have it."""
    with urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=1, retries=urllib3.Retry(3)) as pool:
        return pool.request(options.pop("method", "GET"), path, headers={"Connection": "close"}, **options)


def test_whichever_process_is_asked_the_sums_are_those_of_all_and_the_level_of_the_log_follows_the_file(
    cloud_database: str, tmp_path: Path
) -> None:
    with served(cloud_database, tmp_path) as (process, port):
        for _ in range(REQUESTS):
            assert ask(port, "/healthz").status == 200
        found = {
            value(ask(port, "/metrics").data.decode(), "carrel_cloud_http_requests_total", endpoint="health.healthz", status="200")
            for _ in range(9)
        }
        assert found == {REQUESTS}
        assert "answered" not in (tmp_path / "log").read_text()
        (tmp_path / "config.toml").write_text('[cloud]\nlog_level = "debug"\n')
        process.send_signal(signal.SIGHUP)
        deadline_s = time.monotonic() + START_MAX_S
        while "health.healthz" not in (tmp_path / "log").read_text():
            assert time.monotonic() < deadline_s, "the level never changed"
            ask(port, "/healthz")
        after = value(ask(port, "/metrics").data.decode(), "carrel_cloud_http_requests_total", endpoint="health.healthz", status="200")
        assert after is not None
        assert after > REQUESTS  # what processes that are gone have counted stays counted
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("carrel-metrics-")] == []


def named_in(text: str) -> set[str]:
    return {re.sub(r"_(bucket|count|sum)$", "", name) for name in re.findall(r"\bcarrel_[a-z_]+[a-z]\b", text)}


def test_every_figure_that_dashboards_alerts_and_docs_name_exists_and_every_figure_is_explained(
    cloud_app: FlaskClient, cloud_school: SchoolBuilder
) -> None:
    page = (DOCS / "monitoring.md").read_text("utf-8")
    explained = set(re.findall(r"^\| `(carrel_[a-z_]+)`", page, re.MULTILINE))
    dashboards = [json.loads(path.read_text("utf-8")) for path in (DOCS / "monitoring").glob("*.json")]
    asked = [target["expr"] for board in dashboards for panel in board["panels"] for target in panel["targets"]]
    rules = re.findall(r"^ +expr: (.+)$", (DOCS / "monitoring" / "alerts.yml").read_text("utf-8"), re.MULTILINE)
    assert asked
    assert len(rules) == (DOCS / "monitoring" / "alerts.yml").read_text("utf-8").count("- alert:")
    assert named_in(" ".join([*asked, *rules])) <= explained
    assert {name for name in explained if name.startswith("carrel_cloud_")} == all_figures(cloud_app, cloud_school)


def all_figures(client: FlaskClient, school: SchoolBuilder) -> set[str]:
    """The names of all figures of a server at which everything has happened once."""
    ada = school.add_user("ada")
    made = school.enrol(Grant("student", ada.id))
    now_ms = school.clock.now_ms()
    with school.database.transaction() as cursor:
        reports.note(cursor, school.id, made.id, DeviceReport(1, 1_000), now_ms)
        cursor.execute("UPDATE devices SET last_seen_ms = %s", (now_ms,))
    client.get("/healthz")
    families = text_string_to_metric_families(client.get("/metrics").get_data(as_text=True))
    return {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
