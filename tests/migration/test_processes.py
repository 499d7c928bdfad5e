"""Ten processes that start at once: one migrates, the others wait and find it done. Real processes, both databases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from domain.errors import AlreadyRunning
from migrations.engines import Limits
from migrations.lock import file_lock
from tests.migration.conftest import Target

ROOT = Path(__file__).resolve().parents[2]
PROCESSES = 10
CHILD = """
import json, pathlib, sys
from migrations.runner import open_migrations
kind, url, folder = sys.argv[1:]
print("ready", flush=True)
sys.stdin.readline()
with open_migrations(kind, url, folder=pathlib.Path(folder)) as migrations:
    print(json.dumps([step.name for step in migrations.upgrade()]))
"""


def upgrade_at_once(target: Target) -> list[list[str]]:
    """What each of ten processes applied, all of which were let go in the same moment."""
    command = [sys.executable, "-c", CHILD, target.kind, target.url, str(target.folder.path)]
    pipe = subprocess.PIPE
    children = [subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(PROCESSES)]
    try:
        for child in children:
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
        for child in children:
            assert child.stdin
            child.stdin.write("\n")
            child.stdin.flush()
        outputs = [child.communicate(timeout=60) for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    assert [error for _, error in outputs] == [""] * PROCESSES
    return [json.loads(output) for output, _ in outputs]


def test_of_ten_processes_one_migrates_and_the_others_find_it_done(target: Target) -> None:
    target.folder.add_tables(1, 2, 3)
    if target.kind == "cloud":
        # The waiting ones must not hold a snapshot, for which this statement would wait for ever.
        target.folder.add("0004_index", ["CREATE INDEX CONCURRENTLY idx_a ON table_1 (id)"], extra="ATOMIC = False")
    expected = sorted(path.stem for path in target.folder.path.iterdir())
    applied = upgrade_at_once(target)
    assert sorted(applied, key=len) == [[]] * (PROCESSES - 1) + [expected]
    assert target.current() == expected[-1]


def test_a_process_that_waits_too_long_for_another_says_so(device: Target) -> None:
    device.folder.add_tables(1)
    device.limits = Limits(process_lock_s=0.05)
    with file_lock(Path(device.url.removeprefix("sqlite:///")), wait_s=1), pytest.raises(AlreadyRunning, match="Another process"):
        device.upgrade()
    assert device.upgrade() == ["0001_table_1"]


def test_a_postgresql_lock_is_waited_for_no_longer_than_its_limit(cloud: Target) -> None:
    cloud.folder.add_tables(1)
    cloud.limits = Limits(process_lock_s=0.05)
    with cloud.open() as other, other._engine.locked():
        with pytest.raises(AlreadyRunning):
            cloud.upgrade()
        assert cloud.tables() == set()
    cloud.limits = Limits()
    assert cloud.upgrade() == ["0001_table_1"]
