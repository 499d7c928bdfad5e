"""carrel.service under a real systemd, on a machine that boots for it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from domain.errors import NotEnrolled
from tests.support.booted import Machine, booted, why_not

MISSING = why_not()
pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
UNIT = "carrel.service"
STOP_MAX_S = 3.0


@pytest.fixture(scope="module")
def booted_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    with booted(tmp_path_factory.mktemp("booted")) as running:
        yield running


@pytest.fixture
def machine(booted_machine: Machine) -> Machine:
    """A machine on which the daemon has said that it is ready: only then does the start of such a unit succeed."""
    booted_machine.run("systemctl", "start", UNIT)
    return booted_machine


def status(machine: Machine) -> str:
    """The state of sync that the daemon's account is told by the running daemon."""
    done = machine.run_as("carrel", "/opt/carrel/bin/carrel", "status", "--json")
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
    assert as_the_daemon(machine, "cat", "/proc/sys/kernel/random/boot_id")[0] == 0  # daemon/boot.py
    assert as_the_daemon(machine, "cat", "/home/ada/diary")[0] != 0
    assert as_the_daemon(machine, "cat", "/tmp/note")[0] != 0
    code, said = as_the_daemon(machine, "touch", "/var/lib/other/file")
    assert (code, "Read-only file system" in said) == (1, True)


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
