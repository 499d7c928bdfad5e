"""Wire: bytes an attempt of real study records in batches of 1,000, as they pass between device and server."""

from __future__ import annotations

from dataclasses import replace

import msgspec

from benchmarks.device import OpenDevice, open_device
from benchmarks.proxy import Traffic, relay
from benchmarks.report import Bound, Check, Result
from benchmarks.stage import Stage
from daemon.gateway import HttpGateway
from daemon.queue import outbox
from daemon.sync.push import encode_runs
from domain.bodies import PLAIN_BYTES_MAX, compress, to_json
from domain.errors import OperatorError
from domain.wire import BATCH_BYTES_MAX, Limits, PushAnswer, PushRequest

BYTES_MAX = 40
BATCH = 1_000
BATCHES_MAX = 6
_LIMITS = Limits(BATCH, BATCH_BYTES_MAX)
# A column of one value (domain/blocks.py), and the columns that weigh most.
_SAME = {"c": 0}
_COLUMNS = ("question_id", "answer", "answered_at_ms", "active_ms")


def measure(stage: Stage) -> Result:
    """A student's records, each written by itself at its own time, pushed by one device and pulled by another through a relay that counts.

    Requests and answers with their HTTP headers; operation metadata travels with every push.
    """
    batches = max(1, min(BATCHES_MAX, stage.effort.rows // BATCH))
    count = batches * BATCH
    with stage.cloud() as cloud, relay(cloud.url) as (url, traffic):
        writing, reading = stage.copy(stage.writer, url), stage.copy(stage.reader, url)
        with open_device(reading) as reader, open_device(writing) as writer:
            reader.sync()  # the course, which is not counted
            writer.study(count, writer.students()[:1], at_once=1)
            without = _without(writer)
            pushed = _push(writer, traffic)
            pulled = _pull(reader, traffic, count)
    for device in (writing, reading):
        stage.forget(device)
    return Result(
        "wire",
        [_check("push", pushed, count), _check("pull", pulled, count)],
        {
            "push, up": pushed.sent_bytes / count,
            "push, down": pushed.received_bytes / count,
            "pull, up": pulled.sent_bytes / count,
            "pull, down": pulled.received_bytes / count,
            **without,
        },
    )


def _check(way: str, traffic: Traffic, count: int) -> Check:
    total = (traffic.sent_bytes + traffic.received_bytes) / count
    return Check(f"{way} of {count:,} attempts in batches of {BATCH:,}", total, "bytes an attempt", Bound.AT_MOST, BYTES_MAX)


def _without(device: OpenDevice) -> dict[str, float]:
    """What the first batch weighs, in bytes an attempt without headers, and would if one of its columns said the same for every attempt."""
    with device.database.read() as conn:
        if (place := outbox.progress(conn)) is None:
            raise OperatorError("This device is not enrolled.")
        [run] = encode_runs(outbox.next_operations(conn, place, BATCH, PLAIN_BYTES_MAX))
    lighter = {"": run, " without ids": msgspec.structs.replace(run, rows=_SAME)}
    lighter[" without operation's times"] = msgspec.structs.replace(run, wall_ms=_SAME, mono_ms=_SAME)
    lighter |= {f" without {name}": msgspec.structs.replace(run, fields={**run.fields, name: _SAME}) for name in _COLUMNS}
    return {f"first batch{name}": len(compress(to_json(light))) / run.n for name, light in lighter.items()}


class _SmallBatches(HttpGateway):
    """The product's gateway, to a server that asks for batches of BATCH operations."""

    def push(self, token: str, request: PushRequest) -> PushAnswer:
        return msgspec.structs.replace(super().push(token, request), limits=_LIMITS)


def _push(device: OpenDevice, traffic: Traffic) -> Traffic:
    """Pushes everything queued in batches of BATCH. What it took."""
    traffic.forget()
    identity = device.enrolled()
    batches = [batch.operations for batch in device.pusher(_LIMITS).push_all(_SmallBatches(identity.cloud_url), identity)]
    if set(batches) != {BATCH}:
        raise OperatorError(f"The batches were not of {BATCH}: {batches}")
    return replace(traffic)


def _pull(device: OpenDevice, traffic: Traffic, count: int) -> Traffic:
    """Pulls `count` rows in pages of BATCH. What it took."""
    traffic.forget()
    identity = device.enrolled()
    pages = device.puller(BATCH).pull_all(HttpGateway(identity.cloud_url), identity)
    rows = sum(page.rows for page in pages)
    if rows < count:
        raise OperatorError(f"{rows} of {count} rows came down.")
    return replace(traffic)
