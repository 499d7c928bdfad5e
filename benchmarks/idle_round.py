"""Idle round: what a sync round with nothing to do asks of the network and of the server's database."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2 import sql

from benchmarks.device import OpenDevice, open_device
from benchmarks.processes import serving_cloud
from benchmarks.proxy import Traffic, relay
from benchmarks.report import Bound, Check, Result
from benchmarks.stage import Stage

REQUESTS_MAX = 1
STATEMENTS_MAX = 5
# Of a group of rounds, so that one that differs is not missed.
ROUNDS = 5
# PostgreSQL writes it into its log for each statement when log_statement is `all`.
_LOGGED = b"LOG:  statement: "


@dataclass(frozen=True, slots=True)
class Cost:
    """What one round took."""

    requests: int
    statements: int


def measure(stage: Stage) -> Result:
    """Requests counted by a relay, statements by PostgreSQL's own log: BEGIN, COMMIT and the pool's ping are statements too.

    Once a minute a poll also writes down that the device was seen; that round is measured by itself.
    """
    with stage.database() as url:
        _log_statements(stage.beyond_row_security(url))
        with serving_cloud(url) as cloud, relay(cloud.url) as (relayed, traffic):
            folder = stage.copy(stage.writer, relayed)
            log = stage.postgres.data_dir / "server.log"
            with open_device(folder) as device:
                device.sync()
                device.sync()
                usual = [_cost(device, traffic, log) for _ in range(ROUNDS)]
                _forget_seen(stage.beyond_row_security(url))
                seen = _cost(device, traffic, log)
        stage.forget(folder)
    return Result(
        "idle_round",
        [
            Check("requests of a round", max(c.requests for c in [*usual, seen]), "requests", Bound.AT_MOST, REQUESTS_MAX),
            Check("statements of a round", max(c.statements for c in usual), "statements", Bound.AT_MOST, STATEMENTS_MAX),
            Check("statements of the round that notes the device as seen", seen.statements, "statements", Bound.AT_MOST, STATEMENTS_MAX),
        ],
    )


def _cost(device: OpenDevice, traffic: Traffic, log: Path) -> Cost:
    traffic.forget()
    logged_bytes = log.stat().st_size
    device.sync()
    with log.open("rb") as file:
        file.seek(logged_bytes)
        return Cost(traffic.requests, file.read().count(_LOGGED))


def _log_statements(url: str) -> None:
    """From now on every new session of this database has its statements logged; this one has not."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        name = sql.Identifier(connection.info.dbname)
        cursor.execute(sql.SQL("ALTER DATABASE {} SET log_statement = 'all'").format(name))
        connection.commit()


def _forget_seen(url: str) -> None:
    with closing(psycopg2.connect(url, options="-c log_statement=none")) as connection, connection.cursor() as cursor:
        cursor.execute("UPDATE devices SET last_seen_ms = 0")
        connection.commit()
