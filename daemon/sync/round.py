"""A sync round: push until the outbox is empty, then pull until the feed is (docs/protocol.md).

    not enrolled ── idle ──▶ push* ──▶ head ──▶ pull* ──▶ idle
                     ▲                   │
                     └── backoff ◀───────┴── no usable answer at any step

A round with nothing to do is one request. Rounds never overlap.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from daemon.database import DeviceDatabase
from daemon.erasure.eraser import Eraser
from daemon.gateway import CloudGateway
from daemon.identity.device import DeviceIdentity, Identity
from daemon.identity.revocation import Obedience
from daemon.process import logs
from daemon.process.tally import Tally
from daemon.queue import outbox
from daemon.sync import agreement
from daemon.sync.backoff import CAP_S, Backoff
from daemon.sync.pull import Puller
from daemon.sync.push import Pushed, Pusher
from daemon.sync.server_time import ServerTime
from domain.agreement import Result
from domain.clock import Clock
from domain.errors import CarrelError, CloudUnreachable, NotEnrolled, NotSignedIn, Unavailable
from domain.ids import Id

log = logging.getLogger(__name__)

T = TypeVar("T")

# Attempts to go on after the server asked for a new incarnation or smaller batches, without anything settled or pulled in between. Halving the largest
# batch down to one operation takes eleven.
FRUITLESS_MAX = 16
# How long a caller waits for a round that is already under way.
ROUND_WAIT_MAX_S = 30.0
UNDER_WAY = "A sync round is under way: try again."
# The last contact is written down at most this often, so that idle rounds leave the disk alone.
CONTACT_STORED_EVERY_MS = 10 * 60 * 1000
# The number of no beginning of a pull: what is remembered of the server's state does not count.
_NO_PULL = -1
TIDY_EVERY_MS = 3_600_000
# The reason of a failure that is none: the server says when this device's turn comes.
WAITING_ITS_TURN = "busy"
# How a round is counted that failed on this side.
FAILED = "internal"


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What a round did. `outcome` is `done`, `backing_off`, `not_enrolled`, `busy`, or the reason why it failed."""

    outcome: str
    pushed: int = 0
    rejected: int = 0
    pulled: int = 0
    message: str | None = None


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """The truth about sync, for `status`. `state` is one of

    `not_enrolled`  there is no school to sync with
    `waiting`       the last round failed (`reason`, `message`); the next comes in `next_attempt_in_s`
    `unknown`       the server was not reached since the daemon started, or everything is to be pulled anew
    `pending`       operations are queued
    `rejected`      nothing is queued, but the school refused operations that wait for a person
    `differs`       a comparison found rows that differ from the school's and that could not be put right
    `synced`        none of the above: everything is at school, and everything from there is here
    """

    state: str
    reason: str | None
    message: str | None
    pending: int
    rejected: int
    last_contact_ms: int | None
    last_push_ms: int | None
    last_pull_ms: int | None
    next_attempt_in_s: float | None
    last_verify_ms: int | None = None
    last_verify_result: str | None = None

    @property
    def differs(self) -> bool:
        """Whether rows are known to differ from the school's."""
        return self.last_verify_result == Result.MISMATCH


