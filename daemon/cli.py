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
from daemon.commands.app import app, pin
from daemon.commands.bundle import bundle
from daemon.commands.conflicts import conflicts
from daemon.commands.prepare_image import prepare_image
from daemon.commands.queue import queue
from daemon.commands.site import (
    EXIT_DIFFERS,
    EXIT_NOT_RUNNING,
    EXIT_REJECTED,
    EXIT_WAITING,
    NOT_RUNNING,
    Settings,
    as_json,
    find_daemon,
    leave_out_postgres,
    tell,
)
from daemon.commands.verify import verify
from domain.clock import SystemClock
from domain.errors import CarrelError, InvalidConfig, NotEnrolled, Problem
from domain.ids import dashed

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


class _Group(click.Group):
    """Ends a command with the exit code of the error, and its sentence on stderr."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CarrelError as error:
            click.echo(f"carrel: {error.message}", err=True)
            ctx.exit(error.exit_code)


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
    leave_out_postgres()
    from daemon import service

    sys.exit(service.run(settings.path, settings.environ, click.echo))


@main.command()
@as_json
@click.pass_obj
def status(settings: Settings, as_json: bool) -> None:
    """Say whether the daemon runs, and whether everything is at school."""
    control = find_daemon(settings, STATUS_TIMEOUT_S)
    if control is None:
        tell({"running": False}, as_json, lambda _: NOT_RUNNING)
        sys.exit(EXIT_NOT_RUNNING)
    running = control.running
    about = {"running": True, "address": running.url, "pid": running.pid}
    answer = about | control.get("/v1/status")
    tell(answer, as_json, lambda a: sentences.status_lines(a, SystemClock().now_ms()))
    sys.exit(_STATE_EXIT_CODES.get(str(answer["state"]), 0))


@main.command()
@as_json
@click.pass_obj
def sync(settings: Settings, as_json: bool) -> None:
    """Have the daemon sync now, without waiting for its schedule, and say how it went."""
    control = find_daemon(settings)
    if control is None:
        click.echo(f"carrel: {NOT_RUNNING}", err=True)
        sys.exit(EXIT_NOT_RUNNING)
    answer = control.post("/v1/sync")
    tell(answer, as_json, sentences.round_sentence)
    good = not answer["finished"] or answer["outcome"] == "done"
    sys.exit(0 if good else _STATE_EXIT_CODES.get(str(answer["outcome"]), EXIT_WAITING))


@main.command()
@click.argument("url_or_code")
@click.argument("code", required=False)
@click.option("--name", default=platform.node, help="What the school calls this device; otherwise this machine's name.")
@as_json
@click.pass_obj
def enrol(settings: Settings, url_or_code: str, code: str | None, name: str, as_json: bool) -> None:
    """Make this a device of a school: carrel enrol URL CODE, or only CODE when the configuration names the server.

    The code comes from `carrel-cloud enrol-code`.
    """
    config = settings.load()
    url, code = (url_or_code, code) if code else (config.cloud_url, url_or_code)
    if not url:
        raise InvalidConfig("The command", [Problem("URL", "missing", "give the address of the school's server before the code")])
    control = find_daemon(settings)
    if control is not None:
        answer = control.post("/v1/enrol", {"cloud_url": url, "code": code, "name": name})
    else:
        answer = _enrol_here(config, url, code, name)
    tell(answer, as_json, lambda a: f"This is now a device of {a['school_name']}.")


@main.group()
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
    from daemon import service

    identity = service.enrol(config, url, code, name)
    return {"device_id": dashed(identity.device_id), "school_id": dashed(identity.school_id), "school_name": identity.school_name}


def _config_lines(shown: dict[str, Any]) -> str:
    lines = [f"# {shown['file'] or 'no file: defaults and variables'}"]
    lines += [f"{path} = {json.dumps(entry['value'], ensure_ascii=False)}  ({entry['from']})" for path, entry in shown["settings"].items()]
    return "\n".join(lines)


for command in (app, pin, bundle, queue, conflicts, verify, prepare_image):
    main.add_command(command)

if __name__ == "__main__":
    main()
