"""The units and property lists in systemd/: valid, closed, and in agreement with the programs that they start."""

from __future__ import annotations

import configparser
import os
import plistlib
import re
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest

import cloud_api.cli
import daemon.cli
from cloud_api.config import CONFIG_VARIABLE as CLOUD_CONFIG_VARIABLE
from cloud_api.config import DATABASE_URL_VARIABLE, CloudConfig
from daemon import service
from daemon.api.listeners import OTHER
from daemon.config import CONFIG_VARIABLE, SYSTEM_CONFIG, DeviceSettings, load_config
from daemon.installation.layout import ROLES
from domain.settings import settings_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "systemd"
UNITS = ("carrel.service", "carrel-cloud.service", "carrel-user.service")
SYSTEM_UNITS = UNITS[:2]
# Started by timers, and done in a while.
ONE_SHOTS = (
    "carrel-backup.service",
    *(f"carrel-cloud-{duty}.service" for duty in ("backup", "tidy", "snapshot", "refit")),
)
SERVICES = (*UNITS, *ONE_SHOTS)
TIMERS = tuple(unit.replace(".service", ".timer") for unit in ONE_SHOTS)
SOCKETS = ("carrel.socket",)
PROPERTY_LISTS = ("school.carrel.daemon.plist", "school.carrel.agent.plist")
BACKUP_LIST = "school.carrel.backup.plist"
EVERY_LIST = (*PROPERTY_LISTS, BACKUP_LIST)
PREFIX = "/opt/carrel/bin/"
# systemd-analyze's own measure, 0 (nothing is left to take away) to 10; the gate is given in tenths.
EXPOSURE_TENTHS_MAX = 15
COMMAND_TIMEOUT_S = 60
PROGRAMS: dict[str, click.Command] = {"carrel": daemon.cli.main, "carrel-cloud": cloud_api.cli.main}

needs_analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
each_unit = pytest.mark.parametrize("unit", UNITS)
each_service = pytest.mark.parametrize("unit", SERVICES)
each_list = pytest.mark.parametrize("name", PROPERTY_LISTS)
every_list = pytest.mark.parametrize("name", EVERY_LIST)


def directives(unit: str) -> list[tuple[str, str]]:
    """(key, value) of every assignment, in order."""
    lines = (FOLDER / unit).read_text("utf-8").splitlines()
    return [(key, value) for key, equals, value in (line.partition("=") for line in lines if not line.startswith(("#", "["))) if equals]


def values(unit: str, key: str) -> list[str]:
    return [value for name, value in directives(unit) if name == key]


def value(unit: str, key: str) -> str:
    [found] = values(unit, key)
    return found


def seconds(text: str) -> float:
    """A time span of systemd in one unit, such as `30s`, `15min` or `1h`."""
    match = re.fullmatch(r"(\d+)(s|min|h)", text)
    assert match, text
    return int(match[1]) * {"s": 1, "min": 60, "h": 3600}[match[2]]


def environment(unit: str) -> dict[str, str]:
    """What the unit sets, with the specifiers of the system's service manager resolved."""
    pairs = (text.partition("=") for text in values(unit, "Environment"))
    return {name: text.replace("%S", "/var/lib").replace("%E", "/etc") for name, _, text in pairs}


def property_list(name: str) -> dict[str, Any]:
    with (FOLDER / "launchd" / name).open("rb") as file:
        found = plistlib.load(file)
    assert isinstance(found, dict)
    return found


def test_every_unit_and_property_list_is_tested() -> None:
    assert {path.name for path in FOLDER.iterdir() if path.suffix in (".service", ".socket", ".timer")} == {*SERVICES, *SOCKETS, *TIMERS}
    assert {path.name for path in (FOLDER / "launchd").iterdir()} == set(EVERY_LIST)


def test_every_unit_of_a_role_is_installed_and_every_system_unit_has_a_role() -> None:
    installed = [unit for role in ROLES.values() for unit in role.units]
    assert sorted(installed) == sorted({*SERVICES, *SOCKETS, *TIMERS} - {"carrel-user.service"})
    for role in ROLES.values():
        assert set(role.start) <= set(role.units)
        assert value(role.main_unit, "User") == role.account


