"""`python -m devstack run`, `dev`, `seed` and `demo`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import click

from devstack.demo import STUDENTS_MAX, Options, demo
from devstack.dev import dev
from devstack.display import Display
from devstack.interrupts import interruptible
from devstack.run import run, seed
from domain.errors import CarrelError

# What a shell calls a program that Ctrl-C has ended.
EXIT_INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Carrel on this machine, both sides of it."""


@main.command(name="run")
def run_command() -> None:
    """Start a school's server and a device, and keep them running until Ctrl-C.

    Their data is in .state, or in the folder that CARREL_STATE_DIR names. DATABASE_URL names a PostgreSQL database to use instead of one
    started here.
    """
    _end(lambda: run(os.environ, Display()))


@main.command(name="dev")
def dev_command() -> None:
    """The same, and start a part again whenever its code has changed."""
    _end(lambda: dev(os.environ, Display()))


@main.command(name="seed")
def seed_command() -> None:
    """Fill the school's database with the school, its class and the course, and end. What there is stays as it is.

    It is the database of `run`, which may be running; DATABASE_URL names another.
    """
    _end(lambda: seed(os.environ, Display()))


@main.command(name="demo")
@click.option("--records", type=click.IntRange(3), help="Replay only so many of the study records.")
@click.option("--students", type=click.IntRange(1, STUDENTS_MAX), default=STUDENTS_MAX, show_default=True, help="Deal them among so many.")
@click.option("--keep", is_flag=True, help="Leave folder and databases behind.")
def demo_command(records: int | None, students: int, keep: bool) -> None:
    """Play real study records through the localhost API, online and offline, and compare both databases.

    Works in a folder of its own, which is removed afterwards. Ends with 0 only if every row agrees.
    """
    _end(lambda: demo(os.environ, Options(records, students, keep), Display()))


def _end(command: Callable[[], int]) -> None:
    """Ends the process with the command's exit code, or with that of what stopped it."""
    try:
        with interruptible():
            exit_code = command()
    except CarrelError as error:
        click.echo(f"carrel: {error.message}", err=True)
        exit_code = error.exit_code
    except KeyboardInterrupt:
        click.echo("Interrupted; everything that was started has been stopped.", err=True)
        exit_code = EXIT_INTERRUPTED
    sys.exit(exit_code)


if __name__ == "__main__":
    main()
