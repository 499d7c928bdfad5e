"""Groups of commands, of all three programs."""

from __future__ import annotations

import click

# Longer than any first sentence.
SENTENCE_MAX = 1_000


class Group(click.Group):
    """A group whose help has the first sentence of each command whole, on as many lines as it takes; click cuts sentences to one line."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the list of commands."""
        rows = [(name, self.commands[name].get_short_help_str(SENTENCE_MAX)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)
