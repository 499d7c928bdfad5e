"""`carrel service install` on a Mac, of which nothing is here but its programs' names: each is a stand-in that notes what it was asked, refuses what
launchctl(1) and dscl(1) do not know, and takes its time as launchd does.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon.installation import environment, launchd
from daemon.installation.environment import MARKER, Source
from daemon.installation.installing import Installed, go_back, install
from daemon.installation.launchd import Launchd
from daemon.installation.layout import Layout
from daemon.installation.removing import uninstall
from daemon.installation.tools import alone
from domain.errors import AlreadyRunning, OperatorError

ROOT = Path(__file__).parents[3]
DAEMON, BACKUP = "school.carrel.daemon", "school.carrel.backup"
PROGRAM = (
    f"#!{sys.executable} -IS\n"
    + """
import json, os, sys
from pathlib import Path

NAME, WORDS, FILE = Path(sys.argv[0]).name, sys.argv[1:], Path("@MAC@")
mac = json.loads(FILE.read_text())
mac["asked"].append([NAME, *WORDS])


def end(code, said=""):
    FILE.write_text(json.dumps(mac))
    print(said)
    sys.exit(code)


def launchctl(verb, *words):
    if verb == "bootstrap":
        domain, path = words
        import plistlib

        label = plistlib.loads(Path(path).read_bytes())["Label"]
        if domain != "system" or Path(path).stem != label or label in mac["loaded"]:
            end(5, "Bootstrap failed: 5: Input/output error")
        mac["loaded"][label] = -1
        end(0)
    if verb not in ("enable", "print", "bootout", "kickstart") or len(words) != 1:
        end(64, "Unrecognized subcommand")
    label = words[0].removeprefix("system/")
    if words[0] != f"system/{label}" or label not in ("school.carrel.daemon", "school.carrel.backup"):
        end(64, "Unrecognized target specifier")
    if verb == "enable":
        end(0)
    if label not in mac["loaded"]:
        end(113 if verb == "print" else 3, "Could not find service")
    if verb == "bootout":  # it is told to end, and is gone when it has
        mac["loaded"][label] = 2
    if verb == "print" and mac["loaded"][label] >= 0:
        mac["loaded"][label] -= 1
        if mac["loaded"][label] < 0:
            del mac["loaded"][label]
    end(0, f"system/{label} = {{\\n\\tstate = {'running' if label.endswith('daemon') else 'not running'}\\n}}")


def dscl(node, verb, path, *words):
    if node != "." or verb not in ("-list", "-create", "-delete"):
        end(64)
    if verb == "-list":
        end(0, "_www      70\\nnobody    -2\\n_taken    400")
    if verb == "-delete":
        mac["accounts"].pop(path)
    elif words:
        mac["accounts"][path][words[0]] = words[1]
    else:
        mac["accounts"][path] = {}
    end(0)


def id(account):
    end(0 if f"/Users/{account}" in mac["accounts"] else 1)


def install(*words):
    assert words[:7] == ("-d", "-o", "_carrel", "-g", "_carrel", "-m", "0700"), words
    Path(words[7]).mkdir(parents=True, exist_ok=True)
    end(0)


def sudo(*words):
    assert words[:3] == ("-n", "-u", "_carrel"), words
    FILE.write_text(json.dumps(mac))
    command = words[words.index("--") + 1 :]
    os.execv(command[0], command)


def carrel(*words):
    assert {"CARREL_CONFIG", "CARREL_DEVICE_STATE_DIR"} <= os.environ.keys()
    version = Path(sys.argv[0]).resolve().parents[1].name
    if words[0] != "status":
        end(0)
    if version in mac["broken"]:
        end(1, "ModuleNotFoundError")
    runs = "school.carrel.daemon" in mac["loaded"]
    end(4 if runs else 7, json.dumps({"running": runs}))


