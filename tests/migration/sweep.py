"""Runs the daemon's self-upgrade again and again, dying each time a little later, and finishes it each time. A program of its own:
it forks, which a test process with threads must not.

    python -m tests.migration.sweep BASE FOLDER events            dies before the 1st, 2nd, … statement, fsync, rename and unlink
    python -m tests.migration.sweep BASE FOLDER failing           the same, with files of which the last fails, every time
    python -m tests.migration.sweep BASE FOLDER times COUNT SEED  dies at random moments

BASE is a closed database, FOLDER holds the migration files. Prints one JSON object: {"deaths", "begin": the picture of BASE, "ends":
[distinct final pictures]}.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from daemon import upgrade
from daemon.process import logs
from domain.errors import SchemaError
from migrations import current, runner
from migrations.backup import PARTIAL, backups_of
from migrations.begun import note_path
from migrations.files import files_in

EVENTS_MAX = 1_000
Arm = Callable[[], None]


def main(base: Path, folder: Path, how: str, *rest: str) -> None:
    files = files_in(folder)
    runner.shipped_files = current.shipped_files = lambda kind: files  # type: ignore[attr-defined]
    ends: list[str] = []
    deaths = 0
    expected = SchemaError.exit_code if how == "failing" else 0
    for arm in _deaths_by_time(base, int(rest[0]), int(rest[1])) if how == "times" else _deaths_by_event():
        with tempfile.TemporaryDirectory() as work:
            path = Path(shutil.copy(base, work))
            died = _in_child(path, arm, expected)
            deaths += died
            _demand(not _in_child(path, lambda: None, expected), "the next start did not finish")
            _demand_tidy(path)
            ends.append(_picture(path))
        if not died and how != "times":
            break
    print(json.dumps({"deaths": deaths, "begin": _picture(base), "ends": sorted(set(ends))}))


def _in_child(path: Path, arm: Arm, expected: int = 0) -> bool:
    """Whether the upgrade died; any exit code but the one expected ends this program."""
    pid = os.fork()
    if pid == 0:
        sys.argv = ["upgrade", str(path), *logs.settings_in_force()]
        report = io.StringIO()
        arm()
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(report):
            code = upgrade.main()
        signal.setitimer(signal.ITIMER_REAL, 0)
        if code != expected:
            sys.stderr.write(report.getvalue())
        os._exit(code)
    status = os.waitpid(pid, 0)[1]
    if os.WIFSIGNALED(status):
        return True
    _demand(os.WEXITSTATUS(status) == expected, f"exit code {os.WEXITSTATUS(status)}")
    return False


def _deaths_by_event() -> Iterator[Arm]:
    for number in range(1, EVENTS_MAX):
        yield lambda number=number: _die_at_event(number)  # type: ignore[misc]


def _die_at_event(number: int) -> None:
    left = number

    def event(*_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def before(function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            event()
            return function(*arguments, **options)

        return wrapped

    connect = sqlite3.connect

    def traced(*arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = connect(*arguments, **options)
        connection.set_trace_callback(event)
        return connection

    sqlite3.connect = traced  # type: ignore[assignment]
    os.fsync = before(os.fsync)
    os.rename = before(os.rename)
    os.unlink = before(os.unlink)


def _deaths_by_time(base: Path, count: int, seed: int) -> Iterator[Arm]:
    with tempfile.TemporaryDirectory() as work:
        started_s = time.monotonic()
        _in_child(Path(shutil.copy(base, work)), lambda: None)
        longest_s = time.monotonic() - started_s
    random.seed(seed)
    for _ in range(count):
        after_s = random.uniform(0.0005, longest_s)
        # Unhandled, SIGALRM ends the process wherever it is, like SIGKILL.
        yield lambda after_s=after_s: signal.setitimer(signal.ITIMER_REAL, after_s)  # type: ignore[misc]


def _demand_tidy(path: Path) -> None:
    backups = backups_of(path)
    _demand(1 <= len(backups) <= 3, f"{len(backups)} backups")
    _demand(not [file for file in path.parent.iterdir() if PARTIAL in file.name], "a partial file was left")
    _demand(not note_path(path).exists(), "the note of the upgrade was left")


def _picture(path: Path) -> str:
    with closing(sqlite3.connect(path)) as connection:
        _demand(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)], "damaged")
        schema = connection.execute("SELECT name, coalesce(sql, '') FROM sqlite_master ORDER BY 1").fetchall()
        names = [name for name, sql in schema if sql.startswith("CREATE TABLE") and name != "migration_history"]
        rows = {name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}"))) for name in names}
        history = connection.execute("SELECT name FROM migration_history ORDER BY id").fetchall()
    return json.dumps({"schema": schema, "rows": rows, "history": history}, sort_keys=True)


def _demand(holds: bool, what: str) -> None:
    if not holds:
        sys.exit(f"sweep: {what}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
