"""Numbers with what they count, as both sides say them to people."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 answer`, `12,345 answers`; `plural` where it is not the noun with an s."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def in_words(number: int, noun: str, plural: str = "") -> str:
    """The same inside a sentence, `one answer`; `.capitalize()` where it begins one."""
    return f"one {noun}" if number == 1 else counted(number, noun, plural)
