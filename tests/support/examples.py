"""The files of docs/examples, with the names, ports and paths of a test in the place of a school's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def example(name: str, substitutes: Mapping[str, str]) -> str:
    """The text of a file below docs/ with every key replaced by its value. A key that does not stand in it is an error: then the file has changed."""
    text = (DOCS / name).read_text("utf-8")
    for placeholder, value in substitutes.items():
        if placeholder not in text:
            raise AssertionError(f"docs/{name} does not say {placeholder!r} any more")
        text = text.replace(placeholder, value)
    return text


def said_in(page: str, pattern: str) -> str:
    """What the one group of a pattern stands for on a page of docs/."""
    found = re.findall(pattern, (DOCS / page).read_text("utf-8"))
    if len(found) != 1:
        raise AssertionError(f"docs/{page} says {pattern} {len(found)} times")
    return str(found[0])
