"""Who may use the localhost API, in one place for whoever starts it: apps, launch codes, PINs, sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from daemon.access.apps import Apps
from daemon.access.launch_codes import LaunchCodes
from daemon.access.online import SchoolSignIn
from daemon.access.pins import Pins
from daemon.access.sessions import Sessions
from daemon.access.sign_in import SignIn
from daemon.database import DeviceDatabase
from daemon.identity import revocation
from domain.clock import Clock
from domain.ids import IdSource


class SignInSettings(Protocol):
    """The part of the device's settings that signing in keeps to (daemon/config.py)."""

    @property
    def idle_min(self) -> int: ...

    @property
    def pin_days(self) -> int: ...

    @property
    def single_student_without_pin(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class LocalAccess:
    """Apps and their pages, students and their sessions, and the token of the command line."""

    apps: Apps
    launch_codes: LaunchCodes
    sessions: Sessions
    sign_in: SignIn
    control_token: str


def make_access(
    database: DeviceDatabase,
    state_dir: Path,
    clock: Clock,
    ids: IdSource,
    settings: SignInSettings,
    *,
    control_token: str,
    app_token: str,
    own_origins: Sequence[str] = (),
    school: SchoolSignIn | None = None,
) -> LocalAccess:
    """The access to an open database. `own_origins` are the pages that may speak for this account; `school` judges passwords."""
    apps = Apps(database, clock, ids, app_token, own_origins)
    sessions = Sessions(database, clock, settings.idle_min)
    pins = Pins(database, state_dir, clock, settings.pin_days)
    sign_in = SignIn(
        database, clock, sessions, pins, settings.single_student_without_pin, school, lambda: revocation.noted(state_dir) is not None
    )
    return LocalAccess(apps, LaunchCodes(apps, clock), sessions, sign_in, control_token)
