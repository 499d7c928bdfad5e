"""`carrel doctor` on devices of which something is wrong: each fault is found, with what helps, and what is safe is put right."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from daemon.backups.kept import PARTIAL_KEPT_MS, WORK_SUFFIX
from daemon.cli import main
from daemon.config import DATABASE_NAME, load_config
from daemon.doctor import files
from daemon.doctor.examination import examine_device
from daemon.identity.device import TOKEN_FILE
from domain.clock import SystemClock
from domain.findings import EXIT_ERRORS, EXIT_WARNINGS, Finding, Severity, fix
from migrations import begun
from migrations.backup import MB
from migrations.history import HISTORY_TABLE
from tests.support.damage import blank_one_leaf, overwritten
from tests.support.device import DAY_MS, seeded_database

CLOCK = SystemClock()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The state folder of a device that is well, but for its daemon, which does not run."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    os.rename(seeded_database(state), state / DATABASE_NAME)
    (state / DATABASE_NAME).chmod(0o600)
    for name in (TOKEN_FILE,):
        (state / name).touch(0o600)
    yield state


def examined(folder: Path, **variables: str) -> list[Finding]:
    environ = {"CARREL_DEVICE_STATE_DIR": str(folder)} | variables
    return examine_device(None, environ, CLOCK, network=False)


def wrong(folder: Path, **variables: str) -> dict[str, Finding]:
    """Check -> the worst that it found, the daemon and the backup aside, which the fixture has none of."""
    order = list(Severity)
    found: dict[str, Finding] = {}
    for one in examined(folder, **variables):
        if one.severity is not Severity.OK and one.check not in ("service", "backups"):
            found[one.check] = max(found.get(one.check, one), one, key=lambda finding: order.index(finding.severity))
    return found


def sql(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as conn, conn:
        for statement in statements:
            conn.execute(statement)


def pending(age_ms: int = 0, state: str = "pending") -> str:
    columns = "op_id, table_name, row_id, kind, schema_version, hlc, wall_ms, mono_ms, boot_no, payload, state"
    values = f"lower(hex(randomblob(16))), 'question_attempts', 'x', 'insert', 1, 0, {CLOCK.now_ms() - age_ms}, 0, 1, '{{}}', '{state}'"
    return f"INSERT INTO sync_operations ({columns}) VALUES ({values})"


BOOT = "INSERT OR IGNORE INTO boots (boot_no, boot_id) VALUES (1, 'a')"
NEWER = f"INSERT INTO {HISTORY_TABLE} (name, checksum, applied_at_ms, duration_ms, app_version) VALUES ('9999_x', 'x', 1, 1, '9.9')"


def test_a_device_that_is_well_but_not_running_has_that_one_fault_and_no_backup(folder: Path) -> None:
    assert wrong(folder) == {}
    severities = {one.check: one.severity for one in examined(folder) if one.severity is not Severity.OK}
    assert severities == {"service": Severity.ERROR, "backups": Severity.WARNING}


FAULTS: dict[str, tuple[Callable[[Path], object], str, Severity, str]] = {
    "open to others": (lambda f: (f / DATABASE_NAME).chmod(0o644), "permissions", Severity.ERROR, "--fix"),
    "an open folder": (lambda f: f.chmod(0o755), "permissions", Severity.ERROR, "--fix"),
    "a damaged page": (lambda f: blank_many(f), "integrity", Severity.ERROR, "restart the daemon"),
    "no database any more": (lambda f: overwritten(0, b"x" * 100)(f / DATABASE_NAME), "schema", Severity.ERROR, ""),
    "a newer schema": (lambda f: sql(f, NEWER), "schema", Severity.ERROR, ""),
    "a broken off upgrade": (lambda f: begun.remember(f / DATABASE_NAME, begun.Begun("b", None, 7)), "schema", Severity.WARNING, "start"),
    "no token": (lambda f: (f / TOKEN_FILE).unlink(), "enrolment", Severity.ERROR, "new code"),
    "no school": (lambda f: sql(f, "DELETE FROM identity"), "enrolment", Severity.WARNING, "carrel enrol"),
    "unsent for long": (lambda f: sql(f, BOOT, pending(30 * DAY_MS)), "queue", Severity.WARNING, "carrel bundle export"),
    "unsent since now": (lambda f: sql(f, BOOT, pending()), "queue", Severity.NOTE, ""),
    "refused": (lambda f: sql(f, BOOT, pending(state="rejected")), "queue", Severity.WARNING, "carrel queue list"),
    "a clock that is behind": (
        lambda f: sql(f, BOOT, pending(state="synced"), f"UPDATE sync_operations SET settled_at_ms = {CLOCK.now_ms() + DAY_MS}"),
        "clock", Severity.ERROR, "set the clock",
    ),
    "a restore that was killed": (lambda f: (f / (DATABASE_NAME + WORK_SUFFIX)).mkdir(mode=0o700), "leftovers", Severity.WARNING, "--fix"),
    "files never finished": (lambda f: old_partial(f), "leftovers", Severity.WARNING, "--fix"),
    "a file that was set aside": (lambda f: (f / f"{DATABASE_NAME}.damaged-1").touch(0o600), "leftovers", Severity.NOTE, "delete it"),
}  # fmt: skip


def blank_many(folder: Path) -> None:
    sql(folder, BOOT, *(pending() for _ in range(400)), 'UPDATE sync_operations SET payload = \'{"purpose":"free"}\'')
    with closing(sqlite3.connect(folder / DATABASE_NAME)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    blank_one_leaf(folder / DATABASE_NAME)


def old_partial(folder: Path) -> None:
    path = folder / f"{DATABASE_NAME}.0001_initial.20260131T065900123Z.backup.partial"
    path.touch(0o600)
    at_s = time.time() - 2 * PARTIAL_KEPT_MS / 1000
    os.utime(path, (at_s, at_s))


@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_wrong_is_found_and_said_with_what_helps(folder: Path, fault: str) -> None:
    make, check, severity, helps = FAULTS[fault]
    make(folder)
    found = wrong(folder)[check]
    assert found.severity is severity
    assert helps in found.remedy


@pytest.mark.parametrize("fault", [name for name, (_, _, _, helps) in FAULTS.items() if helps == "--fix"])
def test_what_is_safe_is_put_right(folder: Path, fault: str) -> None:
    make, check, _, _ = FAULTS[fault]
    make(folder)
    assert check in fix(examined(folder))
    assert check not in wrong(folder)


def test_unfinished_files_of_others_beside_the_backups_are_left_alone(folder: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "film.mkv.partial").touch()
    os.utime(disk / "film.mkv.partial", (0, 0))
    old_partial(disk)
    environ = {"CARREL_DEVICE_STATE_DIR": str(folder), "CARREL_DEVICE_BACKUP_DIR": str(disk)}
    fix(files.leftovers(load_config(None, environ)))
    assert os.listdir(disk) == ["film.mkv.partial"]


def test_what_is_missing_is_looked_for_without_making_it(tmp_path: Path) -> None:
    assert {"permissions", "schema", "enrolment"} <= set(wrong(tmp_path / "nothing"))
    assert not (tmp_path / "nothing").exists()


def test_a_disk_with_little_room_is_a_warning_and_a_full_one_an_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, severity in ((100 * MB, Severity.WARNING), (MB, Severity.ERROR)):
        usage = shutil.disk_usage(folder)._replace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        assert wrong(folder)["disk"].severity is severity


def test_wrong_configuration_is_the_only_finding(folder: Path) -> None:
    (found,) = examined(folder, CARREL_DEVICE_API_PORT="nonsense")
    assert (found.check, found.severity) == ("configuration", Severity.ERROR)


def test_looking_changes_nothing(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    examined(folder)
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    assert {name: after.get(name) for name in before} == before


def test_the_command_says_it_in_json_and_by_its_exit_code(folder: Path) -> None:
    environ = {"CARREL_DEVICE_STATE_DIR": str(folder), "CARREL_CONFIG": str(folder / "none.toml")}
    (folder / "none.toml").touch(0o600)
    done = CliRunner().invoke(main, ["doctor", "--no-network", "--json"], env=environ)
    answer = json.loads(done.stdout)
    assert done.exit_code == EXIT_ERRORS
    assert answer["severity"] == "error"
    done = CliRunner().invoke(main, ["doctor", "--no-network", "--fix"], env=environ)
    assert "put right: backups" in done.stdout
    assert (folder / "backups").is_dir()
    assert EXIT_WARNINGS not in (done.exit_code, 0)
