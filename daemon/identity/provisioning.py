"""Enrolment without a person: a file that came with the image, or was put there by an administrator's tool, and is gone once it was used.

    cloud_url = "https://carrel.school.example"
    code = "KQ4M-7TXD-2PFH"                       one code with as many uses as there are laptops (`carrel-cloud enrol-code create --uses 300`)
                                                  and behind a # the server's key, by which it is known without a certificate of an issuer
    name = "Lab 2"                                if the machine's name will not do; the machine's own is added to it

It holds a secret, so it must belong to the daemon's account and be closed to others (0600). Three hundred laptops that are switched on
together do not ask together: each waits for a part of `spread_s` by chance, and after a failure for longer and longer. What fails is said
by `carrel status`, and the file stays.
"""

from __future__ import annotations

import logging
import os
import platform
import random
import stat
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from daemon.identity.device import DeviceIdentity
from daemon.tls import with_key
from domain.clock import Clock
from domain.errors import CarrelError, CloudUnreachable, Forbidden, OperatorError
from migrations.private_files import to_disk

log = logging.getLogger(__name__)

FILE_NAME = "provisioning.toml"
FILE_BYTES_MAX = 16 * 1024
NAME_MAX = 100
# The waits after failures: the first, twice as long each time, the longest; each longer or shorter by up to half.
RETRY_FIRST_S, RETRY_MAX_S = 15.0, 900.0
# A code that the server does not take will hardly be taken later: a person has to put another there.
REFUSED_RETRY_S = 3600.0


class Enrolling(Protocol):
    """What this module needs of daemon/identity/enrolment.py."""

    def current(self) -> DeviceIdentity | None: ...

    def revoked_at_s(self) -> float | None: ...

    def enrol(self, cloud_url: str, code: str, name: str) -> DeviceIdentity: ...


@dataclass(frozen=True)
class Provision:
    """What the file says."""

    cloud_url: str
    code: str
    name: str = ""


class Provisioning:
    """Looks for the file at `path`, and enrols with what it says; `look` is called now and then, by one thread."""

    def __init__(
        self,
        path: Path,
        enrolment: Enrolling,
        clock: Clock,
        spread_s: float,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._path, self._enrolment, self._clock, self._chance = path, enrolment, clock, chance
        self._not_before_ms = clock.monotonic_ms() + spread_s * 1000 * chance()
        self._failures = 0
        self._problem: str | None = None

    def look(self) -> None:
        """Enrols if there is a file, it is time for it, and this is no device yet, or one that was revoked before the file came; removes a file that
        was used.
        """
        if not self._path.is_file():
            self._problem = None
            return
        if self._enrolment.current() is not None and not self._gives_back():
            return
        if self._clock.monotonic_ms() < self._not_before_ms:
            return
        try:
            provision = read(self._path)
            url, code = with_key(provision.cloud_url, provision.code)
            identity = self._enrolment.enrol(url, code, device_name(provision.name))
        except CarrelError as error:
            self._put_off(error)
            return
        log.info("enrolled as the provisioning file says, at %s", identity.school_name)
        self._consumed()

    def notice(self) -> str | None:
        """Why this is no device yet although there is a file, for `status`; None when nothing is wrong."""
        return self._problem

    def _gives_back(self) -> bool:
        """Whether the file is to give a revoked device back into service. One that lay there before would undo what the school has ordered."""
        revoked_at_s = self._enrolment.revoked_at_s()
        if revoked_at_s is None:
            self._consumed()
            return False
        with suppress(OSError):  # not the time of writing, which a copy may keep
            if self._path.stat().st_ctime > revoked_at_s:
                return True
        self._problem = f"The school has revoked this device, and {self._path} was there before: put a new one there to enrol it again."
        return False

    def _put_off(self, error: CarrelError) -> None:
        wait_s = REFUSED_RETRY_S if isinstance(error, Forbidden) else min(RETRY_FIRST_S * 2.0**self._failures, RETRY_MAX_S)
        if isinstance(error, CloudUnreachable) and error.retry_after_s:
            wait_s = max(wait_s, error.retry_after_s)
        self._failures = min(self._failures + 1, 16)
        self._not_before_ms = self._clock.monotonic_ms() + wait_s * 1000 * (0.5 + self._chance())
        self._problem = f"This device could not be enrolled yet as {self._path} says; it is tried again by itself. {error.message}"
        log.warning("enrolment by file failed: %s", error.message)

    def _consumed(self) -> None:
        """The code must not lie about, and a second use of it would be counted."""
        self._problem = None
        try:
            self._path.unlink()
            to_disk(self._path.parent)
        except OSError as error:
            self._problem = f"{self._path} was used and cannot be removed: {error.strerror}. Remove it, for it holds a code."


def read(path: Path) -> Provision:
    """What the file says. Raises OperatorError when it is not closed to other accounts, or says something else."""
    try:
        with path.open("rb") as file:
            state = os.fstat(file.fileno())
            text = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise OperatorError(
            f"The file cannot be read: {error.strerror}. It must belong to the account that the daemon runs under."
        ) from error
    if stat.S_IMODE(state.st_mode) & 0o077 or state.st_uid != os.geteuid():
        raise OperatorError("The file holds a code and must belong to the daemon's account alone: chown it, and chmod it to 0600.")
    values: dict[str, object] = {}
    with suppress(ValueError):  # which an empty table answers too
        values = tomllib.loads(text.decode("utf-8")) if len(text) <= FILE_BYTES_MAX else {}
    known = {name: value for name, value in values.items() if name in ("cloud_url", "code", "name") and isinstance(value, str)}
    if known.keys() != values.keys() or not known.get("cloud_url") or not known.get("code"):
        raise OperatorError('The file must say cloud_url = "https://…" and code = "…", and may say name = "…", and nothing else.')
    return Provision(**{name: str(value) for name, value in known.items()})


def device_name(prefix: str) -> str:
    """What the school calls this device: what the file says, and this machine's name."""
    return " ".join(part for part in (prefix.strip(), platform.node()) if part)[:NAME_MAX] or "unnamed"
