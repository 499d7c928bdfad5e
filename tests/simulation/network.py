"""The network of a simulation: requests of the product's own gateway, handed to the product's own WSGI application, with the faults that a seed asks for.

What can happen to a request: it is lost; the server is busy, or dies at one of its statements; the answer is lost, cut short, or replaced by a
captive portal's; it is delivered twice; it stays on the way and arrives much later, in another order, when nobody waits for its answer any more. And
while it is on its way, something else may happen on the device or at school.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import urllib3
from urllib3.exceptions import NewConnectionError, ProtocolError, ReadTimeoutError

from cloud_api.routes.problems import CONTENT_TYPE as PROBLEM_TYPE
from daemon.gateway import HttpGateway
from domain.wire import decompress
from tests.simulation.cloud import ServerCrash, SimulatedCloud
from tests.simulation.skew import said_later

URL = "http://127.0.0.1:8751"
# A push of one run takes a dozen statements, one with something to sort out some more.
STATEMENTS_MAX = 25
_PUSH = ("lost", "late", "busy", "server crash", "answer lost", "answer broken off", "answer cut", "portal", "twice")
_READ = ("lost", "busy", "answer lost", "answer broken off", "answer cut", "portal")


@dataclass(frozen=True, slots=True)
class Request:
    """One request as it is sent."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

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
    holds those that are still on their way.

    `meanwhile(name)` is called while a request of the device of that name is under way, as often as faults are. With `later_server` the answers say
    things that only a later version understands.
    """

    app: Callable[..., Any]
    database: SimulatedCloud
    randomness: random.Random
    fault_share: float
    meanwhile: Callable[[str], None]
    later_server: bool = False
    late: list[Request] = field(default_factory=list)

    def send(self, name: str, request: Request) -> Answer:
        """The answer to a request of the device of that name. Raises urllib3's errors."""
        share = self.fault_share if request.writes else self.fault_share / 2
        if self.randomness.random() < share:
            self.meanwhile(name)
        if self.randomness.random() >= share:
            return self._deliver(request)
        fault = self.randomness.choice(_PUSH if request.writes else _READ)
        return self._deliver_badly(request, fault)

    def _deliver_badly(self, request: Request, fault: str) -> Answer:
        if fault == "lost":
            raise NewConnectionError(None, "lost")  # type: ignore[arg-type]  # there is no connection
        if fault == "late":
            self.late.append(request)
            _time_out(request)
        if fault == "busy":
            return Answer(503, {"Content-Type": PROBLEM_TYPE, "Retry-After": "7"}, b'{"code": "unavailable"}')
        if fault == "server crash":
            self.database.statements_left = self.randomness.randint(1, STATEMENTS_MAX)
        if fault == "twice":
            self._deliver(request)
        answer = self._deliver(request)
        if fault == "answer lost":
            _time_out(request)
        if fault == "answer broken off":
            raise ProtocolError("broken off")
        if fault == "portal":
            return Answer(200, {"Content-Type": "text/html"}, b"<p>Welcome to our network")
        if fault == "answer cut":
            return self._cut(answer)
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
        for request in arriving:
            self._deliver(request)

    def _deliver(self, request: Request) -> Answer:
        try:
            answer = call(self.app, request)
        except ServerCrash as crash:
            raise ProtocolError("the server died") from crash
        finally:
            self.database.statements_left = None
        if self.later_server and answer.status == 200:
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
        "CONTENT_TYPE": request.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(request.body)),
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

    def _request(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
        self._spend()
        answer = self._network.send(self._name, Request(method, path, headers, body or b""))
        self._spend()
        return urllib3.HTTPResponse(
            io.BytesIO(answer.body), answer.headers, answer.status, preload_content=False, decode_content=False, request_method=method
        )
