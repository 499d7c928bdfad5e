"""`carrel`: the device's commands.

The daemon's modules are imported by the commands that need them, so that `carrel --help` and `carrel status` answer at once.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from daemon import sentences
from daemon.commands import watching
from daemon.commands.app import app, pin
from daemon.commands.backup import backup, restore
from daemon.commands.bundle import bundle
from daemon.commands.conflicts import conflicts
from daemon.commands.doctor import doctor
from daemon.commands.prepare_image import prepare_image
from daemon.commands.queue import queue
from daemon.commands.service import service as service_commands
from daemon.commands.site import (
    EXIT_DIFFERS,
    EXIT_NOT_RUNNING,
    EXIT_REJECTED,
    EXIT_WAITING,
    Settings,
    as_json,
    demand_daemon,
    find_daemon,
    not_running,
    state_dir_of,
    tell,
)
from daemon.commands.verify import verify
from daemon.process.left_out import leave_out_postgres, left_out
from domain.clock import SystemClock
from domain.errors import EXIT_INTERRUPTED, CarrelError, InvalidConfig, NotEnrolled, OperatorError, Problem
from domain.ids import dashed
from migrations.commands.groups import Group

if TYPE_CHECKING:
    from daemon.config import DeviceConfig

# A look at a daemon that hangs must not hang itself.
STATUS_TIMEOUT_S = 10.0
# What `carrel status` ends with: 0 for all that needs nobody (synced, pending, unknown).
_STATE_EXIT_CODES: dict[str, int] = {
    "not_enrolled": NotEnrolled.exit_code,
    "waiting": EXIT_WAITING,
    "rejected": EXIT_REJECTED,
    "differs": EXIT_DIFFERS,
}


class _Group(Group):
    """Ends a command with the exit code of the error, and its sentence on stderr."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CarrelError as error:
            click.echo(f"carrel: {error.message}", err=True)
            ctx.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("carrel: Interrupted.", err=True)
            ctx.exit(EXIT_INTERRUPTED)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--config", "config_path", type=click.Path(path_type=Path), help="The configuration file; otherwise CARREL_CONFIG.")
@click.version_option(package_name="carrel", prog_name="carrel")
@click.pass_context
def main(context: click.Context, config_path: Path | None) -> None:
    """Carrel on this device: answers are kept here, and brought to school when there is a way."""
    context.obj = Settings(config_path, os.environ)


@main.command()
@click.pass_obj
def run(settings: Settings) -> None:
    """Run the daemon in the foreground until it is told to stop (SIGTERM, Ctrl-C)."""
    with left_out():
        from daemon import service

    sys.exit(service.run(settings.path, settings.environ, click.echo))


@main.command()
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C; with --json one object a line.")
@click.option(
    "--every", "every_s", type=click.IntRange(1, 3600), default=2, show_default=True, help="Seconds between two looks of --watch."
)
@as_json
@click.pass_obj
def status(settings: Settings, watch: bool, every_s: int, as_json: bool) -> None:
    """Say whether the daemon runs, and whether everything is at school."""
    if watch:
        answer = watching.watch(lambda: _status(settings), _status_in_words, as_json, every_s)
    else:
        answer = _status(settings)
        tell(answer, as_json, _status_in_words)
    sys.exit(_STATE_EXIT_CODES.get(str(answer.get("state")), 0) if answer.get("running") else EXIT_NOT_RUNNING)


def _status(settings: Settings) -> dict[str, Any]:
    from daemon.control import find

    state_dir = state_dir_of(settings)
    control = find(state_dir, STATUS_TIMEOUT_S)
    if control is None:
        return {"running": False, "state_dir": str(state_dir)}
    running = control.running
    return {"running": True, "address": running.url, "pid": running.pid} | control.get("/v1/status")


def _status_in_words(answer: dict[str, Any]) -> str:
    return sentences.status_lines(answer, SystemClock().now_ms()) if answer["running"] else not_running(answer["state_dir"])


