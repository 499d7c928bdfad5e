"""Sockets that the service manager has opened for this process (sd_listen_fds(3)): the port is the daemon's from boot on, and nobody else's.

Whoever connects before the daemon is ready waits until it is. systemd passes them as descriptors from 3 on, and says so in LISTEN_PID, which
is this process, and LISTEN_FDS, which is how many.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import MutableMapping, Sequence

log = logging.getLogger(__name__)

FIRST_FD = 3
# More than anybody passes.
SOCKETS_MAX = 16
VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def inherited_sockets(environ: MutableMapping[str, str], first_fd: int = FIRST_FD) -> list[socket.socket]:
    """The listening sockets that were passed, without those that are none; programs that this one starts do not get them, nor the variables."""
    pid, count = (environ.get(name, "") for name in VARIABLES[:2])
    for name in VARIABLES:
        environ.pop(name, None)
    if pid != str(os.getpid()) or not count.isdigit():
        return []
    return [found for fd in range(first_fd, first_fd + min(int(count), SOCKETS_MAX)) if (found := _listening(fd)) is not None]


def taken_over(sockets: Sequence[socket.socket], host: str, port: int) -> socket.socket | None:
    """The inherited socket of this address, ready to be served; None when none is."""
    found = next((sock for sock in sockets if sock.fileno() >= 0 and sock.getsockname()[:2] == (host, port)), None)
    if found is not None:
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        found.setblocking(True)
    return found


def _listening(fd: int) -> socket.socket | None:
    try:
        os.set_inheritable(fd, False)
        sock = socket.socket(fileno=fd)
        if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return sock
        sock.detach()
    except OSError:
        pass
    log.warning("a descriptor was passed that is no listening socket")
    return None
