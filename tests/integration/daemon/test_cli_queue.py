"""`carrel queue` and `carrel conflicts`, with a running daemon and without: the same words, the same effect."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from daemon.api.server import LocalServer
from daemon.cli import main
from daemon.commands import queue_source
from daemon.process.state_folder import TOKEN_NAME, RunningDaemon, announce, locked, write_private
from daemon.queue.sentences import _HELP, help_for
from domain.errors import AlreadyRunning, NotFound
from domain.ids import dashed, derived_id
from domain.operations import Rejection
from tests.support.device import ADA, BEN, CONTROL_TOKEN, DEVICE_ID, START_MS, DeviceUnderTest, attempt, open_device


@dataclass(frozen=True)
class Desk:
    """A device whose commands are called. `rows` asks its file."""

    state_dir: Path
    rows: Callable[..., list[tuple[Any, ...]]]

    def carrel(self, *arguments: str) -> Result:
        environ = {
            "CARREL_DEVICE_STATE_DIR": str(self.state_dir),
            "CARREL_CONFIG": None,
            "SQLITE_DATABASE_URL": f"sqlite:///{self.state_dir}/device.sqlite3",
        }
        return CliRunner().invoke(main, arguments, env=environ)

    def json(self, *arguments: str) -> Any:
        result = self.carrel(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.output)


def work(device: DeviceUnderTest) -> None:
    """Ada answers and changes her profile, Ben answers; the school has refused the first answer and the change, and kept a grade."""
    ada = device.signed_in(ADA)
    ada.post("/attempts", json=attempt(answer="forty-two"))
    ada.patch("/me/profile", json={"grade": "7"})
    device.signed_in(BEN).post("/attempts", json=attempt())
    device.execute(
        "UPDATE sync_operations SET state = 'rejected', settled_at_ms = 1, code = CASE op_no WHEN 1 THEN 'not_granted' ELSE 'invalid_value' END,"
        " message = 'Not so.' WHERE op_no < 3"
    )
    device.execute(
        "INSERT INTO sync_conflicts (id, student_id, table_name, row_id, field, kept_value, kept_clock, lost_value, lost_clock, device_id, rule,"
        " created_at_ms) VALUES (?, ?, 'student_profiles', ?, 'grade', '\"8\"', '[9,\"z\"]', '\"7\"', ?, ?, 'teacher_first', ?)",
        derived_id("conflict"), ADA, ADA, f'[5,"{DEVICE_ID}"]', DEVICE_ID, START_MS,
    )  # fmt: skip


@pytest.fixture(params=["running", "stopped"])
def desk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setattr(queue_source, "leave_out_postgres", lambda: None)  # other tests of this process need it
    if request.param == "stopped":
        with open_device(tmp_path) as device:
            work(device)
        yield Desk(tmp_path, _file_rows(tmp_path))
        return
    with open_device(tmp_path) as device, locked(tmp_path):
        work(device)
        server = LocalServer(device.app, "127.0.0.1", 0, 2)
        server.start()
        try:
            write_private(tmp_path / TOKEN_NAME, CONTROL_TOKEN)
            announce(tmp_path, RunningDaemon(os.getpid(), "127.0.0.1", server.port, START_MS))
            yield Desk(tmp_path, device.rows)
        finally:
            server.stop(1.0)


def _file_rows(folder: Path) -> Callable[..., list[tuple[Any, ...]]]:
    def rows(sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(folder / "device.sqlite3")) as conn:
            return conn.execute(sql).fetchall()

    return rows


def test_the_queue_says_what_was_refused_why_and_what_helps(desk: Desk) -> None:
    shown = desk.carrel("queue", "list").output
    assert shown.splitlines() == [
        "The school refused 2 changes:",
        "  2  a change of the profile of Ada Ørsted, 2026-03-04 10:00 UTC",
        "      Why: Not so (invalid_value).",
        f"      What to do: {help_for('invalid_value')}",
        "  1  an answer of Ada Ørsted, 2026-03-04 10:00 UTC",
        "      Why: Not so (not_granted).",
        f"      What to do: {help_for('not_granted')}",
        "One change will be sent to school by itself, one answer among them.",
    ]


def test_the_queue_names_what_waits_when_asked(desk: Desk) -> None:
    assert "  3  an answer of Ben Okafor, 2026-03-04 10:00 UTC" in desk.carrel("queue", "list", "--pending").output.splitlines()
    told = desk.json("queue", "list", "--pending", "--limit", "1")
    assert (told["pending"], told["rejected"], [o["op_no"] for o in told["items"]]) == (1, 2, [2, 3])
    assert "… and 1 more" in desk.carrel("queue", "list", "--limit", "1").output


def test_one_change_is_shown_whole_by_its_number_or_its_id(desk: Desk) -> None:
    shown = desk.json("queue", "show", "1")
    assert (shown["payload"]["answer"], shown["code"]) == ("forty-two", "not_granted")
    assert desk.json("queue", "show", shown["id"]) == shown
    words = desk.carrel("queue", "show", "2").output
    assert '     grade: "7"' in words
    assert "   It replaced:\n     grade: nothing" in words


@pytest.mark.parametrize("key", ["99", "0", "x", dashed(ADA), "../status", "9" * 40])
def test_a_change_that_is_not_there_is_said_to_be_so(desk: Desk, key: str) -> None:
    result = desk.carrel("queue", "show", "--", key)
    assert (result.exit_code, result.stderr) == (NotFound.exit_code, "carrel: This device has written no such change.\n")


def test_a_refused_change_is_sent_again_and_the_others_are_not(desk: Desk) -> None:
    assert (
        desk.carrel("queue", "retry", "1").output
        == "One change will be sent again with the next sync. One refused change left as before.\n"
    )
    assert desk.rows("SELECT op_no, state FROM sync_operations ORDER BY op_no") == [
        (1, "synced"), (2, "rejected"), (3, "pending"), (4, "pending"),
    ]  # fmt: skip
    assert desk.json("queue", "retry", "--all") == {"retried": 1, "op_nos": [5], "left": 0}
    assert desk.carrel("queue", "retry", "--all").output == "The school has refused nothing.\n"
    assert "It is at school" not in desk.carrel("queue", "show", "1").output


def test_sending_again_needs_to_know_what(desk: Desk) -> None:
    for arguments in ((), ("1", "--all")):
        assert desk.carrel("queue", "retry", *arguments).exit_code == 2
    assert desk.carrel("queue", "retry", "3").exit_code == 1  # waits already


def test_everything_unsent_is_written_to_a_file_for_this_account_alone(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "kept.jsonl"
    assert (
        desk.carrel("queue", "export", str(file)).output == f"3 changes that are not at school written to {file}. They stay queued here.\n"
    )
    kept = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(o["op_no"], o["state"]) for o in kept] == [(1, "rejected"), (2, "rejected"), (3, "pending")]
    assert kept[0]["payload"]["answer"] == "forty-two"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = desk.carrel("queue", "export", str(file))
    assert (again.exit_code, "--force" in again.output) == (1, True)
    assert desk.json("queue", "export", str(file), "--force")["operations"] == 3
    assert not list(tmp_path.glob("*.part"))
    assert desk.carrel("queue", "export", str(tmp_path / "no" / "such" / "folder")).exit_code == 1


def test_conflicts_are_told_in_words(desk: Desk) -> None:
    assert desk.carrel("conflicts").output == (
        '2026-03-04 10:00 UTC  the grade of Ada Ørsted: "7" from this device was not taken. Here the school\'s word comes first, and it is "8".\n'
    )
    (told,) = desk.json("conflicts")["items"]
    assert (told["field"], told["kept"], told["lost"], told["lost_by"]) == ("grade", "8", "7", "this_device")


def test_without_a_database_there_is_nothing_to_tell(tmp_path: Path) -> None:
    result = Desk(tmp_path, list).carrel("queue", "list")
    assert result.exit_code == 1
    assert "nothing was ever recorded" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_by_another_command_is_left_alone(tmp_path: Path) -> None:
    with open_device(tmp_path) as device:
        work(device)
    with locked(tmp_path):
        assert Desk(tmp_path, list).carrel("queue", "retry", "--all").exit_code == AlreadyRunning.exit_code


@pytest.mark.parametrize("code", Rejection)
def test_there_is_advice_for_every_reason_of_a_refusal(code: Rejection) -> None:
    assert code in _HELP
    assert help_for(code) == _HELP[code]
    assert help_for("a reason of a newer server")
