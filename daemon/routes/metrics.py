"""GET /metrics: whether this device's work is safe, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from daemon.endpoints import Access, Answer, Call, Endpoint
from daemon.sync.round import SyncStatus

MEDIA = "text/plain"
STATES = ("not_enrolled", "waiting", "unknown", "pending", "rejected", "differs", "synced")


def metrics(call: Call) -> Answer:
    # Here, because a device that nobody scrapes need not hold the library in memory.
    from prometheus_client import CollectorRegistry, Gauge, generate_latest

    registry = CollectorRegistry()
    status = call.device.sync_state()
    for name, help_, value in _figures(status):
        Gauge(name, help_, registry=registry).set(value)
    state = Gauge("carrel_sync_state", "1 for the state that sync is in.", ["state"], registry=registry)
    for known in STATES:
        state.labels(known).set(known == status.state)
    return Answer(generate_latest(registry))


def _figures(status: SyncStatus) -> Iterator[tuple[str, str, float]]:
    yield "carrel_operations_pending", "Changes that are not at school yet.", status.pending
    yield "carrel_operations_rejected", "Changes that the school has refused and that wait for a person.", status.rejected
    if status.last_contact_ms is not None:
        yield "carrel_last_contact_timestamp_seconds", "When the school's server was last reached.", status.last_contact_ms / 1000
    if status.last_verify_ms is not None:
        yield "carrel_last_verify_timestamp_seconds", "When this device was last compared with its school.", status.last_verify_ms / 1000
        yield "carrel_verify_mismatch", "1 while a comparison has found rows that differ and could not be put right.", status.differs


ENDPOINTS = (Endpoint("GET", "/metrics", metrics, "Figures for Prometheus.", {200: str}, Access.OPEN, at_root=True, media=MEDIA),)
