"""What an installation asks of macOS: launchd, by launchctl(1), and accounts, by dscl(1).

launchd has no readiness: a daemon counts as started when it answers. What is booted out is gone some time later, and only then may it be loaded again.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from daemon.installation.layout import Layout, Role, shipped
from daemon.installation.tools import attempt, run
from domain.errors import OperatorError

# A start may migrate a database first; a stop takes ExitTimeOut of the property lists at most.
START_MAX_S = 900.0
STOP_MAX_S = 30.0
POLL_S = 0.2
# Numbers of accounts without a person (sysadminctl(8), "role accounts").
ROLE_IDS = range(200, 401)
LOGS = "Library/Logs/Carrel"
_LIST_MODE = 0o644
_NUMBER = re.compile(r"(-?\d+)\s*$", re.MULTILINE)
_RUNS = re.compile(r"^\s*state = running\s*$", re.MULTILINE)


class Launchd:
    """The service manager of a Mac."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def demand(self) -> None:
        """Raises OperatorError unless this is root on a machine that launchd runs."""
        if shutil.which("launchctl") is None:
            raise OperatorError("This machine is not run by launchd: docs/install.md says how Carrel is installed.")
        if os.geteuid() != 0:
            raise OperatorError("This changes the machine: run it as root, with sudo.")

    def place_units(self, layout: Layout, role: Role, environment: Path) -> bool:
        """Writes this version's property lists where launchd finds them at the next start of the machine. Returns whether anything was new."""
        changed = False
        for name in role.units:
            target, text = layout.units / name, shipped(environment, f"systemd/launchd/{name}").read_bytes()
            if not target.exists() or target.read_bytes() != text:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(text)
                target.chmod(_LIST_MODE)
                changed = True
        return changed

    def remove_units(self, layout: Layout, role: Role) -> None:
        """Takes back what `place_units` wrote, and the log."""
        for name in role.units:
            (layout.units / name).unlink(missing_ok=True)
        shutil.rmtree(layout.root / LOGS, ignore_errors=True)

    def make_account(self, role: Role) -> None:
        """The account and its group, with a number that nobody has, and the folders that are its own. Raises OperatorError."""
        if attempt(["id", role.account], otherwise="The account cannot be looked for").returncode != 0:
            self._make_account(role)
        for folder in (self._layout.state(role), self._layout.root / LOGS):
            owner = ("-o", role.account, "-g", role.account, "-m", "0700")
            run(["install", "-d", *owner, folder], otherwise=f"{folder} cannot be made")

    def remove_account(self, role: Role) -> None:
        """Raises OperatorError; an account that is not there is none to remove."""
        if attempt(["id", role.account], otherwise="The account cannot be looked for").returncode == 0:
            for kind in ("Users", "Groups"):
                run(["dscl", ".", "-delete", f"/{kind}/{role.account}"], otherwise=f"The account {role.account} cannot be removed")

    def reload(self) -> None:
        """launchd reads a property list when it is loaded."""

    def start(self, role: Role) -> None:
        """Loads what is not loaded, and starts what does not run; returns when the daemon answers. Raises OperatorError with its log."""
        for unit in role.start:
            run(["launchctl", "enable", _target(unit)], otherwise=f"{unit} cannot be enabled")
            if not _is_loaded(unit):
                run(["launchctl", "bootstrap", "system", self._layout.units / unit], otherwise=f"{unit} cannot be loaded")
        run(["launchctl", "kickstart", _target(role.main_unit)], otherwise=f"{role.main_unit} does not start")
        command: list[str | Path] = [*self.as_account(role), self._layout.program("carrel"), "status", "--json"]

        def answers() -> bool:
            return _says_running(attempt(command, _environ(self._layout), otherwise="Its status cannot be asked").stdout)

        if not _within(START_MAX_S, answers):
            raise OperatorError(f"{role.main_unit} does not start.\nIts log ends with:\n{self._log_end()}")

    def restart(self, role: Role) -> None:
        """Has the service go on with the present programs and lists. Raises OperatorError."""
        self.stop(role)
        self.start(role)

    def stop(self, role: Role) -> None:
        """Stops and unloads all of the role. Raises OperatorError for what does not end."""
        for unit in reversed(role.start):
            if _is_loaded(unit):
                attempt(["launchctl", "bootout", _target(unit)], otherwise=f"{unit} cannot be stopped")
                if not _within(STOP_MAX_S, partial(_is_gone, unit)):
                    raise OperatorError(f"{unit} does not stop.")

    def pause(self, role: Role) -> None:
        """Stops the service and what would start it. Raises OperatorError."""
        self.stop(role)

    def states(self, units: Iterable[str]) -> dict[str, dict[str, str]]:
        """Unit -> its `ActiveState`: active while it runs, waiting while it is loaded, else inactive."""
        found = {}
        for unit in units:
            said = attempt(["launchctl", "print", _target(unit)], otherwise=f"{unit} cannot be looked at")
            state = "inactive" if said.returncode else "active" if _RUNS.search(said.stdout) else "waiting"
            found[unit] = {"ActiveState": state}
        return found

    def as_account(self, role: Role) -> list[str]:
        """The words that run a command with the role's account."""
        return ["sudo", "-n", "-u", role.account, "--preserve-env=CARREL_CONFIG,CARREL_DEVICE_STATE_DIR", "--"]

    def _make_account(self, role: Role) -> None:
        otherwise = f"The account {role.account} cannot be made"
        taken = set[int]()
        for kind, key in (("Users", "UniqueID"), ("Groups", "PrimaryGroupID")):
            taken |= {int(text) for text in _NUMBER.findall(run(["dscl", ".", "-list", f"/{kind}", key], otherwise=otherwise))}
        free = next((number for number in reversed(ROLE_IDS) if number not in taken), None)
        if free is None:
            raise OperatorError(f"{otherwise}: every number from {ROLE_IDS[0]} to {ROLE_IDS[-1]} is taken.")
        user, group = f"/Users/{role.account}", f"/Groups/{role.account}"
        of_user = {
            "UniqueID": str(free),
            "PrimaryGroupID": str(free),
            "UserShell": "/usr/bin/false",
            "NFSHomeDirectory": "/var/empty",
            "IsHidden": "1",
        }
        for path, values in ((group, {"PrimaryGroupID": str(free)}), (user, of_user)):
            run(["dscl", ".", "-create", path], otherwise=otherwise)
            for key, value in values.items():
                run(["dscl", ".", "-create", path, key, value], otherwise=otherwise)

    def _log_end(self) -> str:
        try:
            lines = (self._layout.root / LOGS / "carrel.log").read_text("utf-8", "replace").splitlines()
        except OSError:
            return ""
        return "\n".join(lines[-15:])


def _environ(layout: Layout) -> dict[str, str]:
    device = layout.device
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "CARREL_CONFIG": str(layout.config),
        "CARREL_DEVICE_STATE_DIR": str(layout.state(device)),
    }


def _says_running(status: str) -> bool:
    """Whether `carrel status --json` has printed that a daemon answers; a program that does not even start prints something else."""
    try:
        told = json.loads(status)
    except ValueError:
        return False
    return isinstance(told, dict) and told.get("running") is True


def _target(unit: str) -> str:
    return f"system/{Path(unit).stem}"


def _is_loaded(unit: str) -> bool:
    return attempt(["launchctl", "print", _target(unit)], otherwise=f"{unit} cannot be looked at").returncode == 0


def _is_gone(unit: str) -> bool:
    return not _is_loaded(unit)


def _within(limit_s: float, holds: Callable[[], bool]) -> bool:
    """Whether it holds by then."""
    deadline_s = time.monotonic() + limit_s
    while not holds():
        if time.monotonic() > deadline_s:
            return False
        time.sleep(POLL_S)
    return True
