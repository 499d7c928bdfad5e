"""GET /metrics, as Prometheus reads it: every figure has its name, unit, type and words, and is in the table of docs/monitoring.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from daemon.api.routes.metrics import STATES
from daemon.sync.round import SyncStatus
from tests.support.device import START_MS, DeviceUnderTest, attempt

ROOT = Path(__file__).parents[3]
# What Prometheus' conventions want a figure of ours to be in.
UNITS = ("_seconds", "_bytes")
COUNTED = ("_pending", "_rejected", "_notices", "_state", "_info", "_mismatch")


def families(device: DeviceUnderTest) -> dict[str, Any]:
    text = device.client.get("/metrics").get_data(as_text=True)
    return {family.name: family for family in text_string_to_metric_families(text)}


def value(families: dict[str, Any], sample: str, **labels: str) -> float:
    [found] = [s.value for family in families.values() for s in family.samples if s.name == sample and s.labels.items() >= labels.items()]
    return float(found)


def test_every_figure_says_what_it_is_in_a_name_with_a_base_unit(device: DeviceUnderTest) -> None:
    device.signed_in().post("/attempts", json=attempt())
    device.rounds.run()
    for name, family in families(device).items():
        assert family.documentation, name
        if not name.startswith("carrel_"):
            continue
        assert family.documentation.endswith("."), name
        for sample in family.samples:
            if family.type == "counter":
                assert sample.name.endswith(("_total", "_created")), name
            else:
                assert name.endswith((*UNITS, *COUNTED)), name


def test_no_label_holds_what_is_not_bounded(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    ada.post("/attempts", json=attempt())
    ada.get("/questions/0192f7a0-b1c2-7abc-8def-0123456789ab")
    device.client.get("/nothing/here?name=Ada")
    device.client.get("/v1/status", headers={"Host": "evil.example"})
    rules = {rule.endpoint.rpartition(".")[2] for rule in device.app.url_map.iter_rules()} | {"none"}
    for family in families(device).values():
        if not family.name.startswith("carrel_"):
            continue
        for sample in family.samples:
            assert set(sample.labels) <= {"state", "outcome", "endpoint", "status", "version"}
            assert sample.labels.get("endpoint", "none") in rules
            assert re.fullmatch(r"\d{3}|", sample.labels.get("status", ""))


def test_what_waits_is_told_with_the_time_of_the_oldest(device: DeviceUnderTest) -> None:
    ada = device.signed_in()
    ada.post("/attempts", json=attempt())
    device.clock.advance(60_000)
    ada.post("/attempts", json=attempt())
    ada.patch("/me/profile", json={"grade": "8"})
    found = families(device)
    assert value(found, "carrel_operations_pending") == 3
    assert value(found, "carrel_answers_pending") == 2
    assert value(found, "carrel_oldest_pending_timestamp_seconds") == START_MS / 1000
    assert value(found, "carrel_sync_state", state="pending") == 1
    assert sum(s.value for s in found["carrel_sync_state"].samples) == 1


def test_where_nothing_waits_there_is_no_oldest(device: DeviceUnderTest) -> None:
    assert "carrel_oldest_pending_timestamp_seconds" not in families(device)


def test_the_states_are_those_of_sync(device: DeviceUnderTest) -> None:
    assert set(STATES) == set(re.findall(r"^ +`(\w+)`  ", SyncStatus.__doc__ or "", re.MULTILINE))


def test_rounds_are_counted_by_what_came_of_them(device: DeviceUnderTest) -> None:
    device.rounds.run(forced=True)
    device.rounds.run(forced=True)
    found = families(device)
    assert value(found, "carrel_sync_rounds_total", outcome="offline") == 2
    assert value(found, "carrel_sync_round_duration_seconds_count") == 2
    assert value(found, "carrel_rows_pulled_total") == 0


def test_requests_are_counted_by_endpoint_and_status_also_those_that_are_refused(device: DeviceUnderTest) -> None:
    device.client.get("/v1/status")
    device.client.get("/v1/me")
    device.client.get("/nothing")
    found = families(device)
    assert value(found, "carrel_http_requests_total", endpoint="get_status", status="200") == 1
    assert value(found, "carrel_http_requests_total", endpoint="get_me", status="401") == 1
    assert value(found, "carrel_http_requests_total", endpoint="none", status="404") == 1
    assert value(found, "carrel_http_request_duration_seconds_count", endpoint="get_status") == 1
    assert value(found, "carrel_http_request_duration_seconds_sum", endpoint="get_status") > 0


def test_the_size_of_the_database_and_the_room_on_its_disk_are_told(device: DeviceUnderTest) -> None:
    found = families(device)
    assert value(found, "carrel_database_size_bytes") >= device.database.path.stat().st_size
    assert value(found, "carrel_disk_free_bytes") > 0


def test_the_table_of_the_documentation_has_every_figure_of_a_device_and_no_other(device: DeviceUnderTest) -> None:
    device.signed_in().post("/attempts", json=attempt())
    device.execute(
        "UPDATE sync_progress SET last_contact_ms = 1, last_push_ms = 1, last_pull_ms = 1, last_verify_ms = 1, last_verify_result = 'match'"
    )
    told = {
        name + ("_total" if family.type == "counter" else "") for name, family in families(device).items() if name.startswith("carrel_")
    }
    text = (ROOT / "docs" / "monitoring.md").read_text("utf-8").partition("## A device\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(carrel_\w+)", text, re.MULTILINE)) == told
