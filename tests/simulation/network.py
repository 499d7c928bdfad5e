"""The network of a simulation: requests of the product's own gateway, handed to the product's own WSGI application, with the faults that a seed asks for.

What can happen to a request: it is lost, or cut off on the way; the server is busy, dies at one of its statements, or its database fails there; the
answer is lost, cut short, or replaced by a captive portal's; the request is delivered twice; it stays on the way and arrives much later, in another
order, when nobody waits for its answer any more. And while request or answer are on their way, something else may happen on the device or at school.
"""

from __future__ import annotations

import io
import random
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import urllib3
from psycopg2 import errors
from urllib3.exceptions import NewConnectionError, ProtocolError, ReadTimeoutError

from cloud_api.problems import CONTENT_TYPE as PROBLEM_TYPE
from daemon.gateway import HttpGateway
from domain.bodies import decompress
from tests.simulation.cloud import STATEMENTS_MAX, ServerCrash, SimulatedCloud
from tests.simulation.skew import said_later

URL = "http://127.0.0.1:8751"
# The status of an error that the server has no name for: in no world is it right.
UNEXPECTED = 500
_BUSY = 503
FAULTS = (
    "request lost", "request cut", "request late", "request twice", "server busy", "server died", "statement failed",
    "answer lost", "answer broken off", "answer cut", "answer of a portal",
)  # fmt: skip
# What PostgreSQL says when a statement cannot be done now: the first two are tried again by the server, after the others the device comes again.
STATEMENT_FAILURES = (errors.SerializationFailure, errors.DeadlockDetected, errors.DiskFull, errors.OutOfMemory, errors.QueryCanceled)


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it is sent. `length` is that of the body as it was announced: it may be cut on the way."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    length: int

    @property
    def writes(self) -> bool:
        """Whether it carries operations."""
        return self.path.endswith("/push")


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer as it arrives."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Network:
    """Between all devices and the server `app`. `fault_share` of pushes meet a fault, and half as many other requests, of which there are more; `late`
    holds those that are still on their way, `without` the names of devices that have no network. `met` counts what went wrong, here and elsewhere in the world.

    `meanwhile(name)` is called while a request of the device of that name, or its answer, is under way, as often as faults are; `crowd()` at every
    request for rows. With `later_server` the answers say things that only a later version understands.
    """

    app: Callable[..., Any]
    database: SimulatedCloud
    randomness: random.Random
    fault_share: float
    meanwhile: Callable[[str], None]
    crowd: Callable[[], None]
    later_server: bool = False
    late: list[Request] = field(default_factory=list)
    without: set[str] = field(default_factory=set)
    met: Counter[str] = field(default_factory=Counter)

    def send(self, name: str, request: Request) -> Answer:
        """The answer to a request of the device of that name. Raises urllib3's errors."""
        if name in self.without:
            raise NewConnectionError(None, "no network")  # type: ignore[arg-type]  # there is no connection
        if request.path.endswith("/pull"):
            self.crowd()
        share = self.fault_share if request.writes else self.fault_share / 2
        if self.randomness.random() < share:
            self.meanwhile(name)
        fault = self.randomness.choice(FAULTS) if self.randomness.random() < share else ""
        self.met[fault or "request"] += 1
        answer = self._deliver_badly(request, fault) if fault else self._deliver(request)
        if self.randomness.random() < share / 2:
            self.met["answer late"] += 1
            self.meanwhile(name)
        return answer

    def _deliver_badly(self, request: Request, fault: str) -> Answer:
        if fault == "request lost":
            raise NewConnectionError(None, "lost")  # type: ignore[arg-type]  # there is no connection
        if fault == "request late":
            self.late.append(request)
            _time_out(request)
        if fault == "server busy":
            return Answer(503, {"Content-Type": PROBLEM_TYPE, "Retry-After": "7"}, b'{"code": "unavailable"}')
        if fault == "request cut":
            return self._cut_off(request)
        if fault == "request twice":
            self._deliver(request)
        answer = self._deliver(request, self._failure(fault))
        if fault == "answer lost":
            _time_out(request)
        if fault == "answer broken off":
            raise ProtocolError("broken off")
        if fault == "answer of a portal":
            return Answer(200, {"Content-Type": "text/html"}, b"<p>Welcome to our network")
        return self._cut(answer) if fault == "answer cut" else answer

    def _failure(self, fault: str) -> BaseException | None:
        """What the server is to meet at one of its statements."""
        if fault == "server died":
            return ServerCrash()
        return self.randomness.choice(STATEMENT_FAILURES)() if fault == "statement failed" else None

    def _cut_off(self, request: Request) -> Answer:
        """The connection breaks before the server has the whole request. It may find a way to say that it has not."""
        answer = self._deliver(replace(request, body=request.body[: int(self.randomness.random() * len(request.body))]))
        if self.randomness.random() < 0.5:
            raise ProtocolError("broken off")
        return answer

    def _cut(self, answer: Answer) -> Answer:
        """The answer's first bytes; with or without its true length."""
        body = answer.body[: int(self.randomness.random() * len(answer.body))]
        headers = answer.headers | ({} if self.randomness.random() < 0.5 else {"Content-Length": str(len(body))})
        return replace(answer, headers=headers, body=body)

    def deliver_late(self) -> None:
        """Lets the requests on the way arrive, in any order; nobody reads the answers."""
        arriving, self.late = self.late, []
        self.randomness.shuffle(arriving)
        self.met["requests in another order"] += len(arriving) > 1
        for request in arriving:
            self._deliver(request)

    def _deliver(self, request: Request, failure: BaseException | None = None) -> Answer:
        """The server's answer; with a `failure`, that is raised before one of its statements, if it comes to so many."""
        try:
            with self.database.failing(self.randomness.randint(1, STATEMENTS_MAX), failure) if failure else nullcontext():
                answer = call(self.app, request)
        except ServerCrash as crash:
            raise ProtocolError("the server died") from crash
        if answer.status == UNEXPECTED:
            raise RuntimeError(f"the server failed at {request.path}: {answer.body.decode()}")
        if answer.status == _BUSY and b"first_syncs_busy" in answer.body:
            self.met["first sync refused"] += 1
        if self.later_server and answer.status == 200:
            self.met["answer of a later server"] += 1
            headers = {name: value for name, value in answer.headers.items() if name not in ("Content-Encoding", "Content-Length")}
            return Answer(200, headers, said_later(decompress(answer.body, answer.headers.get("Content-Encoding", ""))))
        return answer


