"""Doing something on each database in turn: its report as text or as JSON, errors as one sentence, exit codes."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from domain.errors import CarrelError
from migrations.files import Kind
from migrations.waiting import Tell, Waiting, waiting_on_stderr

if TYPE_CHECKING:
    from migrations.execution import Applied, Progress

# What a program reads with --json: an object for each database, beginning with {"db": kind}.
Report = dict[str, Any]
# A command ends with it when it found something that should be otherwise; errors have codes of their own.
EXIT_FOUND = 1


class Run:
    """One command on one database: what it tells, at once as text, in the end as JSON."""

    def __init__(self, kind: Kind, address: str | None, as_json: bool, waiting: Waiting) -> None:
        self.kind = kind
        self._address = address
        self.as_json = as_json
        self._waiting = waiting
        self.report: Report = {"db": kind}
        self.exit_code = 0

    @property
    def address(self) -> str:
        """The address of the database, for commands that were given one."""
        return self._address or ""

    @property
    def address_or_none(self) -> str | None:
        return self._address

    def say(self, line: str) -> None:
        """A line for a person; nothing with --json. That nobody reads it any more, as behind `| head`, ends no migration."""
        if self.as_json:
            return
        try:
            click.echo(f"{self.kind}: {line}")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def during(self, what: str) -> AbstractContextManager[Tell]:
        """As `Activity.during`: people hear of `what` if it takes long."""
        return self._waiting.during(f"{self.kind}: {what}")

    def progress(self, progress: Progress) -> None:
        """Collects what was done, so that it is told even when a later file fails."""
        if progress.done is not None:
            self.report["steps"].append(asdict(progress.done))
            self.say(_step_line(progress.done))


Work = Callable[[Run], None]


def on_each(databases: Sequence[tuple[Kind, str | None]] | Callable[[], Sequence[tuple[Kind, Any]]], as_json: bool, work: Work) -> None:
    """Do `work` on each database in turn, and end the process: with 0, what `work` set, or the first error's exit code.

    `databases` may be a function, so that its errors are told like any other.
    """
    reports: list[Report] = []
    exit_code = 0
    try:
        with waiting_on_stderr(silent=as_json) as waiting:
            for kind, address in databases() if callable(databases) else databases:
                run = Run(kind, address, as_json, waiting)
                reports.append(run.report)
                work(run)
                exit_code = max(exit_code, run.exit_code)
    except CarrelError as error:
        exit_code = error.exit_code
        if not as_json:
            click.echo(f"carrel-migrate: {error.message}", err=True)
        reports = reports or [{}]
        reports[-1]["error"] = {"code": error.code, "message": error.message}
    if as_json:
        click.echo(json.dumps(reports))
    sys.exit(exit_code)


def _step_line(step: Applied) -> str:
    return f"{step.name} {'applied' if step.direction == 'up' else 'taken back'} in {step.duration_ms} ms"
