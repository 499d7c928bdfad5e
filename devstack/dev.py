"""`make dev`: as `make run`, and a server whose code was changed is started again with it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NoReturn

from cloud_api.config import DATABASE_URL_VARIABLE
from devstack.display import Display
from devstack.processes import ROOT, Child, run_to_end
from devstack.run import about, place_of_clone
from devstack.source_files import SourceFiles
from devstack.stack import Stack, running
from domain.errors import CarrelError, OperatorError

# How often the source files are looked at.
LOOK_S = 0.3
MIGRATE_TIMEOUT_S = 60.0
# Packages of one side; those that are not here belong to both.
_OF_DAEMON = frozenset({"daemon"})
_OF_CLOUD = frozenset({"cloud_api"})
_OF_BOTH = frozenset({"domain", "loglines", "webpages", "migrations"})


def dev(environ: Mapping[str, str], display: Display) -> int:
    """Starts everything and starts a part again as often as its code changes. Returns 0 after an interrupt.

    Code that does not work is shown with the end of the part's log, and waits for the next change. Raises OperatorError as `run` does, as long as
    not everything has been started.
    """
    with running(place_of_clone(environ), display) as stack:
        display.say(about(stack))
        display.say("A part whose code changes is started again.")
        try:
            _follow(stack, SourceFiles(ROOT, tuple(sorted(_OF_DAEMON | _OF_CLOUD | _OF_BOTH))), display)
        except KeyboardInterrupt:
            display.say("\nStopping.")
    display.say("Stopped.")
    return 0


def concerned(stack: Stack, changed: frozenset[str]) -> list[Child]:
    """The parts that run code of the packages that changed, in the order of their start."""
    both = changed & _OF_BOTH
    return [child for child, own in ((stack.cloud, _OF_CLOUD), (stack.daemon, _OF_DAEMON)) if both or changed & own]


def _follow(stack: Stack, files: SourceFiles, display: Display) -> NoReturn:
    broken: set[str] = set()
    while True:
        changed = files.changed()
        for child in concerned(stack, changed):
            broken.discard(child.name)
            try:
                _restart(stack, child, display, migrating="migrations" in changed)
            except CarrelError as error:
                broken.add(child.name)
                display.say(f"{error.message}\nIt is started again when its code has changed.")
        for child in (stack.cloud, stack.daemon):
            if child.name not in broken and (ended := child.ended()):
                broken.add(child.name)
                display.say(f"{ended}\nIt is started again when its code has changed.")
        time.sleep(LOOK_S)


def _restart(stack: Stack, child: Child, display: Display, *, migrating: bool) -> None:
    with display.step(child.name):
        child.stop()
        if migrating and child is stack.cloud:  # the daemon brings its own database up to date
            _migrate(stack)
        child.start()
        child.await_ready()


def _migrate(stack: Stack) -> None:
    """By a process of its own: this one knows the migrations of its start."""
    environ = {**stack.place.environ, DATABASE_URL_VARIABLE: stack.database.url}
    exit_code, output = run_to_end(["migrations.cli", "--db", "cloud", "upgrade", "head"], environ, MIGRATE_TIMEOUT_S)
    if exit_code:
        raise OperatorError(f"The school's database could not be migrated: {output}")
