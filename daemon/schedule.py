"""What the daemon does by itself, and when: which job follows from which event.

sync      every poll interval; soon after a local change; when a backoff ends; when the clock jumped
verify    looked at every quarter of an hour or two, done once a day when all is synced
integrity asked about once a day; the file is looked through when that was not done for a week
backup    looked at every quarter of an hour, made when the newest is a day old
mastery   every few seconds, for the students whose attempts changed
plans     every ten minutes or so, for the students who study and whose plan is not of today
inbox     when a file event says so, and every minute; again soon while a file is still being written
config    when a file event says so, and every minute
enrolment looked for a provisioning file every few seconds
watches   with the heartbeat: watches on folders that were replaced are set again
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from daemon.config import DeviceConfig
from daemon.importer import is_dropped_name
from daemon.jobs import Debounce, Job, Jobs
from daemon.process.live_config import LiveConfig
from daemon.sync.round import RoundResult, SyncStatus
from daemon.watcher import Watched, Watcher
from domain.clock import Clock
from loglines.parts import fields

log = logging.getLogger(__name__)

# Programs save a file in several steps; it is read when they are over.
CONFIG_PAUSE_MS = 400
# A round that somebody asked for by hand is under way: what was written meanwhile is looked after when it is over.
BUSY_RETRY_S = 1.0
# The server may ask for a slower pace, up to this.
POLL_MAX_S = 3600.0
# How often it is looked whether a comparison with the school is due. Half of that is chance, so that a school's devices do not compare all at once.
VERIFY_LOOK_S = 900.0
VERIFY_LOOK_JITTER = 1.0
# The file itself says when it was looked through last (daemon/recovery/integrity.py).
INTEGRITY_LOOK_S = 24 * 3600.0
# How often it is looked whether a backup is due, up to half of that later by chance; a laptop may be on for half an hour a day.
BACKUP_LOOK_S = 600.0
BACKUP_LOOK_JITTER = 0.5
# How often it is looked for a provisioning file (daemon/identity/provisioning.py).
PROVISIONING_LOOK_S = 5.0
# How often it is looked whether a plan is of another day; not all of a school's devices at once.
PLANS_LOOK_S = 600.0
PLANS_LOOK_JITTER = 0.5
# How long each of the schedule's own threads may take to end.
THREAD_STOP_S = 0.2


class Round(Protocol):
    """What the schedule needs of a sync round (daemon/sync/round.py)."""

    @property
    def poll_after_s(self) -> float | None: ...

    def run(self, *, forced: bool = False) -> RoundResult: ...

    def status(self) -> SyncStatus: ...


@dataclass(frozen=True)
class Tasks:
    """What is to be done; the schedule decides when. `look_into_inbox` returns whether it should be done again soon."""

    sync: Round
    refresh_mastery: Callable[[], object]
    look_into_inbox: Callable[[], bool]
    reload_config: Callable[[], object]
    verify_if_due: Callable[[], object] = lambda: None
    look_through_if_due: Callable[[], object] = lambda: None
    replan_due: Callable[[], object] = lambda: None
    back_up_if_due: Callable[[], object] = lambda: None
    look_for_provisioning: Callable[[], object] = lambda: None


class Schedule:
    """Runs the tasks between `start` and `stop`; follows the live settings."""

    def __init__(self, tasks: Tasks, live: LiveConfig, clock: Clock) -> None:
        self._tasks = tasks
        self._live = live
        config = live.current
        self._poll = (config.sync.poll_s, config.sync.jitter)
        self._sync_soon = Debounce(lambda: self._jobs.pull_forward("sync"), lambda: live.current.sync.debounce_ms, "sync-debounce")
        self._config_soon = Debounce(lambda: self._jobs.pull_forward("config"), lambda: CONFIG_PAUSE_MS, "config-debounce")
        self._watcher = Watcher(self._watched(config))
        rescan_s = config.jobs.rescan_s
        self._jobs = Jobs(
            [
                Job("sync", self._sync, *self._poll, at_start=True),
                Job("mastery", tasks.refresh_mastery, config.jobs.mastery_s, at_start=True),
                Job("inbox", self._look_into_inbox, rescan_s, at_start=True),
                Job("config", tasks.reload_config, rescan_s),
                Job("verify", tasks.verify_if_due, VERIFY_LOOK_S, VERIFY_LOOK_JITTER),
                Job("integrity", tasks.look_through_if_due, INTEGRITY_LOOK_S),
                Job("plans", tasks.replan_due, PLANS_LOOK_S, PLANS_LOOK_JITTER),
                Job("backup", tasks.back_up_if_due, BACKUP_LOOK_S, BACKUP_LOOK_JITTER),
                Job("provisioning", tasks.look_for_provisioning, PROVISIONING_LOOK_S, at_start=True),
                Job("watches", self._watcher.check, config.jobs.heartbeat_s),
            ],
            clock,
            config.jobs.heartbeat_s,
        )

    def start(self) -> None:
        self._jobs.start()
        self._sync_soon.start()
        self._config_soon.start()
        self._watcher.start()

    def request_sync(self) -> None:
        """A round soon; called after every local change, so it only raises a flag."""
        self._sync_soon.request()

    def sync_now(self) -> None:
        """A round without the pause for further changes."""
        self._jobs.pull_forward("sync")

    def stop_starting(self) -> None:
        """Starts nothing more."""
        self._jobs.stop_starting()

    def stop(self, timeout_s: float) -> list[str]:
        """Ends every thread of the schedule. Returns the ids of the jobs that are still running after `timeout_s`."""
        self._watcher.stop(THREAD_STOP_S)
        self._sync_soon.stop(THREAD_STOP_S)
        self._config_soon.stop(THREAD_STOP_S)
        return self._jobs.stop(timeout_s)

    def follow(self, config: DeviceConfig) -> None:
        """Takes over changed live settings; the debounce reads its own."""
        self._set_pace()
        self._jobs.reschedule("mastery", config.jobs.mastery_s)
        self._jobs.reschedule("inbox", config.jobs.rescan_s)
        self._jobs.reschedule("config", config.jobs.rescan_s)

    def _watched(self, config: DeviceConfig) -> list[Watched]:
        """The folders to watch. A configuration file beside the database is only looked at by the rescan: that folder is never watched."""
        watched = [Watched(config.inbox_dir, is_dropped_name, lambda: self._jobs.pull_forward("inbox"))]
        if config.source is not None and config.source.parent.resolve() != config.database_path.parent.resolve():
            watched.append(_watch_for(config.source, self._config_soon.request))
        return watched

    def _sync(self) -> None:
        result = self._tasks.sync.run()
        if result.outcome == "done":
            if result.pushed or result.pulled:
                counts = fields(pushed=result.pushed, rejected=result.rejected, pulled=result.pulled)
                log.info("synced", extra=counts)
            self._set_pace()
        elif result.outcome == "busy":
            self._jobs.pull_forward("sync", BUSY_RETRY_S)
        elif result.outcome != "not_enrolled":
            wait_s = self._tasks.sync.status().next_attempt_in_s
            if wait_s is not None:
                self._jobs.pull_forward("sync", wait_s)

    def _set_pace(self) -> None:
        """Polls at the slower of the configured pace and the one that the server asked for."""
        sync = self._live.current.sync
        poll = (min(max(sync.poll_s, self._tasks.sync.poll_after_s or 0.0), POLL_MAX_S), sync.jitter)
        if poll != self._poll:
            self._poll = poll
            self._jobs.reschedule("sync", *poll)

    def _look_into_inbox(self) -> None:
        if self._tasks.look_into_inbox():
            self._jobs.pull_forward("inbox", self._live.current.inbox.steady_ms / 1000)


def _watch_for(file: Path, tell: Callable[[], None]) -> Watched:
    return Watched(file.parent, lambda name: name == file.name, tell)
