"""`carrel service install --role server` and what it leaves, under a real systemd, with a PostgreSQL of the machine's own.

The tests build on each other: the first one installs, the last one takes everything away.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daemon.commands.site import EXIT_NOT_RUNNING
from tests.support.booted import FIRST, WHEELS, Machine, booted, why_not
from tests.support.wheels import build_wheel

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
MISSING = why_not() or (None if SERVERS else "needs PostgreSQL of the operating system")
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
UNIT = "carrel-cloud.service"
CARREL = "/opt/carrel/bin/carrel"
STOP_MAX_S = 3.0
READY = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8751/readyz', timeout=30).status)"
BACKUPS = "/var/lib/carrel-cloud/backups"


# A version whose database has a table more.
NEWER_VERSION, NEWER_MIGRATION = "0.2.0", "0002_notes"
MIGRATION = '''"""A table of the next version."""


def migrate(migrator, database, *, fake=False, **kwargs):
    migrator.sql("CREATE TABLE notes (id uuid NOT NULL PRIMARY KEY)")


def rollback(migrator, database, *, fake=False, **kwargs):
    migrator.sql("DROP TABLE notes")
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("booted")


@pytest.fixture
def newer_wheel(folder: Path) -> str:
    """Where the wheel of the next version lies on the machine."""

    def change(source: Path) -> None:
        (source / "migrations" / "cloud" / f"{NEWER_MIGRATION}.py").write_text(MIGRATION)

    wheel = build_wheel(folder, NEWER_VERSION, change, folder / "machine" / WHEELS.relative_to("/"))
    shutil.copy(wheel, folder / "machine" / FIRST.relative_to("/"))
    return f"{FIRST}/{wheel.name}"


@pytest.fixture(scope="module")
def machine(folder: Path) -> Iterator[Machine]:
    with booted(folder) as running:
        start_postgres(running, SERVERS[-1].parent)
        yield running


def start_postgres(machine: Machine, programs: Path) -> None:
    """One with an account and a database as docs/install.md makes them."""
    machine.run("install", "-d", "-o", "nobody", "-m", "0700", "/var/lib/pg")
    done = machine.run_as(
        "nobody", str(programs / "initdb"), "-D", "/var/lib/pg", "-U", "postgres", "--auth=trust", "--no-sync", "--locale=C.UTF-8"
    )
    assert done.returncode == 0, done.stderr
    options = ("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-c", "fsync=off")
    machine.run("systemd-run", "--quiet", "--unit=pg", "--uid=nobody", str(programs / "postgres"), "-D", "/var/lib/pg", *options)
    ask = (str(programs / "psql"), "-h", "127.0.0.1", "-U", "postgres", "-c")
    machine.wait_for(lambda: machine.run(*ask, "SELECT 1", check=False).returncode == 0, "PostgreSQL")
    machine.run(*ask, "CREATE ROLE carrel LOGIN")
    machine.run(*ask, "CREATE DATABASE carrel OWNER carrel")
    machine.run(*ask, "GRANT pg_checkpoint TO carrel")
    machine.run(*ask, "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO carrel", "-d", "carrel")


def install(machine: Machine) -> dict[str, object]:
    [wheel] = machine.run("sh", "-c", f"ls {WHEELS}/carrel-*.whl").stdout.split()
    command = (f"{FIRST}/bin/carrel", "service", "install", "--role", "server", "--json", "--wheel", wheel, "--wheels", str(WHEELS))
    answer = json.loads(machine.run(*command).stdout)
    assert isinstance(answer, dict)
    return answer


def as_the_service(machine: Machine, *command: str) -> str:
    """What a command says that gets account and database as the service does (docs/install.md)."""
    environ = ("-p", "EnvironmentFile=/etc/carrel/cloud.env", "-E", "CARREL_CONFIG=/etc/carrel/config.toml")
    done = machine.run("systemd-run", "--pipe", "--wait", "--quiet", "--uid=carrel-cloud", *environ, *command, check=False)
    return done.stdout


def ready(machine: Machine) -> bool:
    return machine.run(f"{FIRST}/bin/python", "-c", READY, check=False).stdout.strip() == "200"


def wait_for_another(machine: Machine, before: str) -> None:
    machine.wait_for(
        lambda: machine.shown(UNIT, "ActiveState") == "active" and machine.shown(UNIT, "MainPID") not in ("0", before), "the new server"
    )


def test_a_machine_without_a_server_says_so(machine: Machine) -> None:
    """Also the test that waits for the machine to boot."""
    done = machine.run(f"{FIRST}/bin/carrel", "service", "status", "--role", "server", check=False)
    assert (done.returncode, "not installed" in done.stdout) == (EXIT_NOT_RUNNING, True)


def test_an_installed_server_waits_for_the_address_of_its_database(machine: Machine) -> None:
    assert install(machine) == {"role": "server", "version": "0.1.0", "previous": None, "running": False}
    assert machine.run("stat", "-c", "%U %a", "/etc/carrel/cloud.env").stdout.split() == ["root", "600"]


def test_a_server_starts_when_it_has_the_address_and_keeps_it_to_itself(machine: Machine) -> None:
    machine.run("sh", "-c", "echo \"DATABASE_URL='postgresql://carrel@127.0.0.1/carrel'\" >>/etc/carrel/cloud.env")
    assert install(machine)["running"]
    assert ready(machine)
    assert machine.run_as("carrel-cloud", "cat", "/etc/carrel/cloud.env").returncode != 0


def test_its_process_has_no_privilege_left(machine: Machine) -> None:
    text = machine.run("cat", f"/proc/{machine.shown(UNIT, 'MainPID')}/status").stdout
    lines = dict(line.split(":\t", 1) for line in text.splitlines())
    assert [int(lines[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")] == [0, 0, 0, 0]
    assert (lines["NoNewPrivs"], lines["Seccomp"], lines["Umask"]) == ("1", "2", "0077")


def test_the_timers_services_back_up_tidy_and_count_inside_their_sandbox(machine: Machine) -> None:
    machine.run("systemctl", "start", "carrel-cloud-backup.service")
    assert machine.run("find", BACKUPS, "-type", "f", "-printf", "%m %u\\n").stdout.split() == ["600", "carrel-cloud"]
    for duty in ("tidy", "snapshot", "refit"):
        machine.run("systemctl", "start", f"carrel-cloud-{duty}.service")
    for duty in ("backup", "tidy", "snapshot", "refit"):
        assert machine.shown(f"carrel-cloud-{duty}.timer", "ActiveState") == "active"


def test_its_doctor_finds_it_well_but_for_its_name_and_this_tests_postgresql(machine: Machine) -> None:
    answer = json.loads(as_the_service(machine, "/opt/carrel/bin/carrel-cloud", "doctor", "--json"))
    wrong = {one["check"]: one["message"] for one in answer["findings"] if one["severity"] in ("warning", "error")}
    assert set(wrong) == {"listener", "database"}
    assert "names of this machine" in wrong["listener"]
    assert "fsync" in wrong["database"]


def test_a_reload_follows_the_settings_with_new_workers_under_the_same_first_process(machine: Machine) -> None:
    before = machine.shown(UNIT, "MainPID")
    machine.run(
        "sh", "-c", 'cp /etc/carrel/config.toml /run/kept && sed -i \'s/^log_format = "text"/log_format = "json"/\' /etc/carrel/config.toml'
    )
    machine.run("systemctl", "reload", UNIT)
    machine.wait_for(
        lambda: '"the configuration was read again"' in machine.run("journalctl", "--no-pager", "-u", UNIT).stdout, "the reload"
    )
    assert (machine.shown(UNIT, "MainPID"), machine.shown(UNIT, "ActiveState"), ready(machine)) == (before, "active", True)
    machine.run("cp", "/run/kept", "/etc/carrel/config.toml")
    machine.run("systemctl", "reload", UNIT)


@contextmanager
def settings(machine: Machine, *lines: str) -> Iterator[None]:
    """The unit with other settings, started anew with them."""
    drop_in = f"/run/systemd/system/{UNIT}.d"
    text = "\\n".join(("[Service]", *lines, ""))
    machine.run("sh", "-c", f"mkdir -p {drop_in} && printf '{text}' >{drop_in}/test.conf")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", UNIT)
    yield
    machine.run("rm", "-r", drop_in)
    machine.run("systemctl", "daemon-reload")


# In a container systemd may not be told that the last process of a killed unit has gone: it then waits for it as long as for a stop.
SHORT_STOP = "TimeoutStopSec=2s"


def test_a_server_that_is_killed_is_started_again(machine: Machine) -> None:
    with settings(machine, SHORT_STOP):
        before = machine.shown(UNIT, "MainPID")
        machine.run("systemctl", "kill", "-s", "KILL", UNIT)
        wait_for_another(machine, before)
    assert ready(machine)


def test_a_server_whose_first_process_hangs_is_started_again(machine: Machine) -> None:
    with settings(machine, SHORT_STOP, "WatchdogSec=5s", "TimeoutAbortSec=1s", "RestartSec=1s"):
        before = machine.shown(UNIT, "MainPID")
        machine.run("kill", "-STOP", before)
        wait_for_another(machine, before)
    assert ready(machine)


def test_a_server_goes_back_to_the_version_before_on_the_newer_ones_database(machine: Machine, newer_wheel: str) -> None:
    upgrade = (f"{FIRST}/bin/carrel", "service", "install", "--role", "server", "--json", "--wheel", newer_wheel, "--wheels", str(WHEELS))
    assert json.loads(machine.run(*upgrade).stdout) == {"role": "server", "version": NEWER_VERSION, "previous": "0.1.0", "running": True}
    back = json.loads(machine.run(CARREL, "service", "install", "--role", "server", "--previous", "--json").stdout)
    assert (back["version"], back["running"], ready(machine)) == ("0.1.0", True, True)
    said = json.loads(as_the_service(machine, "/opt/carrel/bin/carrel-cloud", "doctor", "--json"))
    [schema] = [one["message"] for one in said["findings"] if one["check"] == "schema"]
    assert f"at {NEWER_MIGRATION}, one step newer" in schema


def test_a_stop_is_orderly_and_short(machine: Machine) -> None:
    machine.run("systemctl", "stop", UNIT)
    assert [machine.shown(UNIT, name) for name in ("ActiveState", "Result", "ExecMainStatus")] == ["inactive", "success", "0"]
    begun_us, ended_us = (int(machine.shown(UNIT, f"{name}TimestampMonotonic")) for name in ("ActiveExit", "InactiveEnter"))
    assert (ended_us - begun_us) / 1e6 < STOP_MAX_S


def test_purging_leaves_nothing_but_the_database(machine: Machine) -> None:
    machine.run(CARREL, "service", "uninstall", "--role", "server", "--purge")
    for path in ("/opt/carrel", "/etc/carrel", "/var/lib/carrel-cloud", "/etc/sysusers.d/carrel-cloud.conf"):
        assert machine.run("ls", path, check=False).returncode != 0
    assert machine.run("id", "carrel-cloud", check=False).returncode != 0
    assert machine.run("systemctl", "list-units", "--all", "--no-legend", "carrel*").stdout == ""
