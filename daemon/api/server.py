"""The localhost listener: cheroot in threads of this process.

What is added to cheroot: a request must arrive within a time as a whole, not only its next byte; bodies in chunks are bounded like all others; a
connection whose body was not read to the end is closed, slowly enough for the client to read why; what the server itself refuses has the one
error shape; its log is ours.
"""

from __future__ import annotations

import io
import logging
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import msgspec
from cheroot import errors, wsgi
from cheroot import server as cheroot
from cheroot.makefile import MakeFile
from flask import Flask

from daemon.api.problems import CONTENT_TYPE, TYPE_PREFIX, Problem
from daemon.process.activation import taken_over
from domain.errors import BodyTooLarge, OperatorError

log = logging.getLogger(__name__)

SERVER_NAME = "Carrel"
# Connections that wait for a thread; beyond them the system turns new ones away.
QUEUE_MAX = 128
# Idle connections that are kept for their next request.
KEEP_ALIVE_MAX = 64
HEADER_BYTES_MAX = 16 * 1024
# A request must have arrived this long after a thread began to read it; an idle connection is closed after as long.
ARRIVES_MAX_S = 10.0
# How often idle connections are looked through.
EXPIRY_INTERVAL_S = 0.5
STOP_TIMEOUT_S = 5.0
# What a client may still send after its body was refused, and how long that is waited for, so that it reads the refusal, not a reset.
LINGER_BYTES_MAX = 16 * 1024 * 1024
LINGER_MAX_S = 1.0
LINGER_READ_BYTES = 64 * 1024
# Headers that stand once in a request.
ONCE = (b"Authorization", b"Content-Length", b"Host", b"Origin")
# Bytes on the wire for one byte of a body in chunks: a chunk of one byte is six.
CHUNKED_BYTES_FACTOR = 8

# What cheroot itself answers with; anything else it refuses is no HTTP that is understood here (`bad_request`).
_CODES = {405: "method_not_allowed", 408: "too_slow", 413: "body_too_large", 414: "address_too_long", 500: "internal", 503: "unavailable"}


