"""`carrel service install`, `carrel service uninstall` and `carrel service status`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from daemon.commands.site import EXIT_NOT_RUNNING, as_json, tell
from daemon.process.left_out import leave_out_postgres
from migrations.commands.groups import Group


def _say(sentence: str) -> None:
    click.echo(f"carrel: {sentence}", err=True)


role_option = click.option(
    "--role", "role_name", type=click.Choice(["device", "server"]), default="device", show_default=True, help="What this machine is."
)


@click.group(cls=Group)
def service() -> None:
    """Carrel as a service of this machine (systemd, or launchd on a Mac); as root."""


@service.command(
    epilog="""\b
Examples:
  sudo carrel service install --wheel dist/carrel-0.1.0-py3-none-any.whl
  sudo carrel service install --role server --wheel carrel-0.1.0-py3-none-any.whl --wheels /media/usb/wheels
  sudo carrel service install --previous"""
)
@role_option
@click.option(
    "--wheel", type=click.Path(path_type=Path, dir_okay=False), help="The wheel to install; without it, what is installed is set right."
)
@click.option(
    "--wheels", type=click.Path(path_type=Path, file_okay=False), help="A folder of wheels to take everything from, without a network."
)
@click.option(
    "--python", type=click.Path(path_type=Path, dir_okay=False), help="The Python to run it with; otherwise the one that runs this."
)
@click.option("--previous", is_flag=True, help="Go back to the version before: a device with its database, a server on the same one.")
@as_json
def install(role_name: str, wheel: Path | None, wheels: Path | None, python: Path | None, previous: bool, as_json: bool) -> None:
    """Install Carrel on this machine, or upgrade it in place; running it again does no harm.

    An upgrade is backed up first, and taken back when the new version does not start. Settings in /etc/carrel are never overwritten.
    """
    leave_out_postgres()
    from daemon.installation.environment import Source
    from daemon.installation.installing import go_back, install
    from daemon.installation.layout import Layout

    if previous and wheel:
        raise click.UsageError("Either --previous or --wheel.")
    layout = Layout()
    role = layout.role(role_name)
    say = (lambda sentence: None) if as_json else _say
    done = go_back(layout, role, say) if previous else install(layout, role, Source(wheel, python, wheels) if wheel else None, say)
    tell(asdict(done), as_json, _installed_sentence)


@service.command()
@role_option
@click.option("--purge", is_flag=True, help="Remove data, backups, settings and the account too.")
@click.option("--even-unsent", is_flag=True, help="With --purge: also what is not at school yet, and nowhere else.")
@as_json
def uninstall(role_name: str, purge: bool, even_unsent: bool, as_json: bool) -> None:
    """Take Carrel off this machine; data and settings stay unless --purge is given. Where nothing is installed, nothing happens."""
    leave_out_postgres()
    from daemon.installation.layout import Layout
    from daemon.installation.removing import uninstall

    layout = Layout()
    done = uninstall(layout, layout.role(role_name), purge=purge, even_unsent=even_unsent)
    tell(asdict(done), as_json, _removed_sentence)


@service.command("status")
@role_option
@as_json
def status(role_name: str, as_json: bool) -> None:
    """Say which version is installed, and how its units are.

    Ends with 7 when the service does not run.
    """
    from daemon.installation import environment
    from daemon.installation.layout import Layout
    from daemon.installation.manager import RUNNING_MARK
    from daemon.installation.services import services_of

    layout = Layout()
    role = layout.role(role_name)
    now, older = environment.present(layout), environment.before(layout)
    units = services_of(layout).states(role.units) if layout.is_mac or RUNNING_MARK.is_dir() else {}
    answer = {
        "role": role.name,
        "installed": layout.has(role),
        "version": environment.version_of(now) if now else None,
        "previous": environment.version_of(older) if older else None,
        "broken_off": layout.unfinished.exists(),
        "units": units,
    }
    tell(answer, as_json, _status_lines)
    if units.get(role.main_unit, {}).get("ActiveState") != "active":
        sys.exit(EXIT_NOT_RUNNING)


def _installed_sentence(done: Mapping[str, Any]) -> str:
    role = " --role server" if done["role"] == "server" else ""
    before = f" Before it was {done['previous']}; `carrel service install{role} --previous` goes back." if done["previous"] else ""
    state = "is installed and runs" if done["running"] else "is installed and does not run yet"
    return f"Carrel {done['version']} ({done['role']}) {state}.{before}"


def _removed_sentence(done: Mapping[str, Any]) -> str:
    kept = "" if done["data"] else " Data, settings and the account stay; --purge removes them too."
    return f"Carrel is no service ({done['role']}) of this machine any more.{kept}"


def _status_lines(answer: Mapping[str, Any]) -> str:
    if not answer["installed"]:
        return f"Carrel is not installed as a service ({answer['role']}) here: `sudo carrel service install`."
    before = f"; before it {answer['previous']}" if answer["previous"] else ""
    lines = [f"Carrel {answer['version']}{before}."]
    if answer["broken_off"]:
        lines.append("An installation was broken off, or is at work: `sudo carrel service install` finishes one.")
    lines += [f"{unit:30} {state.get('ActiveState', '?'):10} {state.get('UnitFileState', '')}" for unit, state in answer["units"].items()]
    return "\n".join(lines)
