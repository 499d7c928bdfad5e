"""The script that a preview writes: statements and comments, a line or lines each."""

from __future__ import annotations

import re

from migrations.execution import Progress
from migrations.history import HISTORY_TABLE

_SAVEPOINT = re.compile(r'(SAVEPOINT|RELEASE SAVEPOINT) "s[0-9a-f]{32}";\Z')


class Script:
    """Collects the statements while `active`."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.names: list[str] = []
        self.applied: list[str] = []  # what the history would hold by now
        self.active = False

    def begin(self, progress: Progress) -> None:
        """Called by the runner before and after each file."""
        self.active = progress.done is None
        if progress.done is None:
            self.names.append(progress.name)
            self.lines.append(f"\n-- {progress.name}")
        elif progress.done.direction == "up":
            self.applied.append(progress.name)
        else:
            self.applied.remove(progress.name)

    def comment(self, text: str) -> None:
        self.lines.append(f"-- {text}")

    def add(self, statement: str) -> None:
        if not self.active:
            return
        line = statement.strip().rstrip(";") + ";"
        # The runner makes sure of its table in every file; and the savepoint inside each transaction is peewee-migrate's own.
        if (line.startswith("CREATE") and HISTORY_TABLE in line and line in self.lines) or _SAVEPOINT.match(line):
            return
        self.lines.append(line)
