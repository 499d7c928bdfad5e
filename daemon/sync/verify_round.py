"""When device and school are compared: on demand, and once a day when nothing else is to be done."""

from __future__ import annotations

from daemon.database import DeviceDatabase
from daemon.sync import agreement
from daemon.sync.round import RoundResult, SyncRound
from daemon.sync.verify import Verified, Verifier
from domain.agreement import Result, is_due
from domain.clock import Clock
from domain.errors import CloudUnreachable

# States of sync in which a comparison can say something (daemon/sync/round.py, SyncStatus).
QUIET_STATES = ("synced", "rejected", "differs")


class VerifyRound:
    """Verifies right after a sync round, so that both sides speak of the same moment."""

    def __init__(self, rounds: SyncRound, verifier: Verifier, database: DeviceDatabase, clock: Clock) -> None:
        self._rounds, self._verifier, self._database, self._clock = rounds, verifier, database, clock

    def run(self, *, content: bool = False) -> Verified:
        """A round and a verification. Inconclusive, with a message, when either does not get through."""
        try:
            done = self._rounds.while_in_sync(lambda gateway, identity: self._verifier.verify(gateway, identity, content=content))
        except CloudUnreachable as failure:
            return Verified(Result.INCONCLUSIVE, message=failure.message)
        if isinstance(done, RoundResult):
            return Verified(Result.INCONCLUSIVE, message=done.message)
        return done

    def run_if_due(self) -> Verified | None:
        """The daily verification; None when it is not due, or when there are other things to do first."""
        with self._database.read() as conn:
            last = agreement.last_verify(conn)
        if not is_due(self._clock.now_ms(), last.at_ms, last.result) or self._rounds.status().state not in QUIET_STATES:
            return None
        return self.run()
