"""Real folders, real events."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.watcher import Watched, Watcher

WAIT_S = 5.0
# Long enough for an event that should not come to come.
QUIET_S = 0.3
NAME = "config.toml"


class Told:
    """Whom the watcher tells."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.fails = False

    def __call__(self) -> None:
        self.event.set()
        if self.fails:
            raise ValueError("boom")

    def comes(self, timeout_s: float = WAIT_S) -> bool:
        """Whether it is told within the time; ready for the next afterwards."""
        came = self.event.wait(timeout_s)
        self.event.clear()
        return came


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "watched"
    path.mkdir()
    return path


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def watcher(folder: Path, told: Told) -> Iterator[Watcher]:
    watcher = Watcher([Watched(folder, lambda name: name == NAME, told)])
    watcher.start()
    yield watcher
    watcher.stop(WAIT_S)


def _write_atomically(path: Path) -> None:
    draft = path.with_suffix(".new")
    draft.write_text("a")
    draft.replace(path)


def _write_from_elsewhere(path: Path) -> None:
    draft = path.parent.parent / "draft"
    draft.write_text("a")
    draft.replace(path)


@pytest.mark.parametrize("write", [Path.touch, lambda p: p.write_text("a"), _write_atomically, _write_from_elsewhere])
def test_every_way_of_saving_a_file_is_told(watcher: Watcher, folder: Path, told: Told, write: object) -> None:
    write(folder / NAME)  # type: ignore[operator]
    assert told.comes()


def test_a_deleted_file_is_told(watcher: Watcher, folder: Path, told: Told) -> None:
    (folder / NAME).touch()
    assert told.comes()
    told.comes(QUIET_S)
    (folder / NAME).unlink()
    assert told.comes()


def test_other_files_of_the_folder_concern_nobody(watcher: Watcher, folder: Path, told: Told) -> None:
    (folder / "other.toml").write_text("a")
    assert not told.comes(QUIET_S)


def test_reading_the_file_is_no_change_of_it(watcher: Watcher, folder: Path, told: Told) -> None:
    (folder / NAME).write_text("a")
    while told.comes(QUIET_S):
        pass
    (folder / NAME).read_text()
    assert not told.comes(QUIET_S)


def test_an_error_of_the_one_who_is_told_does_not_end_the_watching(
    watcher: Watcher, folder: Path, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    told.fails = True
    (folder / NAME).write_text("a")
    assert told.comes()
    told.fails = False
    while told.comes(QUIET_S):
        pass
    (folder / NAME).write_text("b")
    assert told.comes()
    assert "a file event could not be handed on" in caplog.text


def _delete_and_make_again(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _move_away_and_make_again(folder: Path) -> None:
    folder.rename(folder.with_name("old"))
    folder.mkdir()


@pytest.mark.parametrize("replace", [_delete_and_make_again, _move_away_and_make_again])
def test_a_folder_that_was_replaced_is_watched_again(watcher: Watcher, folder: Path, told: Told, replace: object) -> None:
    replace(folder)  # type: ignore[operator]
    told.comes(QUIET_S)
    watcher.check()
    assert told.comes(), "what happened in between may have been lost"
    (folder / NAME).write_text("a")
    assert told.comes()


def test_a_folder_that_is_missing_at_the_start_is_watched_once_it_is_there(tmp_path: Path, told: Told) -> None:
    folder = tmp_path / "later"
    watcher = Watcher([Watched(folder, lambda name: True, told)])
    watcher.start()
    try:
        watcher.check()
        assert not told.comes(0)
        folder.mkdir()
        watcher.check()
        assert told.comes()
        (folder / NAME).touch()
        assert told.comes()
    finally:
        watcher.stop(WAIT_S)


def test_a_missing_folder_is_logged_once(tmp_path: Path, told: Told, caplog: pytest.LogCaptureFixture) -> None:
    watcher = Watcher([Watched(tmp_path / "later", lambda name: True, told)])
    watcher.start()
    try:
        for _ in range(3):
            watcher.check()
    finally:
        watcher.stop(WAIT_S)
    assert caplog.text.count("a folder cannot be watched") == 1


def test_a_dead_observer_is_replaced(watcher: Watcher, folder: Path, told: Told) -> None:
    observer = watcher._observer  # no public way to kill the thread, and the thread's death is the point
    assert observer is not None
    observer.stop()
    observer.join(WAIT_S)
    watcher.check()
    assert told.comes()
    (folder / NAME).touch()
    assert told.comes()


def test_checking_watches_that_are_well_tells_nobody(watcher: Watcher, told: Told) -> None:
    watcher.check()
    assert not told.comes(0)


def test_a_folder_behind_a_link_is_watched(tmp_path: Path, folder: Path, told: Told) -> None:
    os.symlink(folder, tmp_path / "link")
    watcher = Watcher([Watched(tmp_path / "link", lambda name: True, told)])
    watcher.start()
    try:
        (folder / NAME).touch()
        assert told.comes()
    finally:
        watcher.stop(WAIT_S)
