"""GET /metrics: whether this device's work is safe, and how it fares, for Prometheus.

Names and units follow Prometheus' conventions; docs/monitoring.md has a table of them. Labels are bounded: states, reasons, endpoints, statuses,
never a person or an address.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from daemon.api.endpoints import Access, Answer, Call, Device, Endpoint
from daemon.api.routes.sync import status_of
from daemon.api.schemas.sync import Status
from daemon.process.tally import Requests, Rounds
from daemon.queue.sync_log import oldest_pending_ms

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MEDIA = "text/plain"
STATES = ("not_enrolled", "waiting", "unknown", "pending", "rejected", "differs", "synced")


def metrics(call: Call) -> Answer:
    # Here, because a device that nobody scrapes need not hold the libraries in memory.
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest

    registry = CollectorRegistry()
    registry.register(_Figures(call.device))
    ProcessCollector(registry=registry)
    return Answer(generate_latest(registry))


class _Figures:
    """All figures of one moment, as prometheus_client's registry asks for them."""

    def __init__(self, device: Device) -> None:
        self._device = device

    def collect(self) -> Iterator[Metric]:
        from importlib import metadata

        device = self._device
        yield _labelled("carrel_build_info", "1, with the version of this program.", "version", {metadata.version("carrel"): 1})
        yield from _sync(status_of(device), _oldest_ms(device))
        yield from _rounds(device.tally.rounds())
        yield from _requests(device.tally.requests())
        yield from _storage(device.database.path)


def _sync(status: Status, oldest_ms: int | None) -> Iterator[Metric]:
    yield _labelled("carrel_sync_state", "1 for the state that sync is in.", "state", {state: state == status.state for state in STATES})
    yield _gauge("carrel_operations_pending", "Changes that are not at school yet.", status.pending)
    yield _gauge("carrel_answers_pending", "Answers among them.", status.answers_pending)
    yield _gauge("carrel_operations_rejected", "Changes that the school has refused and that wait for a person.", status.rejected)
    yield _gauge("carrel_notices", "Sentences that wait for whoever looks after the machine (carrel status).", len(status.notices))
    times = (
        ("carrel_oldest_pending_timestamp_seconds", "When the oldest change that is not at school yet was written.", oldest_ms),
        ("carrel_last_contact_timestamp_seconds", "When the school's server was last reached.", status.last_contact_ms),
        ("carrel_last_push_timestamp_seconds", "When changes last reached the school.", status.last_push_ms),
        ("carrel_last_pull_timestamp_seconds", "When something last came from the school.", status.last_pull_ms),
        ("carrel_last_verify_timestamp_seconds", "When this device was last compared with its school.", status.last_verify_ms),
    )
    for name, help_, at_ms in times:
        if at_ms is not None:
            yield _gauge(name, help_, at_ms / 1000)
    if status.last_verify_ms is not None:
        differs = status.last_verify_result == "mismatch"
        yield _gauge("carrel_verify_mismatch", "1 while a comparison has found rows that differ and could not be put right.", differs)


def _rounds(rounds: Rounds) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily

    ended = CounterMetricFamily("carrel_sync_rounds", "Sync rounds since the start, by what came of them.", labels=["outcome"])
    for outcome, count in sorted(rounds.by_outcome.items()):
        ended.add_metric([outcome], count)
    yield ended
    took = SummaryMetricFamily("carrel_sync_round_duration_seconds", "How long sync rounds took.")
    took.add_metric([], rounds.by_outcome.total(), rounds.seconds)
    yield took
    yield CounterMetricFamily("carrel_operations_pushed", "Changes that went to school since the start.", rounds.pushed)
    yield CounterMetricFamily("carrel_operations_refused", "Changes among them that the school did not take.", rounds.rejected)
    yield CounterMetricFamily("carrel_rows_pulled", "Rows that came from school since the start.", rounds.pulled)


def _requests(requests: Requests) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily, SummaryMetricFamily

    answered = CounterMetricFamily("carrel_http_requests", "Requests to the localhost API since the start.", labels=["endpoint", "status"])
    counts: dict[str, int] = {}
    for (endpoint, status), count in sorted(requests.by_status.items()):
        answered.add_metric([endpoint, str(status)], count)
        counts[endpoint] = counts.get(endpoint, 0) + count
    yield answered
    took = SummaryMetricFamily("carrel_http_request_duration_seconds", "How long requests took to answer.", labels=["endpoint"])
    for endpoint, count in counts.items():
        took.add_metric([endpoint], count, requests.seconds[endpoint])
    yield took


def _storage(database: Path) -> Iterator[Metric]:
    with suppress(OSError):  # a disk that fails shows elsewhere; the other figures are wanted then most of all
        files = (database, database.with_name(f"{database.name}-wal"))
        yield _gauge("carrel_database_size_bytes", "The database with its log.", sum(f.stat().st_size for f in files if f.exists()))
        yield _gauge("carrel_disk_free_bytes", "Room on the database's disk.", shutil.disk_usage(database.parent).free)


def _oldest_ms(device: Device) -> int | None:
    with device.database.read() as conn:
        return oldest_pending_ms(conn)


def _gauge(name: str, help_: str, value: float) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    return GaugeMetricFamily(name, help_, value)


def _labelled(name: str, help_: str, label: str, values: dict[str, Any]) -> Metric:
    """A gauge with a value for each value of one label."""
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, help_, labels=[label])
    for text, value in values.items():
        family.add_metric([text], float(value))
    return family


ENDPOINTS = (Endpoint("GET", "/metrics", metrics, "Figures for Prometheus.", {200: str}, Access.OPEN, at_root=True, media=MEDIA),)