@main.command()
@as_json
@click.pass_obj
def sync(settings: Settings, as_json: bool) -> None:
    """Have the daemon sync now, without waiting for its schedule, and say how it went."""
    answer = demand_daemon(settings).post("/v1/sync")
    tell(answer, as_json, sentences.round_sentence)
    good = not answer["finished"] or answer["outcome"] == "done"
    sys.exit(0 if good else _STATE_EXIT_CODES.get(str(answer["outcome"]), EXIT_WAITING))


@main.command()
@click.argument("url_or_code")
@click.argument("code", required=False)
@click.option("--name", default=platform.node, help="What the school calls this device; otherwise this machine's name.")
@click.option("--ca", type=click.Path(path_type=Path, dir_okay=False), help="Certificates of who issued the server's, kept for good.")
@as_json
@click.pass_obj
def enrol(settings: Settings, url_or_code: str, code: str | None, name: str, ca: Path | None, as_json: bool) -> None:
    """Make this a device of a school: carrel enrol URL CODE, or only CODE when the configuration names the server.

    The code comes from `carrel-cloud enrol-code create`. One of the form CODE#KEY names the server's key: no other server is spoken with then.
    """
    config = settings.load()
    if ca is not None:
        _keep_ca(config, ca)
    url, code = (url_or_code, code) if code else (config.cloud_url, url_or_code)
    if not url:
        raise InvalidConfig("The command", [Problem("URL", "missing", "give the address of the school's server before the code")])
    control = find_daemon(settings)
    if control is not None:
        answer = control.post("/v1/enrol", {"cloud_url": url, "code": code, "name": name})
    else:
        answer = _enrol_here(config, url, code, name)
    tell(answer, as_json, lambda a: f"This is now a device of {a['school_name']}.")


@main.group(cls=Group)
def config() -> None:
    """The configuration."""


@config.command()
@as_json
@click.pass_obj
def show(settings: Settings, as_json: bool) -> None:
    """Print every setting with its value, and where the value comes from: default, file, or a variable."""
    from daemon.config import SECTION, DeviceSettings
    from domain.settings import origins_of, values_of

    loaded = settings.load()
    values = values_of(loaded.settings, SECTION)
    values |= {"device.state_dir": str(loaded.state_dir), "device.inbox_dir": str(loaded.inbox_dir)}
    values["device.database_path"] = str(loaded.database_path)
    origins = origins_of(DeviceSettings, section=SECTION, toml_path=loaded.source, environ=settings.environ)
    if settings.environ.get("SQLITE_DATABASE_URL"):
        origins["device.database_path"] = "SQLITE_DATABASE_URL"
    shown = {
        "file": str(loaded.source) if loaded.source else None,
        "settings": {path: {"value": value, "from": origins[path]} for path, value in values.items()},
    }
    tell(shown, as_json, _config_lines)


def _enrol_here(config: DeviceConfig, url: str, code: str, name: str) -> dict[str, Any]:
    """Enrols without a daemon: this process works in the state folder meanwhile."""
    leave_out_postgres()
    from daemon import offline

    identity = offline.enrol(config, url, code, name)
    return {"device_id": dashed(identity.device_id), "school_id": dashed(identity.school_id), "school_name": identity.school_name}


def _keep_ca(config: DeviceConfig, ca: Path) -> None:
    """Puts the certificates into the state folder, where the daemon looks for them whenever it opens a way to the school."""
    from daemon.config import prepare_folders
    from daemon.durable_file import replace_durably
    from daemon.tls import CA_FILE, Trust, context_for

    context_for(Trust(ca_file=ca))
    prepare_folders(config)
    try:
        replace_durably(config.state_dir / CA_FILE, ca.read_bytes())
    except OSError as error:
        raise OperatorError(f"The certificates cannot be kept: {error.strerror}. Name their file in device.ca_file.") from error


def _config_lines(shown: dict[str, Any]) -> str:
    lines = [f"# {shown['file'] or 'no file: defaults and variables'}"]
    lines += [f"{path} = {json.dumps(entry['value'], ensure_ascii=False)}  ({entry['from']})" for path, entry in shown["settings"].items()]
    return "\n".join(lines)


for command in (app, pin, backup, restore, bundle, queue, conflicts, verify, doctor, prepare_image, service_commands):
    main.add_command(command)

if __name__ == "__main__":
    main()
