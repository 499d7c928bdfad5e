"""Daemon, server and its workers are killed; and the campaign that does so for longer. What a round demands in the end stands in `World.judge`."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chaos import campaign, faults, rounds

needs_strace = pytest.mark.skipif(bool(faults.without_strace()), reason="needs strace")


def test_NO_LOST_OP_when_daemon_and_server_are_killed_at_random_moments(folder: Path, cloud_database: str) -> None:
    figures = rounds.killed(folder, 1, cloud_database, kills=8)
    assert figures["kills"] == 8


@needs_strace
def test_NO_LOST_OP_when_daemon_and_server_die_on_entering_a_system_call(folder: Path, cloud_database: str) -> None:
    figures = rounds.killed_at_calls(folder, 3, cloud_database, kills=4)
    assert any(name.startswith("kills_at_") for name in figures)


def test_a_campaign_goes_on_where_the_last_one_ended_and_ends_in_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, int]] = []

    def run(place: Path, seed: int) -> rounds.Figures:
        ran.append((place.name, seed))
        if seed == 2:
            raise AssertionError("NO_LOST_OP: planted")
        return {"kills": 3}

    monkeypatch.setattr(campaign, "ROUNDS", {"planted": rounds.Round(run, 1), "missing": rounds.Round(run, 1, lambda: "needs luck")})
    results = folder / "results" / "chaos.jsonl"
    first = campaign.Campaign(results, print)
    for _ in range(2):
        first.round()
    kept = f"NO_LOST_OP: planted\nkept: {results.parent / 'seed-2'}"
    assert [(r.seed, r.kind, r.failure) for r in campaign.read_results(results)] == [(1, "planted", None), (2, "planted", kept)]
    second = campaign.Campaign(results, print)
    second.round()
    assert [seed for _, seed in ran] == [1, 2, 3]
    assert campaign.totals(campaign.read_results(results)) == {"planted": {"rounds": 3, "failed": 1, "kills": 6}}
    assert campaign.Campaign(results, print).run(until_s=time.monotonic()) == 0
    assert len(ran) == 3
