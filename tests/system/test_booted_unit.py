"""`carrel service install` and what it leaves, under a real systemd, on a machine that boots for it.

The tests build on each other: the first one installs, the last one takes everything away.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.commands.site import EXIT_NOT_RUNNING
from domain.errors import NotEnrolled
from tests.support.booted import FIRST, WHEELS, Machine, booted, why_not
from tests.support.wheels import build_wheel

MISSING = why_not()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
UNIT = "carrel.service"
SOCKET = "carrel.socket"
STOP_MAX_S = 3.0
CARREL = "/opt/carrel/bin/carrel"
# What a machine has of Carrel, besides what an administrator brought along.
TRACES = "find / -xdev \\( -path /opt/first -o -path /opt/wheels -o -path /opt/libraries -o -path /opt/python -o -path /usr -o -path /proc \\) -prune -o -iname '*carrel*' -print"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("booted")


@pytest.fixture(scope="module")
def booted_machine(folder: Path) -> Iterator[Machine]:
    with booted(folder) as running:
        yield running


# A version whose database has a table more.
NEWER_VERSION, NEWER_MIGRATION, NEWER_LINE = "0.2.0", "0002_notes", "# Of the next version.\n"
MIGRATION = '''"""A table of the next version."""


def migrate(migrator, database, *, fake=False, **kwargs):
    migrator.sql("CREATE TABLE notes (id TEXT NOT NULL PRIMARY KEY) STRICT")


def rollback(migrator, database, *, fake=False, **kwargs):
    migrator.sql("DROP TABLE notes")
'''


@pytest.fixture
def newer_wheel(folder: Path) -> str:
    """Where the wheel of the next version lies on the machine."""

    def change(source: Path) -> None:
        (source / "migrations" / "device" / f"{NEWER_MIGRATION}.py").write_text(MIGRATION)
        with (source / "systemd" / UNIT).open("a") as unit:
            unit.write(NEWER_LINE)

    wheel = build_wheel(folder, NEWER_VERSION, change, folder / "machine" / WHEELS.relative_to("/"))
    shutil.copy(wheel, folder / "machine" / FIRST.relative_to("/"))
    return f"{FIRST}/{wheel.name}"


@pytest.fixture
def machine(booted_machine: Machine) -> Machine:
    """A machine on which the daemon has said that it is ready: only then does the start of such a unit succeed."""
    if not booted_machine.run("ls", "/etc/systemd/system/carrel.service", check=False).stdout:
        install(booted_machine)
    booted_machine.run("systemctl", "start", UNIT)
    return booted_machine


def install(machine: Machine, *options: str) -> dict[str, object]:
    """`carrel service install`, as an administrator runs it whose own files nobody else may read."""
    command = (f"{FIRST}/bin/carrel", "service", "install", "--json", *options, *wheel_of(machine))
    done = machine.run("sh", "-c", 'umask 077; exec "$@"', "sh", *command)
    answer = json.loads(done.stdout)
    assert isinstance(answer, dict)
    return answer


def wheel_of(machine: Machine) -> tuple[str, ...]:
    [wheel] = machine.run("sh", "-c", f"ls {WHEELS}/carrel-*.whl").stdout.split()
    return ("--wheel", wheel, "--wheels", str(WHEELS))


def status(machine: Machine) -> str:
    """The state of sync that the daemon's account is told by the running daemon."""
    done = machine.run_as("carrel", CARREL, "status", "--json")
    assert done.returncode == NotEnrolled.exit_code, done.stdout + done.stderr + machine.journal()
    return str(json.loads(done.stdout)["state"])


def wait_for_another(machine: Machine, before: str) -> None:
    """Until a daemon is ready that is not the process `before`."""
    machine.wait_for(
        lambda: machine.shown(UNIT, "ActiveState") == "active" and machine.shown(UNIT, "MainPID") not in ("0", before), "the new daemon"
    )


