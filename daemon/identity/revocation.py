"""What a device does when the school has revoked it: it lets nobody in any more, and forgets everything where it was told to.

    the school refuses, with an order ──▶ noted on the disk, sessions end ──▶ the process ends and strips the database ──▶ the school is told

The order outlives the process: whoever starts next goes on with it. While something on the device is nowhere else, it is not wiped, unless the
school has said that this does not matter; the school is told how much there is. Enrolling the device again ends the lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from daemon.database import DeviceDatabase
from daemon.durable_file import read_json, replace_json
from daemon.gateway import CloudGateway
from daemon.identity.device import REVOKED_FILE as FILE_NAME
from daemon.identity.device import DeviceIdentity, Identity
from daemon.queue import outbox
from daemon.recovery.journal_file import laid_by
from domain.errors import CloudUnreachable, OperatorError
from domain.wire import ObeyedRequest
from loglines.parts import fields

log = logging.getLogger(__name__)

# The cloud API's codes: lock; wipe when nothing is unsent; wipe in any case.
LOCK, WIPE, WIPE_ALL = "device_revoked", "device_wipe", "device_wipe_all"
ORDERS = (LOCK, WIPE, WIPE_ALL)
# The waits after a wipe that failed, a file that cannot be removed for instance: the first, twice as long each time, the longest.
RETRY_FIRST_MS, RETRY_MAX_MS = 60 * 1000, 6 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Order:
    """What the school has ordered, with what it takes to answer once the database knows nothing any more.

    `wiping`: the process is to end, and strip the database; `wiped`: that is done; `told`: the school knows how things stand. `problem`: why it could
    not be done, for the `failures`th time; until `retry_at_ms` (UTC) a process may go on, and lets nobody in.
    """

    code: str
    cloud_url: str
    token: str
    wiping: bool = False
    wiped: bool = False
    told: bool = False
    problem: str = ""
    failures: int = 0
    retry_at_ms: int = 0

    def is_due(self, now_ms: int) -> bool:
        """Whether the process is to end for the wipe now. A clock that was set back puts it off by no more than the longest wait."""
        return self.wiping and not 0 < self.retry_at_ms - now_ms <= RETRY_MAX_MS

    def after_failure(self, problem: str, now_ms: int) -> Order:
        """The order after a wipe that failed."""
        wait_ms = min(RETRY_FIRST_MS << min(self.failures, 16), RETRY_MAX_MS)
        return replace(self, problem=problem, failures=self.failures + 1, retry_at_ms=now_ms + wait_ms)

    def sentence(self) -> str | None:
        """What a person is to be told of a wipe that fails; None when none has failed."""
        if not self.problem:
            return None
        return f"The school has ordered this device to be wiped, and that fails; nobody can sign in. {self.problem}"


def noted(state_dir: Path) -> Order | None:
    """The order that this device is under; None on one that is not revoked, or that was enrolled again since."""
    values = read_json(state_dir / FILE_NAME)
    return Order(**values) if values else None


def forget(state_dir: Path) -> None:
    """The device was enrolled again, or is wiped and the school knows. Raises OSError."""
    (state_dir / FILE_NAME).unlink(missing_ok=True)


class Obedience:
    """Carries orders out on a device whose database is open."""

    def __init__(self, database: DeviceDatabase, identity: Identity) -> None:
        self._database, self._identity = database, identity

    def obey(self, refusal: CloudUnreachable, gateway: CloudGateway, device: DeviceIdentity) -> None:
        """Does what a refusal of the school's asks of the device that it refused; nothing where it asks for nothing, or this is that device no more.

        Raises OperatorError when it cannot be noted.
        """
        if refusal.remote_code not in ORDERS:
            return
        with self._identity.unchanged(device.device_id) as is_same:
            if not is_same:
                return
            before = noted(self._identity.state_dir)
            order = before if before and before.code == refusal.remote_code else self._lock(refusal.remote_code, device.cloud_url)
            unsent = self._unsent()
            wiping = order.code == WIPE_ALL or (order.code == WIPE and not unsent)
            if wiping and not order.wiping:
                log.warning("the school has ordered this device to be wiped", extra=fields(unsent=unsent))
                _note(self._identity.state_dir, replace(order, wiping=True))
        if not wiping and not order.told and tell(order, gateway, unsent) and not unsent:
            with self._identity.unchanged(device.device_id) as is_same:
                if is_same:
                    _note(self._identity.state_dir, replace(order, told=True))

    def _lock(self, code: str, cloud_url: str) -> Order:
        order = Order(code, cloud_url, self._identity.token())
        _note(self._identity.state_dir, order)
        self._database.write(lambda conn: conn.execute("DELETE FROM student_sessions").rowcount, finishing=True)
        log.warning("the school has revoked this device", extra=fields(order=code))
        return order

    def _unsent(self) -> int:
        with self._database.read() as conn:
            return outbox.nowhere_else(conn) + laid_by(self._database.path)


def wipe_if_ordered(
    state_dir: Path, strip: Callable[[bool], object], gateway_for: Callable[[str], CloudGateway], now_ms: Callable[[], int]
) -> None:
    """Carries out an order to wipe, while nothing has the database open. `strip(discarding_unsent)` empties it; it may be done again.

    What appeared meanwhile and is nowhere else stays, with the device locked, unless the order says that it does not matter. So it does where files
    cannot be removed: that is tried again, after longer and longer, and at every start.
    """
    order = noted(state_dir)
    if order is None or not (order.wiping or order.wiped):
        return
    if not order.wiped:
        try:
            strip(order.code == WIPE_ALL)
        except OperatorError as error:
            log.warning("this device is not wiped", extra=fields(error=error.message))
            unsent = error.__cause__ is None  # refused, rather than failed
            _note(state_dir, replace(order, wiping=False) if unsent else order.after_failure(error.message, now_ms()))
            return
        order = replace(order, wiping=False, wiped=True, problem="")
        _note(state_dir, order)
    try:
        with closing(gateway_for(order.cloud_url)) as gateway:
            if tell(order, gateway, 0):
                forget(state_dir)
    except OperatorError as error:  # the issuers that are to be trusted are gone, perhaps; what is wiped is wiped
        log.warning("the school cannot be told that this device is wiped", extra=fields(error=error.message))


def tell(order: Order, gateway: CloudGateway, unsent: int) -> bool:
    """Tells the school how things stand; whether it knows. What does not arrive is told another time."""
    try:
        gateway.obeyed(order.token, ObeyedRequest(order.wiped, unsent))
    except CloudUnreachable as error:
        log.info("the school does not know yet that this device has obeyed", extra=fields(reason=error.reason))
        return False
    return True


def _note(state_dir: Path, order: Order) -> None:
    try:
        replace_json(state_dir / FILE_NAME, asdict(order))
    except OSError as error:
        raise OperatorError(f"{state_dir / FILE_NAME} cannot be written: {error.strerror}.") from error
