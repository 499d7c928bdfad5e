"""The one error tree.

    CarrelError
    ├── InvalidInput             what a caller sent is wrong; carries every problem found, with its path
    │   ├── MalformedJson
    │   ├── UnsupportedMediaType
    │   ├── UnsupportedProtocol
    │   └── BodyTooLarge
    ├── NotSignedIn              no session, or no valid one
    ├── Forbidden
    ├── NotFound
    │   └── MethodNotAllowed
    ├── TooSlow                  the request did not arrive in time
    ├── Conflict
    │   ├── ImmutableRow         the id exists with other content
    │   ├── PlanSuperseded       what is marked is of an older plan
    │   └── SyncRefused          the server does not accept this device's place in its log or feed (`fork`, `behind`, `ahead`, `too_old`)
    ├── BundleRefused            a bundle that is not taken, with nothing changed
    ├── Unavailable              try again later; carries the seconds to wait
    │   ├── RateLimited
    │   └── FirstSyncsBusy
    ├── StorageFull
    ├── CloudUnreachable         raised on the device: no usable answer from the cloud API
    └── OperatorError            a person at a terminal must act; the message says what to do
        ├── InvalidConfig
        ├── AlreadyRunning
        ├── SchemaError          migrations: unknown, altered or newer schema
        ├── PostgresUnavailable
        └── NotEnrolled

`code` is stable and public (docs/errors.md); `status` is the HTTP status under which the two APIs answer it; `exit_code` is what a
command ends with. Names, answers and secrets never enter a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple


class Problem(NamedTuple):
    """One thing wrong with an input: where (`$.attempts[3].confidence`), a stable code, and a sentence."""

    path: str
    code: str
    message: str


class CarrelError(Exception):
    """Something went wrong in Carrel."""

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])

    @property
    def message(self) -> str:
        return str(self.args[0])


class InvalidInput(CarrelError):
    """The request does not say what it must."""

    code = "invalid"
    status = 422
    exit_code = 2

    def __init__(self, problems: Sequence[Problem], message: str | None = None) -> None:
        super().__init__(message or (problems[0].message if len(problems) == 1 else f"{len(problems)} things are wrong with the request."))
        self.problems = tuple(problems)


class MalformedJson(InvalidInput):
    """The body is not valid JSON."""

    code = "malformed_json"
    status = 400


class UnsupportedMediaType(InvalidInput):
    """The body must be sent as application/json."""

    code = "unsupported_media_type"
    status = 415

    def __init__(self, message: str | None = None) -> None:
        super().__init__((), message or "The body must be sent as application/json.")


class UnsupportedProtocol(InvalidInput):
    """This server does not speak that version of the sync protocol."""

    code = "unsupported_protocol"


class BodyTooLarge(InvalidInput):
    """The body is larger than the limit."""

    code = "body_too_large"
    status = 413

    def __init__(self, limit_bytes: int) -> None:
        super().__init__((), f"The body is larger than the limit of {limit_bytes} bytes.")


class TooSlow(CarrelError):
    """The request did not arrive in time, for a machine that slept in the middle of it perhaps: send it again."""

    code = "too_slow"
    status = 408
    retryable = True


class NotSignedIn(CarrelError):
    """A valid token is needed: sign in first."""

    code = "not_signed_in"
    status = 401


class Forbidden(CarrelError):
    """This is not allowed here."""

    code = "forbidden"
    status = 403

    def __init__(self, message: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        if code:
            self.code = code  # type: ignore[misc]  # a more exact public code for the same refusal


class NotFound(CarrelError):
    """There is nothing of that name here."""

    code = "not_found"
    status = 404


class MethodNotAllowed(NotFound):
    """This address does not take that method."""

    code = "method_not_allowed"
    status = 405


class Conflict(CarrelError):
    """The request contradicts what is stored."""

    code = "conflict"
    status = 409


class ImmutableRow(Conflict):
    """An attempt with this id exists with other content; corrections are new attempts.

    `path` says which one of the request.
    """

    code = "immutable"

    def __init__(self, path: str = "$") -> None:
        super().__init__("An attempt with this id exists with other content; corrections are new attempts.")
        self.problems = (Problem(path, self.code, self.message),)


class PlanSuperseded(Conflict):
    """This item is of an older plan: what is marked there counts for nothing any more."""

    code = "plan_superseded"

    def __init__(self, newest_id: str) -> None:
        super().__init__(f"This item is of an older plan. The plan that counts is {newest_id}: GET /v1/plan gives it with its items.")


class SyncRefused(Conflict):
    """The server does not recognise this device's place in its operation log."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # fork | behind | ahead | too_old, docs/protocol.md


class BundleRefused(CarrelError):
    """This bundle is not taken; nothing was changed."""

    code = "bundle_refused"
    status = 409

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # bundle_unknown | bundle_damaged | bundle_too_large | bundle_foreign | bundle_stale


class Unavailable(CarrelError):
    """Not possible right now; try again later."""

    code = "unavailable"
    status = 503
    retryable = True

    def __init__(self, message: str | None = None, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RateLimited(Unavailable):
    """Too many requests; wait before the next."""

    code = "rate_limited"
    status = 429


class FirstSyncsBusy(Unavailable):
    """As many devices as the server lets are fetching everything for the first time: this one's turn comes."""

    code = "first_syncs_busy"


class StorageFull(CarrelError):
    """The disk is full: nothing was written. Free some space and send it again."""

    code = "storage_full"
    status = 507
    retryable = True


class CloudUnreachable(CarrelError):
    """The cloud API gave no usable answer; everything stays queued on this device.

    `reason` is a short stable word for `status` (offline, timeout, not_carrel, bad_answer, server_error, unauthorised, refused,
    too_large, rate_limited, untrusted, stopping, not_enrolled); `http_status` is None when no answer came, `remote_code` is the problem's code if it had one.
    """

    code = "cloud_unreachable"
    status = 502
    retryable = True

    def __init__(
        self, reason: str, message: str, http_status: int | None = None, retry_after_s: float | None = None, remote_code: str = ""
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.http_status = http_status
        self.retry_after_s = retry_after_s
        self.remote_code = remote_code


# What a command ends with that Ctrl-C has ended, as shells say it: 128 and the number of SIGINT.
EXIT_INTERRUPTED = 130


class OperatorError(CarrelError):
    """This needs a person."""

    code = "operator"


class InvalidConfig(OperatorError):
    """The configuration is not valid."""

    code = "invalid_config"
    exit_code = 2

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        lines = "".join(f"\n  {p.path}: {p.message}" for p in problems)
        super().__init__(f"{source} is not valid:{lines}")
        self.problems = tuple(problems)


class AlreadyRunning(OperatorError):
    """Another process owns this state folder."""

    code = "already_running"
    exit_code = 3


class SchemaError(OperatorError):
    """The database's schema is not one this version can work with."""

    code = "schema"
    exit_code = 4


class PostgresUnavailable(OperatorError):
    """No PostgreSQL to work with."""

    code = "postgres_unavailable"
    exit_code = 5


class NotEnrolled(OperatorError):
    """This device is not enrolled: run `carrel enrol URL CODE`."""

    code = "not_enrolled"
    exit_code = 6
