"""The network of a simulation: the server's own code called in process, with the faults that a seed asks for.

Requests and answers go through their bytes, as over HTTP. What can happen to a request: it is lost, its answer is lost after the server settled it, it is
delivered twice, or it stays on the way and arrives much later, when nobody waits for its answer any more.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cloud_api.database import CloudDatabase
from cloud_api.sync.batch import decode_push
from cloud_api.sync.head import read_head
from cloud_api.sync.pull import give_page
from cloud_api.sync.push import PushReceiver
from domain.clock import Clock
from domain.errors import CarrelError, CloudUnreachable
from domain.wire import EnrolAnswer, EnrolRequest, HeadAnswer, PullAnswer, PullRequest, PushAnswer, PushRequest, from_json, to_json

POLL_AFTER_S = 30.0
# How often a request meets a fault while faults are on.
FAULT_SHARE = 0.25

T = TypeVar("T")


class ServerCrash(Exception):
    """The server dies in the middle of a transaction."""


@dataclass
class Network:
    """Between all devices and the server. `faults` switches; `late` holds requests that are still on their way."""

    database: CloudDatabase
    receiver: PushReceiver
    clock: Clock
    randomness: random.Random
    faults: bool = True
    late: list[tuple[str, PushRequest]] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    def push(self, token: str, request: PushRequest) -> PushAnswer:
        request = from_json(to_json(request), PushRequest)
        match self._fault("lost", "answer lost", "twice", "late", "server crash"):
            case "lost":
                raise CloudUnreachable("offline", "lost")
            case "late":
                self.late.append((token, request))
                raise CloudUnreachable("timeout", "late")
            case "server crash":
                self._crash_in_the_middle(token, request)
                raise CloudUnreachable("server_error", "crashed", 500)
            case "answer lost":
                self._settle(token, request)
                raise CloudUnreachable("timeout", "answer lost")
            case "twice":
                self._settle(token, request)
        return from_json(to_json(self._settle(token, request)), PushAnswer)

    def pull(self, token: str, request: PullRequest) -> PullAnswer:
        request = from_json(to_json(request), PullRequest)
        if self._fault("lost", "answer lost"):
            raise CloudUnreachable("timeout", "lost")

        def give() -> PullAnswer:
            with self.database.transaction(snapshot=True) as cursor:
                return give_page(cursor, token, request, self.clock, POLL_AFTER_S)

        return from_json(to_json(_as_http(give)), PullAnswer)

    def head(self, token: str, etag: str | None) -> tuple[HeadAnswer, str] | None:
        if self._fault("lost"):
            raise CloudUnreachable("offline", "lost")

        def look() -> Any:
            with self.database.transaction() as cursor:
                return read_head(cursor, token, self.clock, POLL_AFTER_S)

        found = _as_http(look)
        return None if found.etag == etag else (found.answer, found.etag)

    def deliver_late(self) -> None:
        """Lets the requests on the way arrive, in any order; nobody reads the answers."""
        self.randomness.shuffle(self.late)
        while self.late:
            token, request = self.late.pop()
            try:
                self._settle(token, request)
            except CloudUnreachable:
                self._count("late refused")

    def _settle(self, token: str, request: PushRequest) -> PushAnswer:
        return _as_http(lambda: self.database.retrying(lambda cursor: self.receiver.receive(cursor, token, decode_push(request))))

    def _crash_in_the_middle(self, token: str, request: PushRequest) -> None:
        try:
            with self.database.transaction() as cursor:
                self.receiver.receive(_Crashing(cursor, self.randomness.randrange(1, 12)), token, decode_push(request))
                raise ServerCrash
        except (ServerCrash, CarrelError):
            pass

    def _fault(self, *kinds: str) -> str | None:
        if not self.faults or self.randomness.random() >= FAULT_SHARE:
            return None
        kind = self.randomness.choice(kinds)
        self._count(kind)
        return kind

    def _count(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1


class _Crashing:
    """A cursor whose server dies at its n-th statement."""

    def __init__(self, cursor: Any, statements: int) -> None:
        self._cursor, self._left = cursor, statements

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def execute(self, *arguments: Any) -> Any:
        self._spend()
        return self._cursor.execute(*arguments)

    def copy_expert(self, *arguments: Any) -> Any:
        self._spend()
        return self._cursor.copy_expert(*arguments)

    def _spend(self) -> None:
        self._left -= 1
        if self._left <= 0:
            raise ServerCrash


def _as_http(work: Callable[[], T]) -> T:
    """The server's refusals as the device's gateway reports them."""
    try:
        return work()
    except CarrelError as error:
        reason = {401: "unauthorised", 403: "unauthorised", 413: "too_large"}.get(error.status, "refused")
        if error.status >= 500:
            reason = "server_error"
        raise CloudUnreachable(reason, error.message, error.status, None, error.code) from error


@dataclass
class SimulatedGateway:
    """One device's way to the network; `crash_at` counts down its requests to the moment at which the device dies."""

    network: Network
    crash: Callable[[], None] = lambda: None

    def push(self, token: str, request: PushRequest) -> PushAnswer:
        self.crash()
        answer = self.network.push(token, request)
        self.crash()
        return answer

    def pull(self, token: str, request: PullRequest) -> PullAnswer:
        self.crash()
        return self.network.pull(token, request)

    def head(self, token: str, etag: str | None) -> tuple[HeadAnswer, str] | None:
        self.crash()
        return self.network.head(token, etag)

    def enrol(self, request: EnrolRequest) -> EnrolAnswer:
        raise CloudUnreachable("refused", "not simulated")

    def abort(self) -> None:
        pass
