"""What a person sees while things happen: steps, bars and tables on a terminal, plain lines everywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

# How far a bar has come: (done, a few words about it).
Tell = Callable[[int, str], None]

# Without a terminal a bar is this many lines, beside the one at its end.
LINES_A_BAR = 4
# A step's title and time, and a bar with its note, fit into 80 columns.
_STEP_WIDTH = 26
_BAR_TITLE_WIDTH = 18
_BAR_WIDTH = 12


class Display:
    """Writes to standard output. Texts are taken as they are: no markup, and no line is broken."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)

    def say(self, text: str = "") -> None:
        """One or more lines."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Shows that the block is under way, and at its end how long it took. Says nothing of a block that fails."""
        began_s = time.monotonic()
        with self._console.status(f"{title} …") if self._console.is_terminal else nullcontext():
            yield
        self.say(f"  {title:{_STEP_WIDTH}} {time.monotonic() - began_s:6.1f} s")

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator[Tell]:
        """Gives a function that tells how far the block has come, of `total`."""
        with self._terminal_bar(title, total) if self._console.is_terminal else self._lines(title, total) as tell:
            yield tell

    def table(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """The first column is text, the others are figures."""
        table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 2))
        for place, heading in enumerate(headings):
            table.add_column(heading, justify="right" if place else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    @contextmanager
    def _terminal_bar(self, title: str, total: int) -> Iterator[Tell]:
        columns = (TextColumn(f"  {title:{_BAR_TITLE_WIDTH}}", markup=False), BarColumn(_BAR_WIDTH), MofNCompleteColumn())
        with Progress(*columns, TextColumn("{task.fields[note]}", markup=False), console=self._console) as progress:
            task = progress.add_task(title, total=total, note="")
            yield lambda done, note: progress.update(task, completed=done, note=note)

    @contextmanager
    def _lines(self, title: str, total: int) -> Iterator[Tell]:
        shown = 0
        line = ""

        def tell(done: int, note: str) -> None:
            nonlocal shown, line
            line = f"  {title:{_BAR_TITLE_WIDTH}} {done:,} of {total:,}  {note}".rstrip()
            if (part := LINES_A_BAR * done // max(total, 1)) > shown:
                shown = part
                self.say(line)

        yield tell
        if line and shown < LINES_A_BAR:
            self.say(line)
