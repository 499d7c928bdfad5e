from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from cloud_api.serving.counting_together import FOLDER_VARIABLE, counting_together


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)
    return tmp_path


def test_the_folder_is_there_as_long_as_the_server_runs(folder: Path) -> None:
    with counting_together():
        assert [str(path) for path in folder.iterdir()] == [os.environ[FOLDER_VARIABLE]]
    assert not list(folder.iterdir())
    assert FOLDER_VARIABLE not in os.environ


def test_what_a_killed_server_left_goes_and_what_a_running_one_uses_stays(folder: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    names = [f"carrel-metrics-{ended.pid}-a", f"carrel-metrics-{os.getpid()}-b", "carrel-metrics-another-name"]
    for name in names:
        (folder / name).mkdir()
        (folder / name / "counter.db").write_bytes(b"1")
    with counting_together():
        pass
    assert sorted(path.name for path in folder.iterdir()) == sorted(names[1:])