# --- systemd's own judgement


def analyse(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """systemd-analyze, with a runtime folder such as a session has."""
    environ = os.environ | {"XDG_RUNTIME_DIR": str(folder), "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)


def placed(unit: str, text: str, folder: Path) -> str:
    """The unit's file in a folder where the programs that it starts are to be found, as after an installation."""
    for program in PROGRAMS:
        (folder / program).touch(mode=0o755)
    path = folder / unit
    path.write_text(text.replace(PREFIX, f"{folder}/"))
    for other in (*SERVICES, *SOCKETS):  # which the unit may name
        if other != unit:
            (folder / other).write_text((FOLDER / other).read_text("utf-8").replace(PREFIX, f"{folder}/"))
    return str(path)


def verify(unit: str, text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    manager = "--user" if unit == "carrel-user.service" else "--system"
    return analyse(folder, "verify", manager, "--man=no", "--recursive-errors=yes", placed(unit, text, folder))


@needs_analyze
@pytest.mark.parametrize("unit", [*SERVICES, *SOCKETS, *TIMERS])
def test_systemd_finds_nothing_to_say_about_the_unit(unit: str, tmp_path: Path) -> None:
    done = verify(unit, (FOLDER / unit).read_text("utf-8"), tmp_path)
    # What it says of [::1] on a machine whose kernel has no IPv6; it then leaves that line out.
    said = done.stderr.replace("Binding to IPv6 address not available since kernel does not support IPv6.\n", "")
    assert (done.stdout, said, done.returncode) == ("", "", 0)


@needs_analyze
@each_unit
def test_a_misspelt_line_would_be_found(unit: str, tmp_path: Path) -> None:
    text = (FOLDER / unit).read_text("utf-8").replace("NoNewPrivileges=", "NoNewPrivilege=")
    assert "NoNewPrivilege" in verify(unit, text, tmp_path).stderr


@needs_analyze
@pytest.mark.parametrize("unit", [*SYSTEM_UNITS, *ONE_SHOTS])
def test_the_unit_is_exposed_no_more_than_it_must_be(unit: str, tmp_path: Path) -> None:
    path = placed(unit, (FOLDER / unit).read_text("utf-8"), tmp_path)
    done = analyse(tmp_path, "security", "--offline=true", f"--threshold={EXPOSURE_TENTHS_MAX}", "--no-pager", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="needs systemd-sysusers")
@pytest.mark.parametrize("unit", SYSTEM_UNITS)
def test_the_account_is_one_that_the_folder_can_make(unit: str, tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    source = FOLDER / unit.replace(".service", ".sysusers.conf")
    command = ["systemd-sysusers", f"--root={tmp_path}", "--replace=/usr/lib/sysusers.d/carrel.conf", "-"]
    done = subprocess.run(command, input=source.read_text(), capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    assert done.returncode == 0, done.stderr
    accounts = {line.split(":")[0]: line.split(":") for line in (tmp_path / "etc" / "passwd").read_text().splitlines()}
    _, _, _, _, _, home, shell = accounts[value(unit, "User")]
    assert shell.endswith("/nologin")
    assert home == {"carrel": "/var/lib/carrel"}.get(value(unit, "User"), "/")


# --- agreement with the programs


def console_scripts() -> set[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return {line.partition("=")[0].strip() for line in config["options.entry_points"]["console_scripts"].strip().splitlines()}


def demand_command(words: list[str]) -> None:
    """Fails unless these words start a program that is installed, with a command that it has."""
    path, command, *arguments = words
    assert path.startswith(PREFIX)
    program = path.removeprefix(PREFIX)
    assert program in console_scripts()
    main = PROGRAMS[program]
    assert isinstance(main, click.Group)
    named = main.commands[command]
    if isinstance(named, click.Group):
        named = named.commands[arguments.pop(0)]
    known = {option for parameter in named.params for option in parameter.opts}
    assert {argument for argument in arguments if argument.startswith("--")} <= known


@each_service
def test_the_unit_starts_a_command_that_exists(unit: str) -> None:
    demand_command(value(unit, "ExecStart").split())


@every_list
def test_the_property_list_starts_a_command_that_exists(name: str) -> None:
    demand_command(property_list(name)["ProgramArguments"])


def known_variables(program: str) -> set[str]:
    if program == "carrel-cloud":
        return {CLOUD_CONFIG_VARIABLE, DATABASE_URL_VARIABLE} | {s.variable for s in settings_of(CloudConfig, "cloud")}
    return {CONFIG_VARIABLE} | {s.variable for s in settings_of(DeviceSettings, "device")}


@each_service
def test_the_program_reads_every_variable_that_the_unit_sets(unit: str) -> None:
    assert environment(unit).keys() <= known_variables(Path(value(unit, "ExecStart").split()[0]).name)


@every_list
def test_the_program_reads_every_variable_that_the_property_list_sets(name: str) -> None:
    assert property_list(name).get("EnvironmentVariables", {}).keys() <= known_variables("carrel")


def in_effect(environ: Mapping[str, str]) -> Path:
    """The state folder that a daemon uses with these variables, when the file that they name is empty."""
    return load_config(None, {k: v for k, v in environ.items() if k != CONFIG_VARIABLE}).state_dir


def test_the_daemons_state_is_in_the_folder_that_systemd_makes_for_it() -> None:
    found = environment("carrel.service")
    assert found[CONFIG_VARIABLE] == str(SYSTEM_CONFIG)
    assert in_effect(found) == Path("/var/lib") / value("carrel.service", "StateDirectory")
    assert value("carrel.service", "StateDirectoryMode") == "0700"


def test_the_daemons_state_under_macos_is_in_the_folder_that_the_page_makes() -> None:
    found = property_list("school.carrel.daemon.plist")["EnvironmentVariables"]
    assert found[CONFIG_VARIABLE] == str(SYSTEM_CONFIG)
    assert f"'{in_effect(found)}'" in (FOLDER / "README.md").read_text("utf-8")


@pytest.mark.parametrize("unit", ["carrel.service", "carrel-user.service"])
def test_the_watchdog_has_more_patience_than_the_daemon_needs(unit: str) -> None:
    # A ping may be late by whatever keeps the main thread from running: a slow disk, a machine that swaps.
    assert seconds(value(unit, "WatchdogSec")) >= 5 * service.HEALTH_CHECK_S


@pytest.mark.parametrize("unit", ["carrel.service", "carrel-user.service"])
def test_the_daemon_has_the_time_that_its_stop_takes(unit: str) -> None:
    assert seconds(value(unit, "TimeoutStopSec")) > 2 * (service.SERVER_STOP_S + service.JOBS_STOP_S + service.THREADS_STOP_S)


def test_the_server_has_the_time_that_its_stop_takes() -> None:
    assert seconds(value("carrel-cloud.service", "TimeoutStopSec")) > CloudConfig().server.graceful_stop_s


@each_unit
def test_what_may_pass_is_tried_again_for_ever_and_wrong_configuration_is_not(unit: str) -> None:
    assert value(unit, "StartLimitIntervalSec") == "0"
    assert value(unit, "Restart") == "on-failure"
    assert seconds(value(unit, "RestartSec")) >= 1
    assert value(unit, "RestartPreventExitStatus") == "2"
    # docs/errors.md, "Exit codes"
    assert "| 2 | wrong input or configuration |" in (ROOT / "docs" / "errors.md").read_text("utf-8")


@pytest.mark.parametrize("unit", [*SYSTEM_UNITS, *ONE_SHOTS])
def test_nothing_is_written_that_other_accounts_may_read(unit: str) -> None:
    assert value(unit, "UMask") == "0077"
    assert value(unit, "LimitCORE") == "0"


@pytest.mark.parametrize("unit", [*SYSTEM_UNITS, *ONE_SHOTS])
def test_peers_keep_their_accounts(unit: str) -> None:
    assert values(unit, "PrivateUsers") == []


def test_the_daemon_may_ask_which_boot_this_is() -> None:
    # daemon/identity/boot.py: without it, every start of the daemon would count as a boot.
    assert values("carrel.service", "ProcSubset") == []


def test_the_port_that_systemd_owns_is_the_one_that_the_daemon_would_take() -> None:
    api = DeviceSettings().api
    assert values("carrel.socket", "ListenStream") == [f"{api.host}:{api.port}", f"[{OTHER[api.host]}]:{api.port}"]
    # Else the one address would come with the other, and a machine without ::1 would have no socket at all.
    assert [value("carrel.socket", name) for name in ("BindIPv6Only", "FreeBind")] == ["ipv6-only", "yes"]
    assert "carrel.socket" in value("carrel.service", "Requires").split()


def test_the_backup_of_a_device_finds_the_database_of_its_daemon() -> None:
    for key in ("User", "StateDirectory", "StateDirectoryMode", "Environment"):
        assert values("carrel-backup.service", key) == values("carrel.service", key)
    assert values("carrel-backup.service", "PrivateNetwork") == ["yes"]


@pytest.mark.parametrize("unit", ONE_SHOTS[1:])
def test_what_timers_start_finds_the_database_of_the_server(unit: str) -> None:
    for key in ("User", "Environment", "EnvironmentFile"):
        assert values(unit, key) == values("carrel-cloud.service", key)


def test_backups_of_a_server_lie_where_its_unit_may_write() -> None:
    _, _, folder, *_ = value("carrel-cloud-backup.service", "ExecStart").split()
    assert folder.removeprefix("%S/") in value("carrel-cloud-backup.service", "StateDirectory").split()


@pytest.mark.parametrize("unit", TIMERS)
def test_what_a_machine_misses_that_is_off_is_made_up_for_and_not_by_all_at_once(unit: str) -> None:
    assert value(unit, "Persistent") == "yes"
    assert seconds(value(unit, "RandomizedDelaySec")) >= 1800
    assert value(unit, "WantedBy") == "timers.target"


def test_no_unit_holds_a_secret() -> None:
    assert DATABASE_URL_VARIABLE not in environment("carrel-cloud.service")
    assert value("carrel-cloud.service", "EnvironmentFile") == "%E/carrel/cloud.env"  # without "-": it must be there


@each_service
def test_the_page_explains_every_hardening_line(unit: str) -> None:
    page = (FOLDER / "README.md").read_text("utf-8").partition("\n## Hardening\n")[2]
    lines = (FOLDER / unit).read_text("utf-8").partition("\nLimitCORE=0\n")[2].partition("[Install]")[0].splitlines()
    keys = {line.partition("=")[0] for line in lines if line and not line.startswith("#")}
    assert len(keys) > 8
    assert [key for key in sorted(keys) if f"`{key}`" not in page] == []


@pytest.mark.skipif(not hasattr(socket, "SO_PASSCRED"), reason="needs Linux")
def test_the_server_tells_systemd_itself_when_it_listens_and_stops_although_nobody_hears_it(fresh_database: str, tmp_path: Path) -> None:
    """Type=notify with NotifyAccess=main: it is gunicorn that says so, and its main process."""
    assert (value("carrel-cloud.service", "Type"), value("carrel-cloud.service", "NotifyAccess")) == ("notify", "main")
    address = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        manager.settimeout(COMMAND_TIMEOUT_S)
        manager.bind(str(address))
        environ = os.environ | {"NOTIFY_SOCKET": str(address), DATABASE_URL_VARIABLE: fresh_database}
        command = [sys.executable, "-m", "cloud_api.cli", "serve", "--port", "0", "--workers", "1"]
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            message, [(_, _, credentials)], _, _ = manager.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
            with suppress(BlockingIOError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
                other.setblocking(False)
                while other.sendto(b"WATCHDOG=1", str(address)):  # until there is no room for more
                    pass
        finally:
            process.terminate()
            process.wait(COMMAND_TIMEOUT_S)
    assert message.startswith(b"READY=1")
    assert struct.unpack("3i", credentials)[0] == process.pid


# --- launchd, of which no tool on other systems knows the keys

# launchd.plist(5): the keys in use here.
LAUNCHD_KEYS: dict[str, type] = {
    "EnvironmentVariables": dict,
    "ExitTimeOut": int,
    "GroupName": str,
    "HardResourceLimits": dict,
    "InitGroups": bool,
    "KeepAlive": dict,
    "Label": str,
    "LimitLoadToSessionType": str,
    "LowPriorityIO": bool,
    "Nice": int,
    "ProcessType": str,
    "ProgramArguments": list,
    "RunAtLoad": bool,
    "SoftResourceLimits": dict,
    "StandardErrorPath": str,
    "StandardOutPath": str,
    "StartInterval": int,
    "ThrottleInterval": int,
    "Umask": int,
    "UserName": str,
}
LAUNCHD_INNER_KEYS: dict[str, dict[str, type]] = {
    "HardResourceLimits": {"Core": int, "NumberOfFiles": int},
    "KeepAlive": {"SuccessfulExit": bool},
    "SoftResourceLimits": {"Core": int, "NumberOfFiles": int},
}
PROCESS_TYPES = ("Background", "Standard", "Adaptive", "Interactive")


@every_list
def test_launchd_knows_every_key_with_a_value_of_this_type(name: str) -> None:
    found = property_list(name)
    assert {key: type(item) for key, item in found.items()}.items() <= LAUNCHD_KEYS.items()
    for outer, inner in LAUNCHD_INNER_KEYS.items():
        assert {key: type(item) for key, item in found.get(outer, {}).items()}.items() <= inner.items()
    assert found["ProcessType"] in PROCESS_TYPES


@every_list
def test_the_label_is_the_files_name(name: str) -> None:
    assert f"{property_list(name)['Label']}.plist" == name


@each_list
def test_launchd_gives_what_systemd_gives(name: str) -> None:
    unit, found = "carrel.service", property_list(name)
    assert found["Umask"] == int(value(unit, "UMask"), 8)
    assert found["ExitTimeOut"] == seconds(value(unit, "TimeoutStopSec"))
    assert found["KeepAlive"] == {"SuccessfulExit": False}  # Restart=on-failure
    assert found["HardResourceLimits"] == found["SoftResourceLimits"]
    assert found["HardResourceLimits"] == {"Core": int(value(unit, "LimitCORE")), "NumberOfFiles": int(value(unit, "LimitNOFILE"))}


def test_launchd_backs_up_as_systemd_does() -> None:
    unit, found, daemon_list = "carrel-backup.service", property_list(BACKUP_LIST), property_list("school.carrel.daemon.plist")
    assert found["ProgramArguments"] == value(unit, "ExecStart").split()
    assert found["Umask"] == int(value(unit, "UMask"), 8)
    assert found["Nice"] == int(value(unit, "Nice"))
    assert found["LowPriorityIO"] == (value(unit, "IOSchedulingClass") == "idle")
    assert found["HardResourceLimits"] == {"Core": int(value(unit, "LimitCORE")), "NumberOfFiles": int(value(unit, "LimitNOFILE"))}
    assert value("carrel-backup.timer", "OnCalendar") == "hourly"
    assert found["StartInterval"] == 3600
    for key in ("UserName", "GroupName", "InitGroups", "EnvironmentVariables"):
        assert found[key] == daemon_list[key]


def test_only_the_machines_daemon_changes_its_account() -> None:
    machine, session = map(property_list, PROPERTY_LISTS)
    assert machine["UserName"] == machine["GroupName"] == "_carrel"
    assert not session.keys() & {"UserName", "GroupName"}


def test_no_key_that_launchd_needs_is_missing() -> None:
    assert all({"Label", "ProgramArguments"} <= property_list(name).keys() for name in EVERY_LIST)
