"""One JSON object a line in, at most one out: what the line protocols of this package share.

Nothing that stands in a line ends the conversation: what says nothing is passed over, and what is missing is guessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from math import isfinite
from typing import IO, Any

import click

# Beyond it a number is nonsense, and arithmetic with it might fail.
NUMBER_MAX = 2.0**53


def listen(lines: Iterable[bytes], out: IO[str], answer: Callable[[bytes], str | None]) -> None:
    """Answer lines until there are no more or nobody listens; each answer leaves at once. `answer` raises ValueError for a line that says nothing."""
    for line in lines:
        if not line.strip():
            continue
        try:
            answered = answer(line)
        except ValueError as error:
            click.echo(f"passed over: {error}", err=True)
            continue
        if answered is not None:
            try:
                out.write(answered + "\n")
                out.flush()
            except BrokenPipeError:
                return


def message_of(line: bytes) -> dict[str, Any]:
    """The object in a line. Raises ValueError for anything else."""
    try:
        message = json.loads(line)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if isinstance(message, dict):
        return message
    raise ValueError("not a JSON object")


def number(value: Any) -> float | None:
    """A finite number of sensible size, also from a text; None for anything else."""
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return found if isfinite(found) and abs(found) <= NUMBER_MAX else None


def fraction(value: Any, otherwise: float) -> float:
    """A number, or `otherwise`."""
    found = number(value)
    return otherwise if found is None else found


def whole(value: Any, otherwise: int) -> int:
    """A whole number, rounded towards zero, or `otherwise`."""
    found = number(value)
    return otherwise if found is None else int(found)
