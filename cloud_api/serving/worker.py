"""gunicorn's worker of threads, for a server that may stand without a proxy in front.

What is added to gunicorn: a request must arrive within a time as a whole, or clients that never finish would keep every thread; and what gunicorn
itself refuses has the one error shape.
"""

from __future__ import annotations

import logging
import secrets
import signal
import socket
import ssl
import time
from typing import Any

from gunicorn import glogging  # type: ignore[import-untyped]
from gunicorn.http import errors  # type: ignore[import-untyped]
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

from cloud_api.problems import CONTENT_TYPE, problem_body
from cloud_api.serving.tls import Certificate

log = logging.getLogger("carrel.cloud")

# (status, reason phrase, code) of what gunicorn refuses before a route sees it; any other request that it cannot read is a bad one.
_BAD_REQUEST = (400, "Bad Request", "bad_request")
_FAILED = (500, "Internal Server Error", "internal")
_REFUSALS: dict[type[Exception], tuple[int, str, str]] = {
    errors.LimitRequestLine: (414, "URI Too Long", "address_too_long"),
    errors.LimitRequestHeaders: (431, "Request Header Fields Too Large", "bad_request"),
    errors.ExpectationFailed: (417, "Expectation Failed", "bad_request"),
    errors.UnsupportedTransferCoding: (501, "Not Implemented", "bad_request"),
}
# How long a refusal may take to be sent to a client that does not read.
SEND_MAX_S = 5.0


class ServerLog(glogging.Logger):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn's own lines, in the form and with the silence of all others."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        self.error_log.handlers[:] = []
        self.error_log.propagate = True


class Worker(ThreadWorker):  # type: ignore[misc]  # gunicorn is not typed
    """Serves `app`, a `CloudServer`, which says how long a request may take to arrive, and has the certificate, if any."""

    def init_signals(self) -> None:
        """From here on signals are answered here; those that came since the fork were held back by the arbiter, and come now."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self.SIGNALS)

    def enqueue_req(self, conn: Any) -> None:
        """Hands a connection on which something arrives to a thread."""
        if not isinstance(conn.sock, _TimedSocket):
            certificate: Certificate | None = self.app.certificate
            # The handshake is a part of the first request's arrival, and has its time: it is made with the first bytes that a thread reads.
            sock = conn.sock if certificate is None else _secured(conn.sock, certificate)
            conn.sock = _TimedSocket(sock, self.app.arrives_max_s)
        super().enqueue_req(conn)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Exception) -> None:
        """Refuses what is no request; errors of the application have been answered by it."""
        if isinstance(exc, ssl.SSLError):
            log.info("a connection without TLS was ended: %s", exc.reason)
            return
        if not isinstance(exc, errors.ParseException):
            log.error("a request could not be answered", exc_info=exc)
            (status, reason, code), detail = _FAILED, "Something went wrong on the server."
        else:
            detail = "The request is not valid HTTP."
            status, reason, code = _REFUSALS.get(type(exc), _BAD_REQUEST)
            log.info("a request was refused: %s", type(exc).__name__)
        body = problem_body(status, code, f"{reason}.", detail, secrets.token_hex(8))
        head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        try:
            client.settimeout(SEND_MAX_S)
            client.sendall(head.encode("latin-1") + body)
        except OSError:
            log.debug("nobody was there to read the refusal")


def _secured(sock: socket.socket, certificate: Certificate) -> ssl.SSLSocket:
    return certificate.context().wrap_socket(sock, server_side=True, do_handshake_on_connect=False)


class _TimedSocket:
    """A client's socket on which each request has its time to arrive, however often something comes; after it the client counts as gone."""

    def __init__(self, sock: socket.socket, arrives_max_s: float) -> None:
        self._sock = sock
        self._arrives_max_s = arrives_max_s
        self._deadline_s = time.monotonic() + arrives_max_s

    def setblocking(self, flag: bool) -> None:
        """A thread takes the connection up with True: its next request begins."""
        self._deadline_s = time.monotonic() + self._arrives_max_s
        self._sock.setblocking(flag)

    def recv(self, size: int) -> bytes:
        left_s, timeout_s = self._deadline_s - time.monotonic(), self._sock.gettimeout()
        if left_s <= 0:
            return b""
        try:
            self._sock.settimeout(left_s if timeout_s is None else min(left_s, timeout_s))
            return self._sock.recv(size)
        except TimeoutError:
            if time.monotonic() < self._deadline_s:
                raise
            return b""
        finally:
            self._sock.settimeout(timeout_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)
