"""The figures of this server for Prometheus: what its processes have done, added up over all of them, and how the devices stand.

What is counted in the processes goes through prometheus_client's files in the folder that PROMETHEUS_MULTIPROC_DIR names, one for each process, so
that whichever process is asked answers for all; without that variable a process answers for itself. How devices stand comes from the
database. Labels are bounded, and none names a school, a device or a person. docs/monitoring.md has a table of the figures.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector

from cloud_api.fleet.overview import State, Totals
from cloud_api.serving.counting_together import FOLDER_VARIABLE
from domain.errors import Unavailable
from domain.wire import PullAnswer, PushAnswer, PushRequest

# Seconds; a push or pull takes some milliseconds, and a request is given up after half a minute.
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
NO_ENDPOINT = "none"

disable_created_metrics()  # type: ignore[no-untyped-call]  # processes that count together have none


class Metrics:
    """The figures of one application. `totals` gives how all devices stand, or raises Unavailable."""

    def __init__(self, totals: Callable[[], Totals]) -> None:
        self._totals = totals
        self._own = own = CollectorRegistry()
        self._requests = Counter("carrel_cloud_http_requests", "Requests answered.", ["endpoint", "status"], registry=own)
        self._took = Histogram(
            "carrel_cloud_http_request_duration_seconds", "How long requests took to answer.", ["endpoint"], registry=own, buckets=BUCKETS_S
        )
        self._operations = Counter("carrel_cloud_operations", "Operations settled, by verdict.", ["verdict"], registry=own)
        self._rows = Counter("carrel_cloud_rows_given", "Rows given to devices.", registry=own)

    def answered(self, endpoint: str | None, status: int, took_s: float) -> None:
        """A request was answered; without an endpoint no route took it."""
        self._requests.labels(endpoint or NO_ENDPOINT, str(status)).inc()
        self._took.labels(endpoint or NO_ENDPOINT).observe(took_s)

    def pushed(self, request: PushRequest, answer: PushAnswer) -> None:
        """A push was settled."""
        for verdict in answer.verdicts:
            self._operations.labels(verdict.verdict).inc()
        self._operations.labels("applied").inc(answer.acked_through - request.first_seq + 1 - len(answer.verdicts))

    def pulled(self, answer: PullAnswer) -> None:
        """A page was given out."""
        self._rows.inc(sum(block.n for block in answer.tables.values()))

    def text(self) -> bytes:
        """All figures of this moment in Prometheus' text format."""
        registry = self._own
        if FOLDER_VARIABLE in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        standing = CollectorRegistry()
        standing.register(_Standing(self._totals))
        return generate_latest(registry) + generate_latest(standing)


class _Standing:
    """What the database knows, as prometheus_client's registry asks for it."""

    def __init__(self, totals: Callable[[], Totals]) -> None:
        self._totals = totals

    def describe(self) -> Iterator[Metric]:
        """Nothing: the database is not asked before somebody wants the figures."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        info = GaugeMetricFamily("carrel_cloud_build_info", "1, with the version of this program.", labels=["version"])
        info.add_metric([version("carrel")], 1)
        yield info
        try:
            totals = self._totals()
        except Unavailable:
            yield GaugeMetricFamily("carrel_cloud_database_up", "1 while the database answers.", 0)
            return
        yield GaugeMetricFamily("carrel_cloud_database_up", "1 while the database answers.", 1)
        devices = GaugeMetricFamily("carrel_cloud_devices", "Devices, by what is to be said of each.", labels=["state"])
        for state in State:
            devices.add_metric([state], totals.states[state])
        yield devices
        gauges = (
            ("carrel_cloud_operations_pending", "Operations that devices said they have not sent yet.", totals.pending),
            ("carrel_cloud_dead_letters", "Operations that were refused and wait for a person.", totals.dead_letters),
            ("carrel_cloud_conflicts", "Values that lost against another's and were not restored.", totals.conflicts),
            ("carrel_cloud_first_syncs", "Devices that fetch everything at this moment.", totals.first_syncs),
            ("carrel_cloud_clocks_wrong", "Devices whose clock is wrong by minutes.", totals.clocks_wrong),
        )
        for name, help_, value in gauges:
            yield GaugeMetricFamily(name, help_, value)
        times = (
            ("carrel_cloud_oldest_pending_timestamp_seconds", "When the oldest of them was written.", totals.oldest_pending_at_ms),
            ("carrel_cloud_last_contact_timestamp_seconds", "When a device was last heard of.", totals.last_seen_ms),
        )
        for name, help_, at_ms in times:
            if at_ms is not None:
                yield GaugeMetricFamily(name, help_, at_ms / 1000)
