"""What an installation asks of systemd."""

from __future__ import annotations

import os
import pwd
import shutil
from collections.abc import Iterable
from pathlib import Path

from daemon.installation.layout import Layout, Role, shipped
from daemon.installation.tools import attempt, run
from domain.errors import OperatorError

RUNNING_MARK = Path("/run/systemd/system")
_UNIT_MODE = 0o644


def demand() -> None:
    """Raises OperatorError unless this is root on a machine that systemd runs."""
    if not RUNNING_MARK.is_dir():
        raise OperatorError("This machine is not run by systemd: start `carrel run`, or `carrel-cloud serve`, by what runs it.")
    if os.geteuid() != 0:
        raise OperatorError("This changes the machine: run it as root, with sudo.")


def place_units(layout: Layout, role: Role, environment: Path) -> bool:
    """Writes account and units of the role, as this version has them, where systemd finds them. Returns whether anything was new. Raises OperatorError."""
    files = {layout.units / name: shipped(environment, f"systemd/{name}") for name in role.units}
    files[layout.sysusers(role)] = shipped(environment, f"systemd/{role.sysusers}")
    changed = False
    for target, source in files.items():
        text = source.read_bytes()
        if target.exists() and target.read_bytes() == text:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(text)
        target.chmod(_UNIT_MODE)
        changed = True
    return changed


def remove_units(layout: Layout, role: Role) -> None:
    """Takes back what `place_units` wrote, and what an administrator has added to it."""
    for name in role.units:
        (layout.units / name).unlink(missing_ok=True)
        shutil.rmtree(layout.units / f"{name}.d", ignore_errors=True)
        (layout.root / "var/lib/systemd/timers" / f"stamp-{name}").unlink(missing_ok=True)
    layout.sysusers(role).unlink(missing_ok=True)


def make_account(role: Role) -> None:
    """Raises OperatorError."""
    run(["systemd-sysusers"], otherwise=f"The account {role.account} cannot be made")


def remove_account(role: Role) -> None:
    """Raises OperatorError; an account that is not there is none to remove."""
    if attempt(["id", role.account], otherwise="The account cannot be looked for").returncode == 0:
        run(["userdel", role.account], otherwise=f"The account {role.account} cannot be removed")


def reload() -> None:
    run(["systemctl", "daemon-reload"], otherwise="systemd cannot read the units")


def start(role: Role) -> None:
    """Enables the role's units and starts those that do not run; returns when the service is ready. Raises OperatorError with its log."""
    run(["systemctl", "enable", "--quiet", *role.start], otherwise="The units cannot be enabled")
    for unit in role.start[:-1]:
        run(["systemctl", "start", unit], otherwise=f"{unit} does not start")
    _start_main(role, "start")


def restart(role: Role) -> None:
    """Has the service go on with the present programs. Raises OperatorError with its log."""
    _start_main(role, "restart")


def stop(role: Role) -> None:
    """Stops and disables all units of the role, whatever they do."""
    attempt(["systemctl", "disable", "--now", "--quiet", *role.start], otherwise="The units cannot be stopped")
    attempt(["systemctl", "stop", "--quiet", *role.units], otherwise="The units cannot be stopped")
    attempt(["systemctl", "reset-failed", "--quiet", *role.units], otherwise="The units cannot be stopped")


def pause(role: Role) -> None:
    """Stops the service and what would start it. Raises OperatorError."""
    run(["systemctl", "stop", *role.start], otherwise=f"{role.main_unit} does not stop")


def states(units: Iterable[str]) -> dict[str, dict[str, str]]:
    """Unit -> its `ActiveState`, `UnitFileState`, `Result` and when it was last started. Raises OperatorError without systemd."""
    names = ("ActiveState", "UnitFileState", "Result", "ExecMainStatus", "NRestarts")
    found = {}
    for unit in units:
        text = run(["systemctl", "show", unit, *(f"--property={name}" for name in names)], otherwise=f"{unit} cannot be looked at")
        found[unit] = {name: value for name, _, value in (line.partition("=") for line in text.splitlines()) if value}
    return found


def as_account(role: Role) -> list[str]:
    """The words that run a command with the role's account and nothing of root's."""
    account = pwd.getpwnam(role.account)
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups", "--no-new-privs", "--"]


def _start_main(role: Role, verb: str) -> None:
    try:
        run(["systemctl", verb, role.main_unit], otherwise=f"{role.main_unit} does not start")
    except OperatorError as error:
        said = attempt(["journalctl", "--no-pager", "--lines=15", "--output=cat", "--unit", role.main_unit], otherwise="No log").stdout
        raise OperatorError(f"{error.message}\nIts log ends with:\n{said.strip()}") from error
