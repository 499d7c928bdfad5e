"""The cloud API as the device sees it: the only module that uses the network.

Whatever happens on the way becomes CloudUnreachable with a reason that `status` can show; a captive portal's HTML or half an answer is as
good as no answer, and never mistaken for one.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar, cast
from urllib.parse import urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.util import Timeout

from daemon.config import DeviceConfig
from daemon.process import logs
from daemon.tls import Trust, ca_file, context_for, demand_key, keys_of, unproved
from domain.bodies import BODY_BYTES_MAX, compress, decompress, from_json, to_json
from domain.errors import BodyTooLarge, CloudUnreachable, FirstSyncsBusy, InvalidConfig, MalformedJson, Problem, UnsupportedProtocol
from domain.wire import (
    POLL_AFTER_HEADER,
    EnrolAnswer,
    EnrolRequest,
    HeadAnswer,
    ObeyedAnswer,
    ObeyedRequest,
    PullAnswer,
    PullRequest,
    PushAnswer,
    PushRequest,
    StudentSignInAnswer,
    StudentSignInRequest,
    TokenAnswer,
    VerifyAnswer,
    VerifyRequest,
)

CONNECT_TIMEOUT_S = 5.0
READ_TIMEOUT_S = 60.0
# While somebody waits to be signed in.
SIGN_IN_TIMEOUT_S = 10.0
# The machine that answers is asked for signs of life meanwhile, which its kernel gives, however busy the server is. So long without one: the network has
# changed or is gone, and the connection with it.
SILENCE_MAX_S = 20
_PROBES = 3
RETRY_AFTER_MAX_S = 3_600.0
# Names a request of a sync round in the server's log: the round's id in the log of this device, and a number.
REQUEST_ID_HEADER = "X-Request-Id"

Answer = TypeVar("Answer")


class CloudGateway(Protocol):
    """What a sync round needs of the cloud API. Every method raises CloudUnreachable when there is no usable answer.

    `poll_after_s` is the pace that the server asked for with its last answer to `head`, also with one that said "nothing new".
    """

    poll_after_s: float | None

    def push(self, token: str, request: PushRequest) -> PushAnswer: ...

    def pull(self, token: str, request: PullRequest) -> PullAnswer: ...

    def verify(self, token: str, request: VerifyRequest) -> VerifyAnswer: ...

    def head(self, token: str, etag: str | None) -> tuple[HeadAnswer, str] | None:
        """The head and its ETag; None if nothing changed since `etag`."""

    def enrol(self, request: EnrolRequest) -> EnrolAnswer: ...

    def renew_token(self, token: str) -> TokenAnswer: ...

    def obeyed(self, token: str, request: ObeyedRequest) -> ObeyedAnswer: ...

    def sign_in(self, token: str, request: StudentSignInRequest) -> StudentSignInAnswer: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...


class HttpGateway:
    """The cloud API over HTTP(S), one connection kept open. `abort` ends a request that hangs, from any thread.

    By what the server is known: daemon/tls.py. Raises InvalidConfig for an address that may not be used, OperatorError for a `ca_file` that is none.
    """

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        check_url(url)
        parts = urlsplit(url)
        self.url = url
        self._prefix = parts.path.rstrip("/")
        self._open: set[HTTPConnection] = set()
        self._aborted = threading.Event()
        self._numbers = itertools.count(1)
        self._pool = self._make_pool(parts.hostname or "", parts.port, Trust(keys_of(url), ca_file) if parts.scheme == "https" else None)
        self._pool.tracked = self._open
        self.poll_after_s: float | None = None

    def _make_pool(self, host: str, port: int | None, trust: Trust | None) -> _HttpPool | _HttpsPool:
        options: dict[str, Any] = {"retries": False, "maxsize": 1, "socket_options": _socket_options()}
        if trust is None:
            return _HttpPool(host, port, **options)
        pool = _HttpsPool(host, port, ssl_context=context_for(trust), **options)
        pool.keys = trust.keys
        return pool

    def push(self, token: str, request: PushRequest) -> PushAnswer:
        return self._read(self._send("POST", "/v1/sync/push", token, to_json(request)), PushAnswer)

    def pull(self, token: str, request: PullRequest) -> PullAnswer:
        return self._read(self._send("POST", "/v1/sync/pull", token, to_json(request)), PullAnswer)

    def verify(self, token: str, request: VerifyRequest) -> VerifyAnswer:
        return self._read(self._send("POST", "/v1/sync/verify", token, to_json(request)), VerifyAnswer)

    def head(self, token: str, etag: str | None) -> tuple[HeadAnswer, str] | None:
        response = self._send("GET", "/v1/sync/head", token, None, headers={"If-None-Match": etag} if etag else {})
        if response.status == 304:
            _whole_body(response)
            self.poll_after_s = _seconds(response, POLL_AFTER_HEADER) or self.poll_after_s
            return None
        answer = self._read(response, HeadAnswer)
        self.poll_after_s = answer.poll_after_s
        return answer, response.headers.get("ETag", "")

    def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        return self._read(self._send("POST", "/v1/devices/enrol", None, to_json(request)), EnrolAnswer)

    def renew_token(self, token: str) -> TokenAnswer:
        return self._read(self._send("POST", "/v1/devices/token", token, None), TokenAnswer)

    def obeyed(self, token: str, request: ObeyedRequest) -> ObeyedAnswer:
        return self._read(self._send("POST", "/v1/devices/obeyed", token, to_json(request)), ObeyedAnswer)

    def sign_in(self, token: str, request: StudentSignInRequest) -> StudentSignInAnswer:
        return self._read(self._send("POST", "/v1/devices/password", token, to_json(request), SIGN_IN_TIMEOUT_S), StudentSignInAnswer)

    def abort(self) -> None:
        """Breaks off whatever is under way and refuses what comes after."""
        self._aborted.set()
        for connection in list(self._open):
            with contextlib.suppress(OSError, AttributeError):
                connection.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._pool.close()

    def _send(
        self,
        method: str,
        path: str,
        token: str | None,
        body: bytes | None,
        read_timeout_s: float | None = None,
        headers: dict[str, str] | None = None,
    ) -> urllib3.BaseHTTPResponse:
        if self._aborted.is_set():
            raise CloudUnreachable("stopping", "The daemon is stopping.")
        timeout = Timeout(connect=CONNECT_TIMEOUT_S, read=read_timeout_s or READ_TIMEOUT_S)
        sent = {"Accept": "application/json", "Accept-Encoding": "zstd, gzip", **(headers or {})}
        if (round_ := logs.bound_value("round")) is not None:
            sent[REQUEST_ID_HEADER] = f"{round_}.{next(self._numbers)}"
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        if body is not None:
            sent |= {"Content-Type": "application/json", "Content-Encoding": "zstd"}
            body = compress(body)
        try:
            return self._request(method, path, body, sent, timeout)
        except urllib3.exceptions.ProtocolError:
            # A kept-alive connection that the server has closed meanwhile breaks like this; every request may be sent twice.
            if self._aborted.is_set():
                raise CloudUnreachable("stopping", "The daemon is stopping.") from None
        except urllib3.exceptions.HTTPError as error:
            raise _no_answer(error) from error
        try:
            return self._request(method, path, body, sent, timeout)
        except urllib3.exceptions.HTTPError as error:
            raise _no_answer(error) from error

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout: Timeout) -> urllib3.BaseHTTPResponse:
        return self._pool.urlopen(
            method,
            self._prefix + path,
            body=body,
            headers=headers,
            redirect=False,
            preload_content=False,
            decode_content=False,
            timeout=timeout,
        )

    def _read(self, response: urllib3.BaseHTTPResponse, kind: type[Answer]) -> Answer:
        data = _whole_body(response)
        if response.status not in (200, 201):
            _refuse(response, data)
        if response.headers.get("Content-Type", "").partition(";")[0] != "application/json":
            raise CloudUnreachable(
                "not_carrel", "Something answered in place of the school's server (a sign-in page, perhaps).", response.status
            )
        try:
            return from_json(decompress(data, response.headers.get("Content-Encoding", "")), kind)
        except (MalformedJson, BodyTooLarge) as error:
            raise CloudUnreachable("bad_answer", "The school's server sent an answer that cannot be read.", response.status) from error


def _socket_options() -> list[tuple[int, int, int]]:
    """What connections have set, as far as the system knows it (tcp(7); macOS has other names)."""
    every_s = SILENCE_MAX_S // (_PROBES + 1)
    wanted = {
        "TCP_NODELAY": 1,
        "TCP_KEEPIDLE": every_s,
        "TCP_KEEPALIVE": every_s,
        "TCP_KEEPINTVL": every_s,
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": SILENCE_MAX_S * 1000,  # the same for what was sent and not acknowledged
    }
    known = [(socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in wanted.items() if hasattr(socket, name)]
    return [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1), *known]


def _whole_body(response: urllib3.BaseHTTPResponse) -> bytes:
    """All of the body. Its connection is kept for the next request only when the body ended where it said it would."""
    try:
        data = response.read(BODY_BYTES_MAX + 1)
        if len(data) > BODY_BYTES_MAX:
            raise CloudUnreachable("bad_answer", "The school's server sent more than it may.", response.status)
        response.release_conn()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise CloudUnreachable("bad_answer", "The school's server broke off its answer.") from error
    finally:
        response.close()  # of a connection that was released, this closes nothing but the reader
    return data


def check_url(url: str) -> None:
    """Raises InvalidConfig unless the address is https, or http on this very machine: a token never crosses a network in the clear."""
    parts = urlsplit(url)
    if not parts.hostname or parts.scheme not in ("http", "https"):
        raise InvalidConfig("The cloud address", [Problem("cloud_url", "invalid", "must be an address like https://carrel.school.example")])
    if parts.scheme == "https":
        keys_of(url)
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise InvalidConfig(
            "The cloud address", [Problem("cloud_url", "invalid", "must begin with https:// unless the server is on this machine")]
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _no_answer(error: Exception) -> CloudUnreachable:
    if isinstance(error, urllib3.exceptions.NewConnectionError):  # urllib3 counts it among the time-outs
        return CloudUnreachable("offline", "The school's server cannot be reached.")
    if isinstance(error, urllib3.exceptions.ConnectTimeoutError | urllib3.exceptions.ReadTimeoutError):
        return CloudUnreachable("timeout", "The school's server did not answer in time.")
    if isinstance(error, urllib3.exceptions.SSLError):
        return unproved(error)
    return CloudUnreachable("bad_answer", "The school's server broke off its answer.")


# HTTP status → the reason that `status` shows. Every other status of 500 and above is `server_error`, all the rest `refused`.
_REASONS = {401: "unauthorised", 403: "unauthorised", 409: "refused", 413: "too_large", 429: "rate_limited"}
# These a proxy of the school's may say in words of its own; any other refusal that the server itself has not made comes from somebody else.
_OF_PROXIES = (413, 429)


def _refuse(response: urllib3.BaseHTTPResponse, data: bytes) -> NoReturn:
    status = response.status
    reason = _REASONS.get(status) or ("server_error" if status >= 500 else "refused")
    problem: dict[str, Any] = {}
    if response.headers.get("Content-Type", "").startswith("application/problem+json"):
        with contextlib.suppress(MalformedJson, BodyTooLarge):
            problem = from_json(decompress(data, response.headers.get("Content-Encoding", ""), 64 * 1024), dict)
        if problem.get("code") == FirstSyncsBusy.code:
            reason = "busy"
    elif status < 500 and status not in _OF_PROXIES:
        reason = "not_carrel"
    if problem.get("code") == UnsupportedProtocol.code:
        reason = "other_version"
    raise CloudUnreachable(
        reason, _sentence(problem, status), status, _seconds(response, "Retry-After"), str(problem.get("code", ""))[:100]
    )


def _sentence(problem: dict[str, Any], status: int) -> str:
    detail = problem.get("detail")
    if problem.get("code") == UnsupportedProtocol.code:
        return "The program on this device and the school's server are of versions too far apart; everything waits until the older is upgraded."
    return f"The school's server refused: {detail[:300]}" if isinstance(detail, str) else f"The school's server answered {status}."


def _seconds(response: urllib3.BaseHTTPResponse, header: str) -> float | None:
    """A header that holds whole seconds; None when it is not there, or holds something else."""
    text = response.headers.get(header, "")
    return min(float(text), RETRY_AFTER_MAX_S) if text.isascii() and text.isdigit() else None


class _Tracked:
    """Makes connections that the gateway can find, to break them off."""

    tracked: set[HTTPConnection]

    def connect(self: Any) -> None:
        super().connect()  # type: ignore[misc]
        self.tracked.add(self)

    def close(self: Any) -> None:
        self.tracked.discard(self)
        super().close()  # type: ignore[misc]


class _HttpConnection(_Tracked, HTTPConnection):
    pass


class _HttpsConnection(_Tracked, HTTPSConnection):
    """One that looks at the server's key before anything is sent, where the key is known."""

    keys: tuple[str, ...] = ()

    def connect(self) -> None:
        super().connect()
        if self.keys:
            demand_key(cast(ssl.SSLSocket, self.sock), self.keys)
            self.is_verified = True

    def send(self, data: Any) -> None:
        """A server that has heard enough, such as of a body that is too large, answers and hangs up. That is no doubt about who it is: urllib3
        goes on and reads the answer, as it does without TLS.
        """
        try:
            super().send(data)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            raise BrokenPipeError("the server hung up") from error


class _Tracking:
    """A pool that makes tracked connections."""

    tracked: set[HTTPConnection]

    def _new_conn(self) -> Any:
        connection = super()._new_conn()  # type: ignore[misc]
        connection.tracked = self.tracked
        return connection


class _HttpPool(_Tracking, HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(_Tracking, HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection
    keys: tuple[str, ...] = ()

    def _new_conn(self) -> Any:
        connection = super()._new_conn()
        connection.keys = self.keys
        return connection


def gateways(config: DeviceConfig) -> Callable[[str], CloudGateway]:
    """Ways to servers that prove themselves as the configuration and the enrolment ask."""
    return lambda url: HttpGateway(url, ca_file(config.settings.ca_file, config.state_dir))
