"""`carrel status --watch`: the same look again and again, until somebody has seen enough."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import click

from domain.errors import Unavailable

Answer = dict[str, Any]
# Differs at every look, and says nothing new.
_COUNTS_DOWN = "next_attempt_in_s"


def watch(look: Callable[[], Answer], in_words: Callable[[Answer], str], as_json: bool, every_s: float) -> Answer:
    """Shows what `look` finds, now and every so many seconds, until Ctrl-C. Returns what was found last; raises BrokenPipeError when nobody reads.

    A terminal always has the newest below its prompt line; a file or pipe gets the sentences whenever they say something new, and with `as_json`
    one object a line for each look. A daemon that stops, or starts again, is shown so, and the watch goes on.
    """
    seen: Answer = {}
    pause = threading.Event()  # nobody sets it; unlike a sleep its wait can be given up at once
    with suppress(KeyboardInterrupt):
        while True:
            before, seen = seen, _found(look, seen)  # known before it is shown: Ctrl-C may come with the first sight of it
            _show(seen, before, in_words, as_json)
            pause.wait(every_s)
    return seen


def _found(look: Callable[[], Answer], before: Answer) -> Answer:
    """What there is to see. A daemon that does not answer at this moment is what it was."""
    try:
        return look()
    except Unavailable:
        return before or {"running": False}


def _show(found: Answer, seen: Answer, in_words: Callable[[Answer], str], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(found, ensure_ascii=False))
    elif sys.stdout.isatty():
        click.clear()
        click.echo(f"{in_words(found)}\n\nCtrl-C ends.")
    elif _said(found) != _said(seen):
        click.echo(in_words(found))
    sys.stdout.flush()


def _said(answer: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in answer.items() if name != _COUNTS_DOWN}
