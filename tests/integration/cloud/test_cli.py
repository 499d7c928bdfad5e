"""`carrel-cloud` as an administrator uses it."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import urllib3
from click.testing import CliRunner, Result

from cloud_api.cli import main
from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import redeem
from daemon.cli import main as carrel
from domain import content_pack
from domain.clock import SystemClock
from domain.errors import EXIT_INTERRUPTED
from domain.ids import IdSource, dashed
from migrations.cli import main as carrel_migrate
from tests.support.cloud import COURSE

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30

Run = Callable[..., Result]


@pytest.fixture
def run(cloud_database: str) -> Run:
    """Runs a command against this test's database, and checks its exit code."""

    def run_command(*arguments: str, exits: int = 0) -> Result:
        result = CliRunner().invoke(main, arguments, env={"DATABASE_URL": cloud_database})
        assert result.exit_code == exits, result.output
        return result

    return run_command


def _json(result: Result) -> Any:
    return json.loads(result.stdout)


def test_a_school_is_set_up_from_the_terminal(run: Run, tmp_path: Path) -> None:
    school_id = run("school", "create", "Hill School").stdout.strip()
    assert [s["id"] for s in _json(run("school", "list", "--json"))] == [school_id]
    (tmp_path / "roster.csv").write_text("username,display_name,role,class\nkim,Kim,teacher,8b\n")
    run("import", "roster", str(tmp_path / "roster.csv"), "--school", "Hill School")
    run("user", "create", "--school", school_id, "--username", "ada", "--display-name", "Ada", "--class", "8b")
    assert [u["username"] for u in _json(run("user", "list", "--school", "Hill School", "--json"))] == ["ada", "kim"]
    code = run("enrol-code", "create", "--school", "Hill School", "--student", "ada", "--class", "8b", "--uses", "2").stdout.strip()
    assert re.fullmatch(r"([0-9A-HJKMNP-TV-Z]{4}-){2}[0-9A-HJKMNP-TV-Z]{4}", code)
    assert "up to date" in run("status").stdout


def test_a_course_is_imported_and_exported(run: Run, tmp_path: Path) -> None:
    run("school", "create", "Hill School")
    arguments = ("import", "course", str(COURSE), "--school", "Hill School")
    assert "dry run" in run(*arguments, "--dry-run").stdout
    assert _json(run(*arguments, "--json"))["feed_last"] == 827
    assert "Nothing to change" in run(*arguments).stdout
    run("content", "export", str(tmp_path / "algebra"), "--school", "Hill School")
    (path,) = tmp_path.iterdir()
    assert path.name == "algebra.carrel-content"
    assert content_pack.decode(path.read_bytes()).tables["questions"].n == 544


def test_problems_of_an_import_are_printed_with_file_and_line(run: Run, tmp_path: Path) -> None:
    run("school", "create", "Hill School")
    (tmp_path / "topics.csv").write_text("topic_id,parent_id,title\na,b,A\n")
    result = run("import", "course", str(tmp_path), "--school", "Hill School", exits=2)
    assert "topics.csv:2: " in result.stderr
    assert "Traceback" not in result.output


def test_a_folder_whose_files_are_called_otherwise_is_told_how_to_name_them(run: Run, tmp_path: Path) -> None:
    run("school", "create", "Hill School")
    (tmp_path / "syllabus.csv").write_text("topic_id,title\nt,Topic\n")
    assert "--topics" in run("import", "course", str(tmp_path), "--school", "Hill School", exits=2).stderr
    run("import", "course", str(tmp_path), "--topics", str(tmp_path / "syllabus.csv"), "--school", "Hill School")


def test_a_device_is_listed_and_revoked(run: Run, cloud_database: str) -> None:
    run("school", "create", "Hill School")
    run("user", "create", "--school", "Hill School", "--username", "ada", "--display-name", "Ada")
    code = _json(run("enrol-code", "create", "--school", "Hill School", "--student", "ADA", "--json"))["code"]
    database = CloudDatabase(cloud_database)
    with database.transaction() as cursor:
        device = redeem(cursor, IdSource(SystemClock().now_ms), code, "Desk 7", "", SystemClock().now_ms())
    database.close()
    assert run("device", "list", "--school", "Hill School").output.endswith("  student ada\n"), "as `device end-grant` wants it named"
    run("device", "revoke", "--school", "Hill School", dashed(device.id))
    (listed,) = _json(run("device", "list", "--school", "Hill School", "--json"))
    assert listed["id"] == device.id and listed["revoked_at_ms"] and not listed["grants"]
    run("device", "revoke", "--school", "Hill School", "not-an-id", exits=1)


