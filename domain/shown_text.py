"""Short texts that somebody typed and others are shown: names of people, devices and schools.

Refused is what a terminal or a page would obey rather than show, and what PostgreSQL cannot hold: control characters, line ends, and the marks that turn
the direction of what follows. The pattern is what the descriptions of the APIs say, too.
"""

from __future__ import annotations

import re
from typing import Any

SHOWN_PATTERN = "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029\\u202a-\\u202e\\u2066-\\u2069]*$"
NAME_LENGTH_MAX = 200
_SHOWN = re.compile(SHOWN_PATTERN)


def is_shown(text: str, length_max: int = NAME_LENGTH_MAX) -> bool:
    """Whether the text is of that kind, and at most so many characters long."""
    return len(text) <= length_max and _SHOWN.fullmatch(text) is not None


def shown_schema(length_max: int = NAME_LENGTH_MAX) -> dict[str, Any]:
    """The same in the words of JSON Schema."""
    return {"pattern": SHOWN_PATTERN, "maxLength": length_max}
