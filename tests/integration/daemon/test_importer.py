"""Content files loaded into a real device database."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon.database import DeviceDatabase
from daemon.importer import KEPT_MAX, ContentInbox
from daemon.inbox import apply_content
from daemon.models import MODELS
from domain.blocks import TableBlock, encode_block
from domain.bodies import compress, to_json
from domain.clock import SystemClock
from domain.content_pack import FILE_BYTES_MAX, ContentPack, encode
from domain.errors import OperatorError, StorageFull
from domain.registry import TABLES
from migrations.runner import upgrade_device

SCHOOL = "a" * 32
TOPIC, CONCEPT = "1" * 32, "2" * 32
STEADY_MS = 1_000


class HandClock(SystemClock):
    """A monotonic clock that goes on when the test says so."""

    def __init__(self) -> None:
        self.at_ms = 0

    def monotonic_ms(self) -> int:
        return self.at_ms


class Inbox:
    """An inbox over a migrated database, and a person who drops files into it."""

    def __init__(self, folder: Path, database: DeviceDatabase) -> None:
        self.folder = folder
        self.database = database
        self.school_id: str | None = SCHOOL
        self.clock = HandClock()
        self.content = ContentInbox(folder, database, lambda: self.school_id, self.clock, lambda: STEADY_MS)

    def drop(self, data: bytes, name: str = "course.carrel-content") -> Path:
        self.folder.mkdir(exist_ok=True)
        (self.folder / name).write_bytes(data)
        return self.folder / name

    def look_twice(self) -> None:
        """Looks, and again when the files have kept still for long enough."""
        self.content.look()
        self.clock.at_ms += STEADY_MS
        self.content.look()

    def names(self, where: str = ".") -> list[str]:
        return sorted(path.name for path in (self.folder / where).iterdir() if path.is_file())

    def titles(self, table: str = "topics") -> list[str]:
        with self.database.read() as conn:
            return [title for (title,) in conn.execute(f"SELECT title FROM {table} ORDER BY title")]


@pytest.fixture
def inbox(tmp_path: Path) -> Iterator[Inbox]:
    path = tmp_path / "state" / "carrel.sqlite3"
    path.parent.mkdir()
    upgrade_device(path)
    database = DeviceDatabase(path)
    database.open(MODELS)
    yield Inbox(tmp_path / "inbox", database)
    database.close()


def _topics(*titles: str, feed_no: int = 1, **changes: Any) -> TableBlock:
    count = len(titles)
    columns: dict[str, list[Any]] = {
        "id": [f"{i:032x}" for i in range(1, count + 1)],
        "parent_id": [None] * count,
        "title": list(titles),
        "level": ["chapter"] * count,
        "position": list(range(count)),
        "weightage": [None] * count,
        "estimated_minutes": [None] * count,
        "external_id": [None] * count,
        "retired_at_ms": [None] * count,
        "feed_no": [feed_no] * count,
    }
    return encode_block(TABLES["topics"], columns | changes, count)


def _pack(*titles: str, school_id: str = SCHOOL, feed_no: int = 1, **changes: Any) -> bytes:
    return encode(ContentPack(school_id, "Hill School", {"topics": _topics(*titles, feed_no=feed_no, **changes)}))


def test_a_content_file_is_loaded_and_moved_to_done(inbox: Inbox) -> None:
    inbox.drop(_pack("Fractions", "Roots"))
    inbox.look_twice()
    assert inbox.titles() == ["Fractions", "Roots"]
    assert (inbox.names(), inbox.names("done"), inbox.names("refused")) == ([], ["course.carrel-content"], [])
    assert (inbox.content.status.loaded, inbox.content.status.refused) == (1, 0)


def test_a_file_is_not_read_before_it_has_kept_still(inbox: Inbox) -> None:
    whole = _pack("Fractions", "Roots")
    path = inbox.drop(whole[:50])
    assert inbox.content.look() is True
    inbox.clock.at_ms += STEADY_MS
    path.write_bytes(whole)
    assert inbox.content.look() is True
    assert inbox.names() == ["course.carrel-content"]
    inbox.clock.at_ms += STEADY_MS
    assert inbox.content.look() is False
    assert inbox.titles() == ["Fractions", "Roots"]


def test_loading_a_file_again_changes_nothing(inbox: Inbox) -> None:
    for _ in range(2):
        inbox.drop(_pack("Fractions"))
        inbox.look_twice()
    assert inbox.titles() == ["Fractions"]
    assert len(inbox.names("done")) == 2


def test_an_older_file_does_not_undo_a_newer_one(inbox: Inbox) -> None:
    inbox.drop(_pack("New title", feed_no=9), "b.carrel-content")
    inbox.look_twice()
    inbox.drop(_pack("Old title", feed_no=3))
    inbox.look_twice()
    assert inbox.titles() == ["New title"]


def test_an_older_file_does_not_bring_back_what_was_deleted_since(inbox: Inbox) -> None:
    inbox.database.write(lambda conn: conn.execute("INSERT INTO cursors (scope, cursor) VALUES ('school', 5)").rowcount)
    inbox.drop(_pack("Deleted since", feed_no=5))
    inbox.look_twice()
    assert inbox.titles() == []
    inbox.drop(_pack("New", feed_no=6))
    inbox.look_twice()
    assert inbox.titles() == ["New"]


def _school_b() -> bytes:
    return _pack("Fractions", school_id="b" * 32)


def _truncated() -> bytes:
    return _pack("Fractions", "Roots")[:-10]


def _with_users() -> bytes:
    return compress(to_json(ContentPack(SCHOOL, "", {"users": TableBlock(1, {})})))


def _with_attempts() -> bytes:
    return compress(to_json(ContentPack(SCHOOL, "", {"question_attempts": TableBlock(1, {})})))


REFUSALS: list[tuple[str, Callable[[], bytes], str]] = [
    ("another school", _school_b, "belongs to another school"),
    ("truncated", _truncated, "damaged or incomplete"),
    ("empty", lambda: b"", "damaged or incomplete"),
    ("not compressed", lambda: b"PK\x03\x04 a zip file", "damaged or incomplete"),
    ("not JSON", lambda: compress(b"hello"), "damaged or incomplete"),
    ("another format", lambda: encode(ContentPack(SCHOOL, "", {}, format="carrel-content/9")), "not a content pack of the format"),
    ("people", _with_users, "holds only topics"),
    ("study records", _with_attempts, "holds only topics"),
    ("too large", lambda: b"x" * (FILE_BYTES_MAX + 1), "larger than a content file may be"),
    ("too large inside", lambda: compress(b"0" * (64 * 1024 * 1024 + 1)), "larger than a content file may be"),
    (
        "a bad block",
        lambda: encode(ContentPack(SCHOOL, "", {"topics": TableBlock(2, {"id": {"x": "1" * 32}})})),
        "topics of this content file",
    ),
    ("a bad value", lambda: _pack("Fractions", "Roots", position=[0, -1]), "Row 2 of topics in this content file has a position"),
    ("a missing column", lambda: _pack("Fractions", title=[None]), "Row 1 of topics in this content file has a title"),
    ("no feed number", lambda: _pack("Fractions", feed_no=0), "does not say how new"),
]


@pytest.mark.parametrize(("make", "reason"), [case[1:] for case in REFUSALS], ids=[case[0] for case in REFUSALS])
def test_a_file_that_may_not_be_loaded_is_refused_with_a_sentence(inbox: Inbox, make: Callable[[], bytes], reason: str) -> None:
    inbox.drop(make())
    inbox.look_twice()
    assert inbox.names("refused") == ["course.carrel-content", "course.carrel-content.problem.txt"]
    assert reason in (inbox.folder / "refused" / "course.carrel-content.problem.txt").read_text()
    assert reason in (inbox.content.status.last_problem or "")
    assert (inbox.names(), inbox.titles()) == ([], [])


def test_a_refused_file_holds_up_no_other(inbox: Inbox) -> None:
    inbox.drop(b"", "a.carrel-content")
    inbox.drop(_pack("Fractions"), "b.carrel-content")
    inbox.look_twice()
    assert inbox.titles() == ["Fractions"]


def test_one_bad_table_keeps_out_the_good_ones(inbox: Inbox) -> None:
    concepts = {
        "id": {"c": CONCEPT},
        "feed_no": {"c": 1},
        "title": {"c": "A" * 301},
        "topic_ids": {"c": [TOPIC]},
        "mastery_threshold": {"c": 0.9},
    }
    inbox.drop(encode(ContentPack(SCHOOL, "", {"topics": _topics("Fractions"), "concepts": TableBlock(1, concepts)})))
    inbox.look_twice()
    assert inbox.titles() == []
    assert inbox.names("done") == []


def test_a_failure_in_the_middle_of_the_loading_leaves_no_row(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(conn: sqlite3.Connection, tables: Any) -> int:
        apply_content(conn, tables)
        raise StorageFull()

    monkeypatch.setattr("daemon.importer.apply_content", full_disk)
    inbox.drop(_pack("Fractions"))
    with pytest.raises(StorageFull):
        inbox.look_twice()
    assert (inbox.titles(), inbox.names()) == ([], ["course.carrel-content"])
    monkeypatch.undo()
    inbox.content.look()
    assert (inbox.titles(), inbox.names()) == (["Fractions"], [])


def test_another_kind_of_file_is_refused_with_a_sentence(inbox: Inbox) -> None:
    inbox.drop(b"notes", "homework.docx")
    inbox.look_twice()
    assert inbox.names("refused") == ["homework.docx", "homework.docx.problem.txt"]


@pytest.mark.parametrize("name", [".hidden.carrel-content", "course.carrel-content.part", "course.carrel-content.crdownload", "course~"])
def test_files_that_a_program_is_still_copying_are_left_alone(inbox: Inbox, name: str) -> None:
    inbox.drop(b"half", name)
    inbox.look_twice()
    assert inbox.names() == [name]


def test_links_folders_and_pipes_are_left_alone(inbox: Inbox, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(_pack("Fractions"))
    inbox.folder.mkdir()
    (inbox.folder / "a.carrel-content").symlink_to(tmp_path / "secret")
    (inbox.folder / "b.carrel-content").mkdir()
    os.mkfifo(inbox.folder / "c.carrel-content")
    inbox.look_twice()
    assert inbox.titles() == []
    assert {"a.carrel-content", "b.carrel-content", "c.carrel-content"} <= set(os.listdir(inbox.folder))


def test_before_enrolment_files_wait(inbox: Inbox) -> None:
    inbox.school_id = None
    inbox.drop(_pack("Fractions"))
    inbox.look_twice()
    assert inbox.names() == ["course.carrel-content"]
    inbox.school_id = SCHOOL
    inbox.look_twice()
    assert inbox.titles() == ["Fractions"]


def test_a_file_that_is_taken_away_again_is_forgotten(inbox: Inbox) -> None:
    path = inbox.drop(_pack("Fractions"))
    inbox.content.look()
    path.unlink()
    inbox.clock.at_ms += STEADY_MS
    assert inbox.content.look() is False


def test_an_inbox_that_is_deleted_is_made_again(inbox: Inbox) -> None:
    inbox.content.look()
    for folder in ("done", "refused", "."):
        (inbox.folder / folder).rmdir()
    inbox.drop(_pack("Fractions"))
    inbox.look_twice()
    assert inbox.titles() == ["Fractions"]


def test_status_says_that_the_folder_cannot_be_used_as_long_as_it_cannot(inbox: Inbox) -> None:
    inbox.folder.write_text("in the way")
    with pytest.raises(OperatorError):
        inbox.content.look()
    assert str(inbox.folder) in (inbox.content.status.folder_problem or "")
    inbox.folder.unlink()
    inbox.content.look()
    assert inbox.content.status.folder_problem is None


def test_only_the_newest_files_are_kept(inbox: Inbox) -> None:
    for number in range(KEPT_MAX + 3):
        inbox.drop(b"", f"{number:03}.carrel-content")
        inbox.look_twice()
    kept = [name for name in inbox.names("refused") if not name.endswith(".problem.txt")]
    assert kept == [f"{number:03}.carrel-content" for number in range(3, KEPT_MAX + 3)]
    assert len(inbox.names("refused")) == 2 * KEPT_MAX


def test_a_file_that_cannot_be_moved_away_is_loaded_once_and_holds_up_no_other(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(path: Path, folder: Path, now_ms: int) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("daemon.importer._move", read_only)
    inbox.drop(_pack("Fractions"), "a.carrel-content")
    inbox.drop(_pack("Roots", id=["9" * 32]), "b.carrel-content")
    inbox.look_twice()
    assert inbox.titles() == ["Fractions", "Roots"]
    for _ in range(3):
        inbox.look_twice()
    assert inbox.content.status.loaded == 2


def test_a_file_that_could_not_be_moved_away_is_loaded_when_it_changes(inbox: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("daemon.importer._move", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        inbox.drop(_pack("Fractions"))
        inbox.look_twice()
    inbox.drop(_pack("Fractions and more", feed_no=2))
    inbox.look_twice()
    assert (inbox.titles(), inbox.names()) == (["Fractions and more"], [])
