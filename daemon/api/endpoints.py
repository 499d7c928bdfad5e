"""What an endpoint of the localhost API is, and what a handler gets and gives.

Each module in `routes` declares its endpoints in one table. The application is built from these tables (app.py) and so is the OpenAPI
document (openapi.py): an endpoint that is not declared does not exist, and one that is declared is documented.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import msgspec

from daemon.access.apps import App
from daemon.access.local_access import LocalAccess
from daemon.bundles.spool import SpooledBundles
from daemon.database import DeviceDatabase
from daemon.identity.device import DeviceIdentity
from daemon.learning.engine import Engine
from daemon.process.tally import Tally
from daemon.records import LocalRecords
from daemon.sync.on_demand import SyncOnDemand
from daemon.sync.round import RoundResult, SyncStatus
from daemon.sync.verify import Verified
from domain.clock import Clock
from domain.errors import CarrelError, NotFound, NotSignedIn
from domain.ids import Id, parse_id


class ApiSettings(Protocol):
    """The part of the device's settings that the API keeps to (daemon/config.py)."""

    @property
    def body_bytes_max(self) -> int: ...

    @property
    def requests_per_s(self) -> float: ...


class Enrolment(Protocol):
    """Which device of which school this is (daemon/identity/enrolment.py): None before `enrol` has redeemed a one-time code.

    `enrol` raises CloudUnreachable, Conflict and InvalidInput.
    """

    def current(self) -> DeviceIdentity | None: ...

    def enrol(self, cloud_url: str, code: str, name: str) -> DeviceIdentity: ...


@dataclass(frozen=True, slots=True)
class Device:
    """What the API works with, made by whoever starts the daemon. `sync_state` and `notices` must be cheap: every `GET status` asks them.

    `notices` gives sentences for the person who looks after the machine. `verify` compares this device with its school, contents as well if
    asked; None when that takes longer than a request waits. `bundles` are those whose bodies lie in the state folder.
    `tally` is what `/metrics` tells of this process.
    """

    database: DeviceDatabase
    records: LocalRecords
    identity: Enrolment
    sync_state: Callable[[], SyncStatus]
    notices: Callable[[], Sequence[str]]
    sync: SyncOnDemand[RoundResult]
    verify: Callable[[bool], Verified | None]
    bundles: SpooledBundles
    settings: ApiSettings
    clock: Clock
    access: LocalAccess
    engine: Engine
    tally: Tally = field(default_factory=Tally)


_WANTED = {
    "app": "the token of an app",
    "page": "the device page",
    "student": "a student's session",
    "control": "the control token of the daemon",
}


class Access(Enum):
    """Who may call an endpoint. Apps come with a token of their own, students with a session's, the command line with the control token; the
    device page, which the daemon serves itself, with none."""

    OPEN = "open"
    APP = "app"
    APP_OR_PAGE = "app_or_page"
    STUDENT = "student"
    CONTROL = "control"
    APP_OR_CONTROL = "app_or_control"
    STUDENT_OR_CONTROL = "student_or_control"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of caller that are taken: `app`, `page`, `student`, `control`."""
        return () if self is Access.OPEN else tuple(self.value.split("_or_"))

    @property
    def wanted(self) -> str:
        """The same in words, for a refusal."""
        return " or ".join(_WANTED[kind] for kind in self.kinds)


class Input(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything a caller may send: a body, one of its parts, or the query."""


class NoQuery(Input, frozen=True):
    """An endpoint without query parameters."""


@dataclass(slots=True)
class Call:
    """One request, checked: the caller may call, `query` and `body` are of the declared types and within the registry's limits."""

    device: Device
    student: Id | None = None
    app: App | None = None
    query: Any = None
    body: Any = None
    args: Mapping[str, str] = field(default_factory=dict)

    @property
    def access(self) -> LocalAccess:
        """Who may use the API, for the endpoints that manage it."""
        return self.device.access

    @property
    def student_id(self) -> Id:
        """The signed-in student. Raises NotSignedIn where an endpoint asks for one without demanding a session."""
        if self.student is None:
            raise NotSignedIn()
        return self.student

    @property
    def row_id(self) -> Id:
        """The id in the path. Raises NotFound when it is not one."""
        try:
            return parse_id(self.args["id"])
        except ValueError:
            raise NotFound() from None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler gives: a struct (or ready bytes of the endpoint's media type, or None for no body), a status, headers."""

    body: msgspec.Struct | bytes | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


BodyReader = Callable[[bytes], Any]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method of one path below /v1, or `at_root`.

    `answers` maps each status of success to the type of its body. `errors` are the refusals of this endpoint beyond those that every
    endpoint has and those that follow from its access, query, body and path (openapi.py). `body` is the type of the body; `read_body` decodes
    it where the type alone does not say how.
    """

    method: str
    path: str
    handler: Callable[[Call], Answer]
    summary: str
    answers: Mapping[int, Any]
    access: Access = Access.STUDENT
    query: type[Input] = NoQuery
    body: Any = None
    body_optional: bool = False
    read_body: BodyReader | None = None
    errors: tuple[type[CarrelError], ...] = ()
    at_root: bool = False
    media: str = "application/json"

    @property
    def name(self) -> str:
        """A name of its own: `get_plan_items`, from the method and the words of the path."""
        words = [w for w in self.path.replace(".", "/").split("/") if w and not w.startswith("<")]
        suffix = ["one"] if self.path.endswith(">") and self.method == "GET" else []
        return "_".join([self.method.lower(), *words, *suffix])
