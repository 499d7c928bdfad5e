"""`python -m benchmarks` works and reports every budget. What it measures is no matter of a test."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import BUDGETS

ROOT = Path(__file__).parents[2]
# Some forty processes are started; on a busy machine that takes a minute.
TIMEOUT_S = 240


@pytest.mark.timeout(TIMEOUT_S + 30)
def test_every_budget_is_measured_and_reported_as_json() -> None:
    command = [sys.executable, "-m", "benchmarks", "--rows", "2000", "--runs", "1", "--rest-s", "0.5", "--json"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    report = json.loads(ended.stdout)
    assert report["settings"]["rows"] == 2000
    assert [result["name"] for result in report["results"]] == list(BUDGETS)
    for result in report["results"]:
        assert result["failure"] is None
        assert result["checks"], result["name"]
        assert all(check["value"] >= 0 for check in result["checks"])
