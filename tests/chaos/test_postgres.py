"""The school's PostgreSQL dies, stalls, is replaced, and stands behind a pool. What a round demands in the end stands in `World.judge`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos import rounds
from tests.chaos.postgres import without_pgbouncer, without_replication

needs_pgbouncer = pytest.mark.skipif(bool(without_pgbouncer()), reason="needs pgbouncer")
needs_replication = pytest.mark.skipif(bool(without_replication()), reason="needs pg_basebackup")


def test_NO_LOST_OP_when_the_schools_postgresql_is_killed_and_comes_back(folder: Path) -> None:
    figures = rounds.dying_postgres(folder, 2, deaths=2)
    assert figures["postgres_killed"] + figures.get("postgres_backends_killed", 0) == 2


@needs_replication
def test_NO_LOST_OP_when_a_synchronous_standby_takes_over(folder: Path) -> None:
    assert rounds.failing_over(folder, 1)["failovers"] == 1


@needs_replication
def test_NO_LOST_OP_when_an_asynchronous_standby_takes_over_and_devices_are_told(folder: Path) -> None:
    assert rounds.failing_over_to_the_past(folder, 1)["missing"] >= 50


@needs_replication
def test_TRUTHFUL_STATUS_when_the_synchronous_standby_stalls(folder: Path) -> None:
    assert rounds.stalled_standby(folder, 1)["acknowledged"] > 0


@needs_pgbouncer
def test_EXACTLY_ONCE_through_pgbouncer_in_transaction_mode(folder: Path) -> None:
    assert rounds.pooled(folder, 1, kills=2)["kills"] == 2