@pytest.mark.parametrize(
    ("arguments", "exit_code"),
    [
        (("school", "create", " "), 2),
        (("user", "list", "--school", "Nowhere"), 1),
        (("enrol-code", "create", "--school", "Nowhere", "--student", "ada"), 1),
        (("school", "list", "--database-url", "mysql://x"), 2),
        (("school", "list", "--database-url", "postgresql://nobody@127.0.0.1:1/none"), 5),
        (("frobnicate",), 2),
    ],
)
def test_an_error_ends_with_its_exit_code_and_without_a_traceback(run: Run, arguments: tuple[str, ...], exit_code: int) -> None:
    result = run(*arguments, exits=exit_code)
    assert result.stderr and not result.stdout
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("command", "where"),
    [
        (main, "cloud_api.schools.list_schools"),
        (carrel, "daemon.commands.site.Settings.load"),
        (carrel_migrate, "migrations.commands.databases.Databases.chosen"),
    ],
)
def test_ctrl_c_ends_every_command_as_shells_say_it(
    cloud_database: str, monkeypatch: pytest.MonkeyPatch, command: click.Group, where: str
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    special: dict[click.Group, list[str]] = {main: ["school", "list"], carrel: ["config", "show"]}
    arguments = special.get(command, ["current"])
    result = CliRunner().invoke(command, arguments, env={"DATABASE_URL": cloud_database})
    assert (result.exit_code, result.stdout) == (EXIT_INTERRUPTED, "")
    assert "Interrupted" in result.stderr


@pytest.mark.parametrize("command", [main, carrel, carrel_migrate])
def test_every_program_says_its_version(command: click.Group) -> None:
    result = CliRunner().invoke(command, ["--version"])
    assert re.fullmatch(r"carrel[a-z-]*, version [0-9.]+\n", result.stdout), result.output


def test_what_was_written_down_is_shown_newest_first_of_one_school_one_person_and_one_action(run: Run) -> None:
    for school in ("Hill School", "Other School"):
        run("school", "create", school)
    create = ("user", "create", "--school", "Hill School", "--display-name", "Somebody", "--username")
    ada, ben = (run(*create, name).stdout.strip() for name in ("ada", "ben"))
    run("enrol-code", "create", "--school", "Hill School", "--student", "ada")
    listed = ("audit", "list", "--school", "Hill School")
    assert [e["action"] for e in _json(run(*listed, "--json"))] == ["enrolment_code.created", "user.created", "user.created"]
    assert [e["subject"] for e in _json(run(*listed, "--action", "user.created", "--json"))] == [ben, ada]
    assert [e["subject"] for e in _json(run(*listed, "--about", dashed(ada), "--json"))] == [ada]
    assert len(run(*listed, "--limit", "1").stdout.splitlines()) == 1
    assert ada in run(*listed).stdout and "operator" in run(*listed).stdout and "Somebody" not in run(*listed).stdout
    assert run("audit", "list", "--school", "Other School").stdout == "no entries\n"
    run(*listed, "--about", "ada", exits=1)


def test_a_name_that_is_taken_is_refused(run: Run) -> None:
    run("school", "create", "Hill School")
    run("school", "create", "Hill School", exits=1)
    create = ("user", "create", "--school", "Hill School", "--display-name", "Ada")
    run(*create, "--username", "ada")
    assert "taken" in run(*create, "--username", "ADA", exits=1).stderr


def test_a_database_without_the_schema_says_what_to_run(fresh_database: str) -> None:
    result = CliRunner().invoke(main, ["status"], env={"DATABASE_URL": fresh_database})
    assert (result.exit_code, "carrel-migrate" in result.stderr) == (4, True)


def test_without_a_database_the_command_says_how_to_name_one() -> None:
    result = CliRunner().invoke(main, ["status"], env={"DATABASE_URL": ""})
    assert (result.exit_code, "DATABASE_URL" in result.stderr) == (2, True)


def _commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(command, click.Group):
        for name, sub in command.commands.items():
            yield from _commands(sub, (*path, name))
    else:
        yield path


@pytest.mark.parametrize("path", list(_commands(main)), ids=" ".join)
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...]) -> None:
    result = CliRunner().invoke(main, [*path, "--help"])
    assert result.exit_code == 0
    assert f"carrel-cloud {' '.join(path)}" in result.stdout


def test_serve_migrates_prints_its_address_answers_and_stops_in_order(fresh_database: str) -> None:
    command = [sys.executable, "-m", "cloud_api.cli", "serve", "--port", "0", "--workers", "1"]
    process = subprocess.Popen(
        command, env=os.environ | {"DATABASE_URL": fresh_database}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert select.select([process.stdout], [], [], START_TIMEOUT_S)[0], "the server never said where it listens"
        line = process.stdout.readline()
        url = line.split()[-1]
        with urllib3.PoolManager() as http:
            answer = http.request("GET", f"{url}/readyz", timeout=START_TIMEOUT_S)
            assert (answer.status, answer.json()["status"]) == (200, "ready")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=STOP_TIMEOUT_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()
    assert process.returncode == 0
    assert "applied 0001_initial" in errors
    assert "Traceback" not in errors


def test_serve_refuses_a_database_that_it_may_not_migrate(fresh_database: str) -> None:
    result = CliRunner().invoke(main, ["serve", "--no-migrate", "--port", "0"], env={"DATABASE_URL": fresh_database})
    assert result.exit_code == 4