globals()[NAME.replace("carrel-migrate", "carrel")](*WORDS)
"""
)


class Mac:
    """A folder for a machine. `state` is what its programs were asked, and what there is by now."""

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root / "root", is_mac=True)
        self._file, self.programs = root / "mac.json", root / "programs"
        self.programs.mkdir()
        self._write({"asked": [], "loaded": {}, "accounts": {}, "broken": []})
        for name in ("launchctl", "dscl", "id", "install", "sudo"):
            self._program(self.programs / name)

    def version(self, name: str) -> Path:
        """A complete environment."""
        folder = self.layout.versions / name
        (folder / "bin").mkdir(parents=True)
        for program in ("carrel", "carrel-migrate"):
            self._program(folder / "bin" / program)
        self.migrations(folder, "0001_initial")
        shutil.copytree(ROOT / "systemd" / "launchd", folder / "share" / "carrel" / "systemd" / "launchd")
        shutil.copy(ROOT / "config.toml", folder / "share" / "carrel")
        (folder / MARKER).touch()
        return folder

    def migrations(self, version: Path, *names: str) -> None:
        """What the version ships for a device."""
        (version / "bin" / "python").write_text(f"#!/bin/sh\necho {' '.join(names)}\n")
        (version / "bin" / "python").chmod(0o755)

    def spoil(self, version: Path) -> None:
        self._write(self.state | {"broken": [version.name]})

    @property
    def state(self) -> dict[str, Any]:
        return dict(json.loads(self._file.read_text()))

    def forget(self) -> None:
        """What was asked so far."""
        self._write(self.state | {"asked": []})

    def _write(self, state: object) -> None:
        self._file.write_text(json.dumps(state))

    def _program(self, path: Path) -> None:
        path.write_text(PROGRAM.replace("@MAC@", str(self._file)))
        path.chmod(0o755)


@pytest.fixture
def mac(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mac:
    made = Mac(tmp_path)
    path = f"{made.programs}:/usr/bin:/bin"
    monkeypatch.setenv("PATH", path)
    monkeypatch.setattr(os, "defpath", path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(launchd, "POLL_S", 0.01)
    return made


def installed(mac: Mac) -> Path:
    first = mac.version("0.1.0-abc")
    environment.use(mac.layout, first)
    install(mac.layout, mac.layout.device, None, lambda sentence: None)
    return first


def test_a_mac_gets_an_account_its_folders_and_both_lists_and_doing_it_again_changes_nothing(mac: Mac) -> None:
    first = installed(mac)
    assert set(mac.state["loaded"]) == {DAEMON, BACKUP}
    account = mac.state["accounts"]["/Users/_carrel"]
    assert account == {
        "UniqueID": "399", "PrimaryGroupID": "399", "UserShell": "/usr/bin/false", "NFSHomeDirectory": "/var/empty", "IsHidden": "1",
    }  # fmt: skip
    assert sorted(path.name for path in mac.layout.units.iterdir()) == [f"{BACKUP}.plist", f"{DAEMON}.plist"]
    assert f'state_dir = "/{mac.layout.device.state}"' in mac.layout.config.read_text()
    mac.forget()
    again = install(mac.layout, mac.layout.device, None, lambda sentence: None)
    assert (again.running, again.version) == (True, environment.version_of(first))
    asked = mac.state["asked"]
    assert [one for one in asked if one[:2] in (["launchctl", "bootout"], ["launchctl", "bootstrap"], ["dscl", "."])] == []


def test_an_upgrade_backs_up_unloads_waits_until_it_is_gone_and_loads_again(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(mac)
    (mac.layout.state(mac.layout.device) / "carrel.sqlite3").touch()
    second = mac.version("0.2.0-def")
    monkeypatch.setattr(environment, "make_environment", lambda layout, source, extra: second)
    mac.forget()
    done = install(mac.layout, mac.layout.device, Source(Path("carrel-0.2.0-py3-none-any.whl")), lambda sentence: None)
    assert (done.version, done.previous, done.running) == ("0.2.0", "0.1.0", True)
    asked = [one[:2] for one in mac.state["asked"]]
    assert asked.index(["carrel", "backup"]) < asked.index(["launchctl", "bootout"]) < asked.index(["launchctl", "bootstrap"])


def test_an_upgrade_that_does_not_answer_is_taken_back(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(mac)
    second = mac.version("0.2.0-def")
    mac.spoil(second)
    monkeypatch.setattr(environment, "make_environment", lambda layout, source, extra: second)
    monkeypatch.setattr(launchd, "START_MAX_S", 0.2)
    with pytest.raises(OperatorError, match=r"Version 0\.1\.0 is in use again"):
        install(mac.layout, mac.layout.device, Source(Path("carrel-0.2.0-py3-none-any.whl")), lambda sentence: None)
    assert environment.present(mac.layout) == mac.layout.versions / "0.1.0-abc"
    assert set(mac.state["loaded"]) == {DAEMON, BACKUP}


def upgrade(mac: Mac, monkeypatch: pytest.MonkeyPatch, version: Path) -> Installed:
    monkeypatch.setattr(environment, "make_environment", lambda layout, source, extra: version)
    return install(mac.layout, mac.layout.device, Source(Path("carrel-0.2.0-py3-none-any.whl")), lambda sentence: None)


def test_going_back_brings_the_lists_of_before_and_once_more_goes_on_to_the_newer_version(
    mac: Mac, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which migrates by itself; the older one's programs know nothing of its migrations."""
    installed(mac)
    database = mac.layout.root / "another disk.sqlite3"
    database.touch()
    mac.layout.config.write_text(mac.layout.config.read_text().replace('database_path = ""', f'database_path = "{database}"', 1))
    second, unit = mac.version("0.2.0-def"), f"{DAEMON}.plist"
    mac.migrations(second, "0001_initial", "0002_notes")
    of_before = (mac.layout.units / unit).read_text()
    (second / "share" / "carrel" / "systemd" / "launchd" / unit).write_text(of_before + "<!-- newer -->\n")
    upgrade(mac, monkeypatch, second)
    assert (mac.layout.units / unit).read_text().endswith("<!-- newer -->\n")
    for version, downgrades in (("0.1.0", [["downgrade", "0001_initial", "--yes"]]), ("0.2.0", [])):
        mac.forget()
        assert go_back(mac.layout, mac.layout.device, lambda sentence: None).version == version
        assert [one[-3:] for one in mac.state["asked"] if one[0] == "carrel-migrate"] == downgrades
        assert (mac.layout.units / unit).read_text().endswith("<!-- newer -->\n") == (version == "0.2.0")