def _time_out(request: Request) -> NoReturn:
    raise ReadTimeoutError(None, request.path, "no answer")  # type: ignore[arg-type]  # there is no pool


def call(app: Callable[..., Any], request: Request) -> Answer:
    """What a WSGI application answers (PEP 3333)."""
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]], failure: Any = None) -> None:
        started[:] = [int(status[:3]), dict(headers)]

    environ = {
        "REQUEST_METHOD": request.method, "PATH_INFO": request.path, "QUERY_STRING": "", "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1", "SERVER_PORT": "8751", "HTTP_HOST": "127.0.0.1:8751", "REMOTE_ADDR": "127.0.0.1",
        "wsgi.version": (1, 0), "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(request.body), "wsgi.errors": io.StringIO(),
        "wsgi.multithread": False, "wsgi.multiprocess": False, "wsgi.run_once": False,
        "CONTENT_TYPE": request.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(request.length),
    }  # fmt: skip
    environ |= {"HTTP_" + name.upper().replace("-", "_"): value for name, value in request.headers.items()}
    chunks = app(environ, start_response)
    try:
        body = b"".join(chunks)
    finally:
        chunks.close()
    return Answer(started[0], started[1], body)


class SimulatedGateway(HttpGateway):
    """The product's gateway over this network; `spend` takes a moment of the device's life before a request and after its answer."""

    def __init__(self, network: Network, name: str, spend: Callable[[], None]) -> None:
        super().__init__(URL)
        self._network, self._name, self._spend = network, name, spend

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str], timeout: object) -> urllib3.BaseHTTPResponse:
        self._spend()
        answer = self._network.send(self._name, Request(method, path, headers, body or b"", len(body or b"")))
        self._spend()
        return urllib3.HTTPResponse(
            io.BytesIO(answer.body), answer.headers, answer.status, preload_content=False, decode_content=False, request_method=method
        )
