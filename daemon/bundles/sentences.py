"""What `carrel bundle` says to people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.counted import counted

Answer = Mapping[str, Any]


def export_sentence(answer: Answer) -> str:
    """`carrel bundle export`: what is in the file, and where it is to go."""
    size = f"{max(1, round(answer['bytes'] / 1024)):,} KiB"
    carry = f"carry {answer['file']} to the school's server, where `carrel-cloud bundle import` takes it in."
    if not answer["operations"]:
        return f"Nothing waits to be sent; the file ({size}) asks for what is new at school: {carry}"
    left = f"\n{counted(answer['left'], 'more change')} did not fit; export again when this one is answered." if answer["left"] else ""
    return f"{_what(answer['answers'], answer['operations'] - answer['answers'])} in {size}; {carry}\nAll of it stays queued here as well.{left}"


def import_sentence(answer: Answer) -> str:
    """`carrel bundle import`: what was settled and what is new."""
    parts = []
    if answer["settled"]:
        parts.append(f"{counted(answer['settled'], 'change')} of this device's {_is(answer['settled'])} at school now.")
    if answer["rejected"]:
        parts.append(f"The school refused {answer['rejected']} of them; `carrel queue list` says why, and what helps.")
    if answer["rows"]:
        parts.append(f"{counted(answer['rows'], 'row')} came from school.")
    if answer["older"]:
        parts.append("What it says of the school is older than what is here, and was left out.")
    if answer["anew"]:
        parts.append("The school's server had lost something, or this device's file was copied: what it may lack will be sent again.")
    if answer["more"]:
        parts.append("There is more at school than one bundle holds: export a bundle here and have it answered.")
    return " ".join(parts) or "There is nothing in it that is not here already."


def _what(answers: int, others: int) -> str:
    if not answers:
        return counted(others, "change")
    return f"{counted(answers, 'answer')} and {counted(others, 'other change')}" if others else counted(answers, "answer")


def _is(number: int) -> str:
    return "is" if number == 1 else "are"
