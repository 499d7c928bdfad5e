"""Requests and answers about enrolment, apps, and who has signed in."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from daemon.access.online import PASSWORD_LENGTH_MAX
from daemon.access.pins import PIN_LENGTH_MAX, PIN_LENGTH_MIN
from daemon.access.sign_in import PinNeed
from daemon.api.endpoints import Input
from daemon.api.limits import RowId, limited, one_of
from daemon.api.schemas.paging import Output

URL_LENGTH_MAX = 2_000
ORIGINS_MAX = 20
# As browsers write them: lower case, no path, a port only where it is not the usual one.
ORIGIN_PATTERN = r"^https?://([a-z0-9.-]+|\[[0-9a-f:]+\])(:[0-9]{1,5})?$"
Pin = Annotated[str, Meta(min_length=PIN_LENGTH_MIN, max_length=PIN_LENGTH_MAX, description="Digits, or any other text.")]
Origin = Annotated[str, Meta(pattern=ORIGIN_PATTERN, max_length=URL_LENGTH_MAX, examples=["http://localhost:3000"])]


class NewSession(Input, frozen=True):
    """Who signs in: by one of the two, or without either when only one student is on the device. `pin` where GET /students says `set`; or the
    `password` that the student has at school, which the school is asked about while there is a network, and this device for 30 days after.
    """

    student_id: RowId | None = None
    username: Annotated[str | None, limited("users", "username")] = None
    pin: Annotated[str, Meta(max_length=PIN_LENGTH_MAX)] | None = None
    password: Annotated[str, Meta(max_length=PASSWORD_LENGTH_MAX)] | None = None


class NewPin(Input, frozen=True):
    pin: Pin


class NewApp(Input, frozen=True):
    """A name for people, and the origins that the app's web pages come from, if it has any."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    origins: Annotated[list[Origin], Meta(max_length=ORIGINS_MAX)] = msgspec.field(default_factory=list)


class NewLaunch(Input, frozen=True):
    """Which app, for the command line; without one the account's own. An app launches itself."""

    app_id: RowId | None = None


class Redemption(Input, frozen=True):
    code: Annotated[str, Meta(min_length=1, max_length=100)]


class NewEnrolment(Input, frozen=True):
    """The school's server, a one-time code from it, and a name for this device."""

    cloud_url: Annotated[str, Meta(min_length=1, max_length=URL_LENGTH_MAX)]
    code: Annotated[str, Meta(min_length=1, max_length=100)]
    name: Annotated[str, Meta(min_length=1, max_length=100)]


class Student(Output, frozen=True):
    id: str
    username: str
    display_name: str


class ListedStudent(Student, frozen=True):
    """`pin` says what signing in takes: `set` a PIN, `not_needed` none; with `not_set` and `expired` a teacher must set one first."""

    pin: Annotated[str, one_of(*PinNeed)]


class Students(Output, frozen=True):
    items: list[ListedStudent]


class App(Output, frozen=True):
    id: str
    name: str
    origins: list[str]
    created_at_ms: int


class Apps(Output, frozen=True):
    items: list[App]


class AddedApp(Output, frozen=True):
    """`token` is shown only here."""

    app: App
    token: str


class Launch(Output, frozen=True):
    """`code` goes to a page of one of the origins, which exchanges it within a minute."""

    code: str
    origins: list[str]
    expires_at_ms: int


class PageToken(Output, frozen=True):
    """`token` is for the page's memory, and ends with the daemon."""

    token: str
    app: str
    expires_at_ms: int


class Session(Output, frozen=True):
    """`token` goes into `Authorization: Bearer …`; it is shown only here. `expires_at_ms` moves on with use."""

    token: str
    student: Student
    expires_at_ms: int


class Enrolled(Output, frozen=True):
    device_id: str
    school_id: str
    school_name: str
