"""Telling systemd how it goes (sd_notify(3)): ready, stopping, still alive. Without systemd nothing happens."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

SOCKET_VARIABLE = "NOTIFY_SOCKET"
# Set where the manager ends a service that does not say WATCHDOG=1 in time (sd_watchdog_enabled(3)).
WATCHDOG_VARIABLE = "WATCHDOG_USEC"


def is_watched() -> bool:
    """Whether somebody waits for WATCHDOG=1."""
    return bool(os.environ.get(WATCHDOG_VARIABLE)) and bool(os.environ.get(SOCKET_VARIABLE))


def notify(state: str) -> None:
    """Sends a state such as `READY=1`, `STOPPING=1` or `WATCHDOG=1`. Never raises and never waits: it is a courtesy."""
    address = os.environ.get(SOCKET_VARIABLE, "")
    if not address:
        return
    if address.startswith("@"):  # the abstract namespace
        address = f"\0{address[1:]}"
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as connection:
        connection.setblocking(False)
        connection.sendto(state.encode(), address)
