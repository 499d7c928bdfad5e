"""What commands of `carrel` have in common: their configuration, the running daemon, and how they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from domain.errors import InvalidConfig

if TYPE_CHECKING:
    from daemon.config import DeviceConfig
    from daemon.control import Control

# Exit codes besides those of domain/errors.py: nothing is running; sync does not get through; the school refused something; the sides differ.
EXIT_NOT_RUNNING = 7
EXIT_WAITING = 8
EXIT_REJECTED = 9
EXIT_DIFFERS = 10
# Longer than the daemon lets a request wait for a sync round, or for the school's server.
COMMAND_TIMEOUT_S = 90.0


class Settings:
    """Which configuration the command works with; read when first needed, so that `--help` never fails on a bad file."""

    def __init__(self, named: Path | None, environ: Mapping[str, str]) -> None:
        self._named = named
        self.environ = environ

    @property
    def path(self) -> Path | None:
        from daemon.config import find_config

        return self._named or find_config(self.environ)

    def load(self) -> DeviceConfig:
        from daemon.config import load_config

        return load_config(self.path, self.environ)


as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def state_dir_of(settings: Settings) -> Path:
    """The state folder. A configuration with a fault is said on stderr and does not hide it: the daemon may run with the one before."""
    from daemon import config

    try:
        return settings.load().state_dir
    except InvalidConfig as error:
        click.echo(f"carrel: {error.message}", err=True)
        return config.find_state_dir(settings.path, settings.environ)


def find_daemon(settings: Settings) -> Control | None:
    """The running daemon."""
    from daemon import control

    return control.find(state_dir_of(settings), COMMAND_TIMEOUT_S)


def demand_daemon(settings: Settings) -> Control:
    """The running daemon. Ends the command with EXIT_NOT_RUNNING where there is none."""
    from daemon import control

    state_dir = state_dir_of(settings)
    found = control.find(state_dir, COMMAND_TIMEOUT_S)
    if found is None:
        click.echo(f"carrel: {not_running(state_dir)}", err=True)
        sys.exit(EXIT_NOT_RUNNING)
    return found


def not_running(state_dir: object) -> str:
    """Says for which folder no daemon runs: a command that looks into another one than the daemon's is told by it."""
    return f"The daemon of {state_dir} is not running: start it with `carrel run`."


def tell(answer: dict[str, Any], as_json: bool, in_words: Callable[[dict[str, Any]], str]) -> None:
    click.echo(json.dumps(answer, ensure_ascii=False) if as_json else in_words(answer))