class LocalServer:
    """Serves `app` on host and port (0: any free one) with so many threads, between `start` and `stop`.

    Of `inherited`, sockets that the service manager has opened, the one of this address is served instead of one of its own.
    """

    def __init__(
        self,
        app: Flask,
        host: str,
        port: int,
        threads: int,
        arrives_max_s: float = ARRIVES_MAX_S,
        inherited: Sequence[socket.socket] = (),
    ) -> None:
        self._address = (host, port)
        self._inherited = inherited
        server = _Server(self._address, app, numthreads=threads, max=threads, server_name=SERVER_NAME)
        server.gateway = _Gateway
        server.request_queue_size = QUEUE_MAX
        server.timeout = arrives_max_s
        server.max_request_header_size = HEADER_BYTES_MAX
        server.max_request_body_size = app.config["MAX_CONTENT_LENGTH"]
        server.keep_alive_conn_limit = KEEP_ALIVE_MAX
        server.expiration_interval = EXPIRY_INTERVAL_S
        self._server = server
        self._thread = threading.Thread(target=server.serve, name="http", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on, once started."""
        return int(self._server.bind_addr[1])

    def start(self) -> None:
        """Listens and returns. Raises OperatorError when the address cannot be had."""
        host, port = self._address
        try:
            self._server.bound = taken_over(self._inherited, host, port) or _bound_socket(host, port)
        except OSError as error:
            raise OperatorError(
                f"The daemon cannot listen on {host}:{port}: {error.strerror}. Stop what uses it or choose another port in [device.api]."
            ) from error
        self._server.prepare()
        self._thread.start()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Takes no more connections, answers the requests it has begun, and waits for them at most `timeout_s`. May be called again."""
        self._server.shutdown_timeout = timeout_s
        # cheroot waits without end for a handler that does not return; this thread does not.
        stopping = threading.Thread(target=self._server.stop, name="http-stop", daemon=True)
        stopping.start()
        stopping.join(timeout_s)
        if self._thread.ident is not None:
            self._thread.join(EXPIRY_INTERVAL_S)


def _bound_socket(host: str, port: int) -> socket.socket:
    """A socket of this address. cheroot's own way loses the error's number, and the socket."""
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform != "win32":  # where it would let two programs listen on one port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.bind((host, port))
        sock.listen(QUEUE_MAX)
    except OSError:
        sock.close()
        raise
    return sock


class _Server(wsgi.Server):
    """cheroot's server on the socket `bound`, writing to our log."""

    bound: socket.socket
    port: int

    def bind(self, family: int, type: int, proto: int = 0) -> socket.socket:
        self.socket = self.bound
        self.bind_addr = self.bound.getsockname()[:2]
        self.port = self.bind_addr[1]
        return self.bound

    def stop(self) -> None:
        """Without cheroot's connection to its own port in the end, which wakes nobody here: systemd, when it owns the port, would start the
        daemon anew to answer it.
        """
        address, self.bind_addr = self.bind_addr, ""
        try:
            super().stop()
        finally:
            self.bind_addr = address

    def error_log(self, msg: str = "", level: int = logging.INFO, traceback: bool = False) -> None:
        log.log(level, "http: %s", msg, exc_info=traceback)


class _TimedSocket:
    """A socket that is read until a moment, however often something arrives."""

    def __init__(self, sock: socket.socket, timeout_s: float) -> None:
        self._sock = sock
        self._timeout_s = timeout_s
        self._deadline = 0.0

    def expect_request(self) -> None:
        """From now on the next request has its time to arrive."""
        self._deadline = time.monotonic() + self._timeout_s

    @property
    def late(self) -> bool:
        return time.monotonic() >= self._deadline

    def recv_into(self, buffer: Any) -> int:
        left_s = self._deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")  # the words by which cheroot knows it
        self._sock.settimeout(left_s)
        try:
            return self._sock.recv_into(buffer)
        finally:
            self._sock.settimeout(self._timeout_s)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Headers(dict[bytes, bytes]):
    """Headers in which none of ONCE stands with two values: cheroot would take the last, and whoever stands before it the first, perhaps."""

    def __setitem__(self, name: bytes, value: bytes) -> None:
        if name in ONCE and self.get(name, value) != value:
            raise ValueError(f"There are two {name.decode()} Headers.")
        super().__setitem__(name, value)


class _HeaderReader(cheroot.HeaderReader):
    """Headers with one length, by one header, that is a number: int() also takes `-1`, upon which a body would be read without end, `+5` and `1_0`."""

    def __call__(self, rfile: Any, hdict: dict[bytes, bytes] | None = None) -> dict[bytes, bytes]:
        headers: dict[bytes, bytes] = super().__call__(rfile, _Headers())
        if not headers.get(b"Content-Length", b"0").isdigit():
            raise ValueError("Malformed Content-Length Header.")
        if b"Content-Length" in headers and b"Transfer-Encoding" in headers:
            raise ValueError("There are a Content-Length and a Transfer-Encoding Header.")
        if hdict is None:
            return headers
        hdict.update(headers)
        return hdict


class _Request(cheroot.HTTPRequest):
    """A request that is refused in the one error shape, and ends its connection when its body stays unread."""

    header_reader = _HeaderReader()

    def respond(self) -> None:
        try:
            super().respond()
        finally:
            self.conn.lingers = self.close_connection and self._body_left()

    def send_headers(self) -> None:
        if self.conn.timed.late or (self.chunked_read and self._body_left()):
            self.close_connection = True
        super().send_headers()

    def simple_response(self, status: str, msg: str = "") -> None:
        number = int(str(status)[:3])
        code = _CODES.get(number, "bad_request")
        problem = Problem(TYPE_PREFIX + code, str(status)[4:], number, code, msg or str(status)[4:], number in (408, 503), [])
        body = msgspec.json.encode(problem)
        head = (
            f"{self.server.protocol} {status}\r\nContent-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        self.close_connection = True
        self.conn.lingers = number == 413
        with suppress(OSError):  # nobody is there to read it
            self.conn.wfile.write(head.encode("latin-1") + body)

    def _body_left(self) -> bool:
        body = self.rfile
        return not body.closed if isinstance(body, cheroot.ChunkedRFile) else getattr(body, "remaining", 0) > 0


class _Connection(cheroot.HTTPConnection):
    """A connection on which each request has its time to arrive."""

    RequestHandlerClass = _Request

    def __init__(self, server: cheroot.HTTPServer, sock: socket.socket, makefile: Any = MakeFile) -> None:
        self.timed = _TimedSocket(sock, server.timeout)
        self.lingers = False
        super().__init__(server, sock, lambda _, mode, size=io.DEFAULT_BUFFER_SIZE: makefile(self.timed, mode, size))

    def communicate(self) -> bool:
        self.timed.expect_request()
        return bool(super().communicate())  # type: ignore[no-untyped-call]

    def close(self) -> None:
        if self.lingers:
            self.lingers = False
            with suppress(OSError):
                self._linger()
        super().close()

    def _linger(self) -> None:
        """Reads on for a while after the refusal: closing at once would reset the connection and take the refusal with it."""
        self.socket.shutdown(socket.SHUT_WR)
        deadline, left = time.monotonic() + LINGER_MAX_S, LINGER_BYTES_MAX
        while left > 0 and (left_s := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left_s)
            received = len(self.socket.recv(LINGER_READ_BYTES))
            if received == 0:
                return
            left -= received


_Server.ConnectionClass = _Connection


class _Chunks(cheroot.ChunkedRFile):
    """A body in chunks that says when it is too large, and leaves nothing of itself to the next request."""

    def _fetch(self) -> None:
        if self.closed:
            return
        try:
            super()._fetch()  # type: ignore[misc]  # missing in cheroot's types
            if self.closed:
                deque(self.read_trailer_lines(), maxlen=0)
        except errors.MaxSizeExceeded as error:
            raise BodyTooLarge(self.maxlen) from error
        except OSError as error:
            if isinstance(error, TimeoutError) or error.errno is not None:
                raise
            raise BodyTooLarge(self.maxlen) from error  # cheroot's words for a chunk beyond the limit


class _Gateway(wsgi.Gateway_10):
    """cheroot's WSGI 1.0 with bounded chunks."""

    def get_environ(self) -> dict[str, Any]:  # type: ignore[override]  # cheroot's types say None
        request = self.req
        if request.chunked_read:
            limit = request.server.max_request_body_size
            request.rfile = _Chunks(cheroot.SizeCheckWrapper(request.conn.rfile, limit * CHUNKED_BYTES_FACTOR), limit)
        environ: dict[str, Any] = super().get_environ()  # type: ignore[no-untyped-call]
        environ["SERVER_PORT"] = str(request.server.port)  # cheroot takes it from `bind_addr`, which `stop` empties
        return environ