def test_an_upgrade_that_was_broken_off_is_gone_on_with_and_still_taken_back(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    """The programs were exchanged, and the daemon that runs is still that of before."""
    first, second = installed(mac), mac.version("0.2.0-def")
    with monkeypatch.context() as killed, pytest.raises(KeyboardInterrupt):
        killed.setattr(Launchd, "reload", interrupted)
        upgrade(mac, monkeypatch, second)
    assert environment.present(mac.layout) == second
    mac.spoil(second)
    monkeypatch.setattr(launchd, "START_MAX_S", 0.2)
    with pytest.raises(OperatorError, match=r"Version 0\.1\.0 is in use again"):
        upgrade(mac, monkeypatch, second)
    assert environment.present(mac.layout) == first


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_what_is_stopped_to_go_back_is_started_again_when_somebody_interrupts_it(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(mac)
    environment.use(mac.layout, mac.version("0.2.0-def"))
    monkeypatch.setattr("daemon.installation.installing._take_database_back", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go_back(mac.layout, mac.layout.device, lambda sentence: None)
    assert set(mac.state["loaded"]) == {DAEMON, BACKUP}


def test_a_second_installation_at_the_same_time_is_refused(mac: Mac) -> None:
    installed(mac)
    with alone(mac.layout):
        for change in (
            lambda: install(mac.layout, mac.layout.device, None, lambda sentence: None),
            lambda: go_back(mac.layout, mac.layout.device, lambda sentence: None),
            lambda: uninstall(mac.layout, mac.layout.device, purge=True, even_unsent=True),
        ):
            with pytest.raises(AlreadyRunning):
                change()


def test_what_is_installed_can_be_read_by_its_account_whatever_umask_the_administrator_has(mac: Mac) -> None:
    before = os.umask(0o077)
    try:
        environment.use(mac.layout, mac.version("0.1.0-abc"))
        for folder in (mac.layout.prefix, mac.layout.versions, mac.layout.prefix / "bin"):  # made by this test
            folder.chmod(0o755)
        install(mac.layout, mac.layout.device, None, lambda sentence: None)
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)
    assert [oct(path.stat().st_mode & 0o777) for path in (mac.layout.config.parent, mac.layout.config)] == ["0o755", "0o644"]


def test_a_purge_that_is_refused_leaves_the_daemon_to_come_with_the_next_start(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(mac)
    (mac.layout.state(mac.layout.device) / "carrel.sqlite3").touch()
    monkeypatch.setattr("daemon.installation.removing.unsent", lambda database: 3)
    stopped = []
    monkeypatch.setattr(Launchd, "stop", lambda self, role: stopped.append(role))
    monkeypatch.setattr(Launchd, "pause", lambda self, role: None)
    with pytest.raises(OperatorError, match="3 changes are not at school"):
        uninstall(mac.layout, mac.layout.device, purge=True, even_unsent=False)
    assert not stopped
    assert mac.layout.has(mac.layout.device)


def test_an_upgrade_that_lacks_a_list_is_taken_back(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = installed(mac), mac.version("0.2.0-def")
    (second / "share" / "carrel" / "systemd" / "launchd" / f"{BACKUP}.plist").unlink()
    with pytest.raises(OperatorError, match=r"Version 0\.1\.0 is in use again.*did not come"):
        upgrade(mac, monkeypatch, second)
    assert environment.present(mac.layout) == first


def test_removing_keeps_the_data_and_purging_leaves_nothing(mac: Mac) -> None:
    installed(mac)
    uninstall(mac.layout, mac.layout.device, purge=False, even_unsent=False)
    assert (mac.state["loaded"], list(mac.layout.units.iterdir())) == ({}, [])
    assert mac.layout.state(mac.layout.device).exists()
    uninstall(mac.layout, mac.layout.device, purge=True, even_unsent=True)
    assert mac.state["accounts"] == {}
    assert [path for path in mac.layout.root.rglob("*carrel*") if path.is_file()] == []


def test_a_mac_is_no_server_and_needs_an_administrator(mac: Mac, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperatorError, match="A Mac can be a device"):
        mac.layout.role("server")
    monkeypatch.setattr(os, "geteuid", lambda: 501)
    with pytest.raises(OperatorError, match="run it as root"):
        install(mac.layout, mac.layout.device, None, lambda sentence: None)
