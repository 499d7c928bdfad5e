"""Registers outside the database: who adds to one is alone at it, and nobody waits for ever."""

from __future__ import annotations

import fcntl
from pathlib import Path

import msgspec
import pytest

from cloud_api import register_file
from domain.errors import OperatorError


class Entry(msgspec.Struct, frozen=True):
    """An entry of a register."""

    at_ms: int


def test_whoever_finds_another_at_the_register_gives_up_in_the_end_and_nothing_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(register_file, "WAIT_MAX_S", 0.1)
    path = tmp_path / "register.jsonl"
    register_file.update(path, "register", lambda: [Entry(1)])
    with path.with_name(path.name + register_file.LOCK).open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(OperatorError, match="Another program has been at"):
            register_file.update(path, "register", lambda: [Entry(2)])
    assert register_file.read(path, Entry, "register", lambda _: True) == [Entry(1)]
    register_file.update(path, "register", lambda: [Entry(2)])
    assert register_file.read(path, Entry, "register", lambda _: True) == [Entry(2)]