class SyncRound:
    """Runs rounds for one device. `gateway_for(url)` opens the way to a cloud API."""

    def __init__(
        self,
        database: DeviceDatabase,
        identity: Identity,
        clock: Clock,
        gateway_for: Callable[[str], CloudGateway],
        jitter: Callable[[], float] = random.random,
        backoff_cap_s: float = CAP_S,
        backups_dir: Path | None = None,
    ) -> None:
        self._database, self._identity, self._clock, self._gateway_for = database, identity, clock, gateway_for
        self._jitter, self._backoff_cap_s = jitter, backoff_cap_s
        self._server_time = ServerTime(clock)
        self._pusher = Pusher(database, identity, clock, self._server_time)
        self._puller = Puller(database, identity, clock, self._server_time)
        self._eraser = Eraser(database, identity, backups_dir)
        self._obedience = Obedience(database, identity)
        self._running = threading.Lock()
        self._backoff = Backoff()
        self._failure: CloudUnreachable | None = None
        self._etag: str | None = None
        self._etag_pulls_begun = 0
        self._gateway: CloudGateway | None = None
        self._gateway_url = ""
        self._last_contact_ms: int | None = None
        self._stored_contact_ms = 0
        self._tidied_ms = 0
        self.tally = Tally()
        self.stopping = threading.Event()
        self.poll_after_s: float | None = None

    def run(self, *, forced: bool = False) -> RoundResult:
        """One round. Unless `forced`, nothing is tried before the backoff after a failure has passed."""
        identity = self._identity.current()
        if identity is None:
            return RoundResult("not_enrolled", message=NotEnrolled().message)
        if not forced and self._clock.monotonic_ms() < self._backoff.until_ms:
            return RoundResult("backing_off", message=self._failure.message if self._failure else None)
        if not self._running.acquire(timeout=ROUND_WAIT_MAX_S if forced else 0):
            return RoundResult("busy", message=UNDER_WAY)
        try:
            with logs.bound(round=logs.new_id()):
                return self._run()
        finally:
            self._running.release()

    def while_in_sync(self, act: Callable[[CloudGateway, DeviceIdentity], T]) -> T | RoundResult:
        """Has `act` done right after a round that brought everything here and there, and before any other. What it raises is raised here.

        The round's result, with nothing done, when it did not end well or another one is under way for longer than a caller waits.
        """
        if self._identity.current() is None:
            return RoundResult("not_enrolled", message=NotEnrolled().message)
        if not self._running.acquire(timeout=ROUND_WAIT_MAX_S):
            return RoundResult("busy", message=UNDER_WAY)
        try:
            with logs.bound(round=logs.new_id()):
                result = self._run()
                return act(*self._way()) if result.outcome == "done" else result
        finally:
            self._running.release()

    def between_rounds(self, act: Callable[[], T]) -> T:
        """Has `act` done while no round is under way. Raises Unavailable when one goes on for longer than a caller waits."""
        if not self._running.acquire(timeout=ROUND_WAIT_MAX_S):
            raise Unavailable(UNDER_WAY)
        try:
            return act()
        finally:
            # A bundle may be of before a grant that this device has heard of: whether scopes are as they should be is asked anew.
            self._etag_pulls_begun = _NO_PULL
            self._running.release()

    def server_now_ms(self) -> int | None:
        """The server's time as this process has heard it, UTC ms; None while it has heard nothing."""
        return self._server_time.now_ms()

    def _run(self) -> RoundResult:
        began_ms, outcome, result = self._clock.monotonic_ms(), FAILED, None
        try:
            result = self._steps()
            outcome = result.outcome
        finally:
            done = result or RoundResult(outcome)
            self.tally.round_ended(outcome, (self._clock.monotonic_ms() - began_ms) / 1000, done.pushed, done.rejected, done.pulled)
        return result

    def _steps(self) -> RoundResult:
        device = self._identity.current()
        pushed = rejected = pulled = 0
        try:
            self._erase()  # what an earlier round, or a bundle, has ordered
            for batch in self._push_all():
                self._failure = None
                pushed, rejected = pushed + batch.operations, rejected + batch.rejected
            for rows in self._pull_all():
                self._failure = None
                pulled += rows
            if self._erase():
                pulled += sum(self._pull_all())
            self._tidy()
        except CloudUnreachable as failure:
            now = self._identity.current()
            # Enrolled anew meanwhile, it is not meant: the school said this of what it was before.
            if device and now and now.device_id == device.device_id:
                self._note_failure(failure)
                self._heed(failure, device)
            return RoundResult(failure.reason, pushed, rejected, pulled, failure.message)
        except Exception as error:
            # Not the way to the school but this device: `status` must not go on saying that all is well.
            self._note_failure(_failure_here(error))
            raise
        self._note_success()
        return RoundResult("done", pushed, rejected, pulled)

    def _erase(self) -> bool:
        """Carries out orders to erase a student; whether there was one. One that cannot be carried out now waits for the next round, and stops nothing."""
        try:
            erased = self._eraser.carry_out()
        except CarrelError as error:
            log.warning("an erasure has to wait: %s", error.message)
            return False
        if erased:
            self._etag = None  # the next pull tells the school, whether or not there is news
        return erased

    def _push_all(self) -> Iterator[Pushed]:
        fruitless, pulls_begun = 0, self._identity.pulls_begun
        # A server that loses again and again what it has acknowledged would be sent everything for ever.
        while fruitless < FRUITLESS_MAX and self._identity.pulls_begun - pulls_begun < FRUITLESS_MAX:
            fruitless += 1
            for pushed in self._pusher.push_all(*self._way()):
                fruitless = 0
                yield pushed
                if self.stopping.is_set():
                    return
            if not self._pusher.has_pending():
                return
        raise CloudUnreachable("refused", "The school's server refuses this device's operations again and again.")

    def _pull_all(self) -> Iterator[int]:
        gateway, device = self._way()
        pulls_begun = self._identity.pulls_begun
        if pulls_begun != self._etag_pulls_begun:
            self._etag = None
        found = gateway.head(self._identity.token(), self._etag)
        self.poll_after_s = gateway.poll_after_s
        if found is None:
            return
        answer, etag = found
        self._server_time.heard(answer.server_time_ms)
        if answer.token_due:
            self._renew_token(gateway, device.device_id)
        fruitless = 0
        while fruitless < FRUITLESS_MAX and self._identity.pulls_begun - pulls_begun < FRUITLESS_MAX:
            fruitless += 1
            more, begun = False, self._identity.pulls_begun
            for pulled in self._puller.pull_all(*self._way()):
                more = pulled.more
                if pulled.rows:
                    fruitless = 0
                yield pulled.rows
                if self.stopping.is_set():
                    return
            if not more:
                self._etag, self._etag_pulls_begun = etag, begun
                return
        raise CloudUnreachable("refused", "The school's server sends pages again and again that lead nowhere.")

    def _renew_token(self, gateway: CloudGateway, device_id: Id) -> None:
        """The token has grown old. What goes wrong here is tried again with the next poll; the present token stays valid until then."""
        try:
            self._identity.renew_token(gateway.renew_token(self._identity.token()).token, device_id)
        except (CloudUnreachable, OSError) as error:
            log.warning("the token was not renewed: %s", type(error).__name__)

    def _heed(self, failure: CloudUnreachable, device: DeviceIdentity) -> None:
        """What a refusal asks of the device that it refused, beyond waiting: another token, or to lock itself or be wiped."""
        try:
            if failure.http_status == NotSignedIn.status and self._identity.try_other_token(device.device_id):
                log.info("the school does not know the token; trying the one before it")
            gateway, _ = self._way()
            self._obedience.obey(failure, gateway, device)
        except (CarrelError, OSError) as error:
            log.warning("what the school has ordered could not be done: %s", error)

    def _tidy(self) -> None:
        """Removes operations that need no longer be kept, once in a while. How long they were kept is told by the server's clock."""
        now_ms = self._server_time.now_ms()
        if now_ms is not None and not 0 <= now_ms - self._tidied_ms < TIDY_EVERY_MS:
            self._tidied_ms = now_ms
            self._database.write(lambda conn: outbox.prune(conn, outbox.durable_op_no(conn), now_ms), finishing=True)

    def _way(self) -> tuple[CloudGateway, DeviceIdentity]:
        """The gateway to the server that this device is enrolled at now, and the identity it has there."""
        identity = self._identity.current()
        if identity is None:
            raise CloudUnreachable("not_enrolled", "This device is not enrolled.")
        if self._gateway is None or self._gateway_url != identity.cloud_url:
            self._gateway, self._gateway_url, self._etag = self._gateway_for(identity.cloud_url), identity.cloud_url, None
        return self._gateway, identity

    def _note_failure(self, failure: CloudUnreachable) -> None:
        self._etag = None
        self._failure = failure
        now_ms = self._clock.monotonic_ms()
        if failure.reason == WAITING_ITS_TURN and failure.retry_after_s is not None:
            self._backoff = self._backoff.after_refused_turn(now_ms, failure.retry_after_s, self._jitter)
        else:
            self._backoff = self._backoff.after_failure(now_ms, failure.retry_after_s, self._jitter, self._backoff_cap_s)
        log.info("sync failed reason=%s failures=%d wait_ms=%d", failure.reason, self._backoff.failures, self._backoff.until_ms - now_ms)

    def _note_success(self) -> None:
        if self._failure is not None:
            log.info("sync recovered after failures=%d", self._backoff.failures)
        self._failure, self._backoff = None, Backoff()
        now_ms = self._clock.now_ms()
        self._last_contact_ms = now_ms
        if not 0 <= now_ms - self._stored_contact_ms < CONTACT_STORED_EVERY_MS:
            self._stored_contact_ms = now_ms
            self._database.write(lambda conn: outbox.note_contact(conn, now_ms), finishing=True)

    def status(self) -> SyncStatus:
        """Where sync stands now, from the database and the last round."""
        failure, backoff = self._failure, self._backoff
        with self._database.read() as conn:
            counts = outbox.counts(conn)
            contacts = outbox.contacts(conn)
            verified = agreement.last_verify(conn)
        waits_ms = backoff.until_ms - self._clock.monotonic_ms()
        return SyncStatus(
            state=self._state(counts, failure, verified),
            reason=failure.reason if failure else None,
            message=failure.message if failure else None,
            pending=counts.pending,
            rejected=counts.rejected,
            last_contact_ms=self._last_contact_ms or contacts.last_contact_ms,
            last_push_ms=contacts.last_push_ms,
            last_pull_ms=contacts.last_pull_ms,
            next_attempt_in_s=max(0.0, waits_ms / 1000) if failure else None,
            last_verify_ms=verified.at_ms,
            last_verify_result=verified.result,
        )

    def _state(self, counts: outbox.Counts, failure: CloudUnreachable | None, verified: agreement.LastVerify) -> str:
        if self._identity.current() is None:
            return "not_enrolled"
        if failure is not None:
            return "waiting"
        if counts.pending:
            return "pending"
        if self._etag is None or self._etag_pulls_begun != self._identity.pulls_begun:
            return "unknown"
        if counts.rejected:
            return "rejected"
        return "differs" if verified.result == Result.MISMATCH else "synced"

    def forgive(self) -> None:
        """Forgets the wait after the last failure, because what it failed for is over."""
        self._backoff = Backoff()

    def abort(self) -> None:
        """Makes a round that is under way end soon; called when the daemon stops."""
        self.stopping.set()
        gateway = self._gateway
        if gateway is not None:
            gateway.abort()


def _failure_here(error: Exception) -> CloudUnreachable:
    """What `status` says of a round that failed on this side, such as `storage_full`."""
    if isinstance(error, CarrelError):
        return CloudUnreachable(error.code, error.message)
    return CloudUnreachable(CarrelError.code, "Something went wrong on this device; its log says more.")
