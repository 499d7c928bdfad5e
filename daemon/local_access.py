"""Who may use the localhost API, in one place for whoever starts it: apps, launch codes, PINs, sessions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from daemon.apps import Apps
from daemon.database import DeviceDatabase
from daemon.launch_codes import LaunchCodes
from daemon.pins import Pins
from daemon.sessions import Sessions
from daemon.sign_in import SignIn
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
) -> LocalAccess:
    """The access to an open database. `own_origins` are the pages that may speak for this account."""
    apps = Apps(database, clock, ids, app_token, own_origins)
    sessions = Sessions(database, clock, settings.idle_min)
    sign_in = SignIn(database, clock, sessions, Pins(database, state_dir, clock, settings.pin_days), settings.single_student_without_pin)
    return LocalAccess(apps, LaunchCodes(apps, clock), sessions, sign_in, control_token)
