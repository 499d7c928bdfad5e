"""What every message of a device must carry: a protocol that this server speaks, and an incarnation."""

from __future__ import annotations

from domain.errors import Problem, UnsupportedProtocol
from domain.ids import is_id
from domain.wire import PROTOCOL_OLDEST, PROTOCOL_VERSION


def envelope_problems(protocol: int, incarnation: str) -> list[Problem]:
    """What is wrong with the incarnation. Raises UnsupportedProtocol, a refusal of its own: the device keeps everything and waits."""
    if not PROTOCOL_OLDEST <= protocol <= PROTOCOL_VERSION:
        message = f"This server speaks protocols {PROTOCOL_OLDEST} to {PROTOCOL_VERSION}."
        raise UnsupportedProtocol([Problem("$.protocol", UnsupportedProtocol.code, message)])
    if not is_id(incarnation):
        return [Problem("$.incarnation", "malformed", "An incarnation is 32 lowercase hex digits.")]
    return []
