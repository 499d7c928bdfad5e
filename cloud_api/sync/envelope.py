"""What every message of a device must carry: a protocol that this server speaks, and an incarnation."""

from __future__ import annotations

from domain.errors import Problem
from domain.ids import is_id
from domain.wire import PROTOCOL_OLDEST, PROTOCOL_VERSION


def envelope_problems(protocol: int, incarnation: str) -> list[Problem]:
    """What is wrong with the two."""
    problems = []
    if not PROTOCOL_OLDEST <= protocol <= PROTOCOL_VERSION:
        message = f"This server speaks protocols {PROTOCOL_OLDEST} to {PROTOCOL_VERSION}."
        problems.append(Problem("$.protocol", "unsupported_protocol", message))
    if not is_id(incarnation):
        problems.append(Problem("$.incarnation", "malformed", "An incarnation is 32 lowercase hex digits."))
    return problems
