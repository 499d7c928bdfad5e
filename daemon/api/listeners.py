"""Every address on which the localhost API listens: the configured one, and the other loopback address beside it.

`localhost` is 127.0.0.1 for one program and ::1 for the next. If only one of them were the daemon's, another account's program could listen on the
other with the same port, and would be handed the tokens of apps that call `localhost`.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Sequence

from flask import Flask

from daemon.api.server import LocalServer
from daemon.config import ApiSettings
from domain.errors import OperatorError
from loglines.parts import fields

log = logging.getLogger(__name__)

OTHER = {"127.0.0.1": "::1", "::1": "127.0.0.1"}
# Few programs come that way; each thread has a database connection of its own.
OTHER_THREADS = 2


class Listeners:
    """Serves `app` as the settings say, between `start` and `stop`."""

    def __init__(self, app: Flask, settings: ApiSettings, inherited: Sequence[socket.socket] = ()) -> None:
        self._app, self._settings, self._inherited = app, settings, inherited
        self._servers = [LocalServer(app, settings.host, settings.port, settings.threads, inherited=inherited)]

    @property
    def port(self) -> int:
        """The port of all of them, once started."""
        return self._servers[0].port

    def start(self) -> None:
        """Listens and returns. Raises OperatorError when an address cannot be had, the other one only where its port was not left to chance."""
        self._servers[0].start()
        other = OTHER.get(self._settings.host)
        if other is None or not (_exists(other) or _has(self._inherited, other, self.port)):
            return
        beside = LocalServer(self._app, other, self.port, OTHER_THREADS, inherited=self._inherited)
        try:
            beside.start()
        except OperatorError:
            if self._settings.port:
                self._servers[0].stop()
                raise
            log.warning("the other loopback address is not served", extra=fields(address=other))
            return
        self._servers.append(beside)

    def stop(self, timeout_s: float) -> None:
        """Takes no more connections, answers the requests that are begun, and waits for them so long in all. May be called again."""
        for server in reversed(self._servers):
            server.stop(timeout_s / len(self._servers))


def _has(sockets: Sequence[socket.socket], host: str, port: int) -> bool:
    """Whether one of these has the address, which may come to exist while it is held."""
    return any(sock.fileno() >= 0 and sock.getsockname()[:2] == (host, port) for sock in sockets)


def _exists(address: str) -> bool:
    """Whether this machine has the address; many have IPv6 turned off."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True