def as_the_daemon(machine: Machine, *command: str) -> tuple[int, str]:
    """Exit code and output of a command with the daemon's account and its view of the files."""
    ids = [machine.run("id", option, "carrel").stdout.strip() for option in ("-u", "-g")]
    view = ("nsenter", "-t", machine.shown(UNIT, "MainPID"), "-m", "-S", ids[0], "-G", ids[1], "--", *command)
    done = machine.run(*view, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_machine_without_carrel_says_so_and_removing_it_does_nothing(booted_machine: Machine) -> None:
    """Also the test that waits for the machine to boot."""
    done = booted_machine.run(f"{FIRST}/bin/carrel", "service", "status", check=False)
    assert (done.returncode, "not installed" in done.stdout) == (EXIT_NOT_RUNNING, True)
    booted_machine.run(f"{FIRST}/bin/carrel", "service", "uninstall")
    assert booted_machine.run("sh", "-c", TRACES).stdout == ""


def test_installing_makes_a_service_that_runs_and_doing_it_again_changes_nothing(booted_machine: Machine) -> None:
    assert install(booted_machine) == {"role": "device", "version": "0.1.0", "previous": None, "running": True}
    before = booted_machine.shown(UNIT, "MainPID")
    assert install(booted_machine)["running"]
    assert booted_machine.shown(UNIT, "MainPID") == before
    told = json.loads(booted_machine.run(CARREL, "service", "status", "--json").stdout)
    assert {unit: state["ActiveState"] for unit, state in told["units"].items() if unit != "carrel-backup.service"} == {
        UNIT: "active",
        SOCKET: "active",
        "carrel-backup.timer": "active",
    }


def test_the_programs_belong_to_root_and_everybody_may_use_them(machine: Machine) -> None:
    assert machine.run("find", "/opt/carrel", "-not", "-user", "root").stdout == ""
    assert machine.run("find", "/opt/carrel", "-not", "-type", "l", "-perm", "/022").stdout == ""
    assert machine.run_as("nobody", CARREL, "--version").stdout.startswith("carrel")


def test_the_start_succeeds_when_the_daemon_answers(machine: Machine) -> None:
    assert machine.shown(UNIT, "Type") == "notify"
    assert machine.shown(UNIT, "ActiveState") == "active"
    assert status(machine) == "not_enrolled"


def test_the_daemons_process_has_no_privilege_left(machine: Machine) -> None:
    text = machine.run("cat", f"/proc/{machine.shown(UNIT, 'MainPID')}/status").stdout
    lines = dict(line.split(":\t", 1) for line in text.splitlines())
    assert [int(lines[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")] == [0, 0, 0, 0]
    assert (lines["NoNewPrivs"], lines["Seccomp"], lines["Umask"]) == ("1", "2", "0077")
    assert "0" not in lines["Uid"].split()


def test_the_state_folder_belongs_to_the_daemon_alone(machine: Machine) -> None:
    assert machine.run("stat", "-c", "%U:%G %a", "/var/lib/carrel").stdout.strip() == "carrel:carrel 700"
    assert machine.run("find", "/var/lib/carrel", "-perm", "/077").stdout == ""
    assert machine.run_as("nobody", "ls", "/var/lib/carrel").returncode != 0


def test_the_daemon_reads_and_writes_nothing_of_others(machine: Machine) -> None:
    machine.run(
        "sh",
        "-c",
        "mkdir -p /home/ada /var/lib/other && echo answer | tee /home/ada/diary >/tmp/note && chmod -R a+rwX /home /var/lib/other",
    )
    assert as_the_daemon(machine, "cat", "/var/lib/carrel/daemon.json")[0] == 0
    assert as_the_daemon(machine, "cat", "/proc/sys/kernel/random/boot_id")[0] == 0  # daemon/identity/boot.py
    assert as_the_daemon(machine, "cat", "/home/ada/diary")[0] != 0
    assert as_the_daemon(machine, "cat", "/tmp/note")[0] != 0
    code, said = as_the_daemon(machine, "touch", "/var/lib/other/file")
    assert (code, "Read-only file system" in said) == (1, True)


def test_the_port_is_owned_before_the_daemon_is_up_and_whoever_asks_early_is_answered(machine: Machine) -> None:
    machine.run("systemctl", "stop", UNIT)
    assert machine.shown(SOCKET, "ActiveState") == "active"
    for address, family in (("127.0.0.1", "AF_INET"), ("::1", "AF_INET6")):
        take = f"import socket; socket.create_server(('{address}', 8750), family=socket.{family})"
        assert "Address already in use" in machine.run_as("nobody", f"{FIRST}/bin/python", "-c", take).stderr
    assert [asked_by_nobody(machine, host) for host in ("[::1]", "127.0.0.1")] == ["200", "200"]
    assert machine.shown(UNIT, "ActiveState") == "active"


def test_a_machine_without_ipv6_has_its_service_and_one_that_gets_it_later_has_both_addresses(machine: Machine) -> None:
    def turn_off(value: int) -> None:
        machine.run("sh", "-c", f"mount -o remount,rw /proc/sys 2>/dev/null; echo {value} >/proc/sys/net/ipv6/conf/all/disable_ipv6")

    machine.run("systemctl", "stop", SOCKET, UNIT)
    turn_off(1)
    try:
        machine.run("systemctl", "start", SOCKET)
        assert [asked_by_nobody(machine, host) for host in ("127.0.0.1", "[::1]")] == ["200", ""]
    finally:
        turn_off(0)
    machine.run("sh", "-c", "ip -6 address add ::1/128 dev lo 2>/dev/null || true")
    assert asked_by_nobody(machine, "[::1]") == "200"


def asked_by_nobody(machine: Machine, host: str) -> str:
    """The status by which the daemon answers another account at this address; nothing where there is no way."""
    ask = f"import urllib.request; print(urllib.request.urlopen('http://{host}:8750/v1/health', timeout=50).status)"
    return machine.run_as("nobody", f"{FIRST}/bin/python", "-c", ask).stdout.strip()


def test_the_timer_backs_up_what_the_daemon_has_not(machine: Machine) -> None:
    machine.run("sh", "-c", "rm -rf /var/lib/carrel/backups")
    machine.run("systemctl", "start", "carrel-backup.service")
    listed = machine.run("find", "/var/lib/carrel/backups", "-type", "f", "-printf", "%m %u\\n").stdout.splitlines()
    assert listed == ["600 carrel"]
    machine.run("systemctl", "start", "carrel-backup.service")
    assert len(machine.run("ls", "/var/lib/carrel/backups").stdout.split()) == 1
    assert machine.shown("carrel-backup.timer", "NextElapseUSecRealtime") != ""


def test_a_daemon_that_is_killed_is_started_again(machine: Machine) -> None:
    before = machine.shown(UNIT, "MainPID")
    machine.run("systemctl", "kill", "-s", "KILL", UNIT)
    wait_for_another(machine, before)
    assert status(machine) == "not_enrolled"


def test_a_daemon_that_hangs_is_started_again(machine: Machine) -> None:
    """The unit's patience is shortened for this once: half a minute is what a slow disk is given."""
    drop_in = "/run/systemd/system/carrel.service.d"
    machine.run("sh", "-c", f"mkdir -p {drop_in} && printf '[Service]\\nWatchdogSec=5s\\nRestartSec=1s\\n' >{drop_in}/watchdog.conf")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", UNIT)
    before = machine.shown(UNIT, "MainPID")
    machine.run("kill", "-STOP", before)
    wait_for_another(machine, before)
    machine.run("rm", "-r", drop_in)
    machine.run("systemctl", "daemon-reload")
    assert status(machine) == "not_enrolled"


def test_a_stop_is_orderly_and_short(machine: Machine) -> None:
    machine.run("systemctl", "stop", UNIT)
    assert [machine.shown(UNIT, name) for name in ("ActiveState", "Result", "ExecMainStatus")] == ["inactive", "success", "0"]
    begun_us, ended_us = (int(machine.shown(UNIT, f"{name}TimestampMonotonic")) for name in ("ActiveExit", "InactiveEnter"))
    assert (ended_us - begun_us) / 1e6 < STOP_MAX_S
    assert "daemon.json" not in machine.run("ls", "/var/lib/carrel").stdout.split()


def test_wrong_configuration_is_not_tried_again(machine: Machine) -> None:
    machine.run("systemctl", "stop", UNIT)
    machine.run("sh", "-c", "cp /etc/carrel/config.toml /run/kept && printf '[device]\\nnonsense = 1\\n' >/etc/carrel/config.toml")
    try:
        assert machine.run("systemctl", "start", UNIT, check=False).returncode != 0
        assert [machine.shown(UNIT, name) for name in ("ActiveState", "ExecMainStatus", "NRestarts")] == ["failed", "2", "0"]
    finally:
        machine.run("cp", "/run/kept", "/etc/carrel/config.toml")


def test_an_upgrade_can_be_taken_back_and_takes_itself_back_when_it_does_not_start(machine: Machine, newer_wheel: str) -> None:
    """Both in one test: to install a version once takes long enough."""
    upgrade = (CARREL, "service", "install", "--json", "--wheel", newer_wheel, "--wheels", str(WHEELS))
    kept = len(machine.run("ls", "/var/lib/carrel/backups").stdout.split())
    assert json.loads(machine.run(*upgrade).stdout) == {"role": "device", "version": NEWER_VERSION, "previous": "0.1.0", "running": True}
    assert newest_migration(machine) == NEWER_MIGRATION
    assert NEWER_LINE in machine.run("systemctl", "cat", UNIT).stdout, "the program that installs it is of the version before"
    assert len(machine.run("ls", "/var/lib/carrel/backups").stdout.split()) == kept + 1

    back = machine.run(CARREL, "service", "install", "--previous", "--json")
    assert json.loads(back.stdout)["version"] == "0.1.0"
    assert NEWER_LINE not in machine.run("systemctl", "cat", UNIT).stdout
    assert newest_migration(machine) != NEWER_MIGRATION
    assert status(machine) == "not_enrolled"

    spoil = f"sed -i 's/running = service.start()/raise SystemExit(1)/' /opt/carrel/versions/{NEWER_VERSION}-*/lib/python3.*/site-packages/daemon/service.py"
    machine.run("sh", "-c", spoil)
    refused = machine.run(*upgrade, check=False)
    assert refused.returncode == 1
    assert "Version 0.1.0 is in use again" in refused.stderr
    assert newest_migration(machine) != NEWER_MIGRATION, "it had been migrated before it failed"
    assert status(machine) == "not_enrolled"


def newest_migration(machine: Machine) -> str:
    ask = "import sqlite3; print(*sqlite3.connect('/var/lib/carrel/carrel.sqlite3').execute('SELECT max(name) FROM migration_history').fetchone())"
    return machine.run_as("carrel", f"{FIRST}/bin/python", "-c", ask).stdout.strip()


def test_removing_leaves_the_data_and_purging_leaves_nothing(machine: Machine) -> None:
    machine.run(CARREL, "service", "uninstall")
    assert machine.run("ls", "/var/lib/carrel/carrel.sqlite3").stdout
    assert machine.run("systemctl", "cat", UNIT, check=False).returncode != 0
    assert not machine.run("ls", "/opt/carrel", check=False).stdout
    machine.run(f"{FIRST}/bin/carrel", "service", "uninstall", "--purge")
    assert machine.run("sh", "-c", TRACES).stdout == ""
    assert machine.run("id", "carrel", check=False).returncode != 0
    assert machine.run("systemctl", "list-units", "--all", "--no-legend", "carrel*").stdout == ""
