"""The running daemon: what is made of what, and in which order it starts and stops.

    start   lock the state folder → see that the database is sound (daemon/recovery/replacement.py) → migrate → database → identity, records, sync →
            schedule (jobs, watcher) → HTTP server → announce
    stop    the other way round: nothing new is begun and a hanging network call is broken off; the server answers what it has begun;
            threads end; the writer closes the database last

A stop takes three seconds at most, unless a write is still on its way to the disk. What was acknowledged is on the disk by then anyway: killing
the process loses nothing, a stop is only politeness towards requests in flight.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from daemon.access.local_access import LocalAccess, make_access
from daemon.access.online import SchoolSignIn
from daemon.api.app import create_app
from daemon.api.endpoints import Device
from daemon.api.listeners import Listeners
from daemon.backups.making import back_up_if_due, backup_folder
from daemon.bundles.exchange import DeviceBundles
from daemon.bundles.spool import SpooledBundles
from daemon.config import DeviceConfig, load_config, prepare_folders
from daemon.database import DeviceDatabase
from daemon.gateway import CloudGateway, gateways
from daemon.identity import instance, provisioning, revocation
from daemon.identity.device import Identity
from daemon.identity.enrolment import Enrolment
from daemon.identity.provisioning import Provisioning
from daemon.importer import ContentInbox, InboxStatus
from daemon.learning import mastery, plan_making
from daemon.learning.engine import Engine
from daemon.learning.situation import situation
from daemon.models import MODELS
from daemon.process import logs
from daemon.process.activation import inherited_sockets
from daemon.process.live_config import ConfigStatus, LiveConfig
from daemon.process.pulse import Pulse
from daemon.process.spare_memory import SpareMemory
from daemon.process.state_folder import APP_TOKEN_NAME, RunningDaemon, announce, locked, new_token, withdraw
from daemon.process.stopping import stop_signals, threads_left
from daemon.queue.outbox import last_hlc
from daemon.readiness import make_ready
from daemon.records import LocalRecords
from daemon.recovery.ballast import Ballast
from daemon.recovery.integrity import Checkup
from daemon.recovery.journal import Journal
from daemon.recovery.journal_file import journal_path
from daemon.recovery.report import Notices
from daemon.schedule import Schedule, Tasks
from daemon.sync.on_demand import SyncOnDemand
from daemon.sync.round import SyncRound
from daemon.sync.verify import Verifier
from daemon.sync.verify_round import VerifyRound
from domain.clock import Clock, HybridClock, SystemClock
from domain.errors import CarrelError
from domain.ids import IdSource
from loglines.crashes import tell_crashes
from loglines.notify import is_watched, notify
from loglines.parts import fields
from migrations.lock import owning

log = logging.getLogger(__name__)

# The parts of the three seconds that a stop may take; the threads of the schedule have some of their own (daemon/schedule.py).
SERVER_STOP_S = 1.2
JOBS_STOP_S = 0.6
THREADS_STOP_S = 0.2
# How often the main thread looks whether the database still works.
HEALTH_CHECK_S = 2.0
# The exit code when the database failed, besides those of domain/errors.py.
EXIT_FAILED = 1
_DISK_FULL = "The disk is full: nothing new can be recorded until there is room. What was recorded is kept, and still goes to school; free some space."


class Service:
    """One daemon in this process. The caller holds the lock of the state folder and has migrated the database."""

    def __init__(
        self,
        config: DeviceConfig,
        environ: Mapping[str, str],
        clock: Clock | None = None,
        gateway_for: Callable[[str], CloudGateway] | None = None,
        ballast: Ballast | None = None,
        inherited: Sequence[socket.socket] = (),
    ) -> None:
        self._config = config
        self._inherited = inherited
        self._stopping = threading.Event()
        self._environ = environ
        self._clock = clock or SystemClock()
        self._gateway_for = gateway_for or gateways(config)
        self._parts = ExitStack()
        self._ballast = ballast or Ballast(config.database_path)
        self._journal = Journal(journal_path(config.database_path))
        self._recovered = Notices(config.database_path)
        self._spare_memory = SpareMemory()

    def start(self) -> RunningDaemon:
        """Starts everything, or nothing: what was started is stopped again when a later part fails.

        Returns where the API listens. Raises OperatorError, for instance when the port is taken.
        """
        with ExitStack() as parts:
            running = self._start_parts(parts)
            self._parts = parts.pop_all()
        return running

    def stop(self) -> None:
        """Stops everything; what hangs for longer than its time is left behind, without access to the database."""
        self._stopping.set()
        self._parts.close()

    def failure(self) -> str | None:
        """Why the database cannot be trusted any more, or is to be wiped; only a new process that opens it again may go on."""
        order = revocation.noted(self._config.state_dir)
        return "the school has ordered this device to be wiped" if order and order.is_due(self._clock.now_ms()) else self._database.failure

    def tend(self) -> None:
        """What is to be done every few seconds: the journal on the disk; memory given back; a look whether a full disk has room again."""
        self._spare_memory.look()
        try:
            self._journal.sync()
        except CarrelError as error:
            log.warning("the disk refuses", extra=fields(error=error.message))
        if self._ballast.full and self._ballast.restore():
            self._sync_at_once()

    def _sync_at_once(self) -> None:
        """What rounds have failed for is over: there is room again, or this is another device of the school's than before."""
        self._rounds.forgive()
        self._schedule.sync_now()

    def _start_parts(self, parts: ExitStack) -> RunningDaemon:
        clock = self._clock
        ids = IdSource(clock.now_ms)
        database = self._open_database(parts)
        identity = self._find_identity(ids)
        rounds = self._make_rounds(identity)
        verifying = VerifyRound(rounds, Verifier(database, identity, clock), database, clock)
        enrolment = Enrolment(identity, self._gateway_for, self._sync_at_once)
        self._provisioning = self._make_provisioning(enrolment)
        self._schedule = schedule = self._make_schedule(identity, rounds, verifying)
        parts.callback(schedule.stop, JOBS_STOP_S)

        with database.read() as conn:
            hlc = HybridClock(clock, last_hlc(conn))
        records = LocalRecords(database, clock, ids, hlc, identity.device_id, schedule.request_sync)
        self._engine = engine = Engine.of(database, records, clock)
        sync = SyncOnDemand(lambda: rounds.run(forced=True))
        by_version, by_content = SyncOnDemand(verifying.run), SyncOnDemand(lambda: verifying.run(content=True))
        device = Device(
            database=database,
            records=records,
            identity=enrolment,
            sync_state=rounds.status,
            notices=self._notices,
            sync=sync,
            verify=lambda content: (by_content if content else by_version).run(),
            bundles=SpooledBundles(DeviceBundles(database, identity, clock, rounds), self._config.state_dir),
            settings=self._config.api,
            clock=clock,
            access=self._make_access(ids),
            engine=engine,
            tally=rounds.tally,
        )
        server = self._start_server(device, parts)
        # First of all at a stop, so that a request that waits for a sync round is answered too.
        parts.callback(rounds.abort)
        for waited_for in (sync, by_version, by_content):
            parts.callback(waited_for.close)
        parts.callback(schedule.stop_starting)

        running = RunningDaemon(os.getpid(), self._config.api.host, server.port, clock.now_ms())
        announce(self._config.state_dir, running)
        schedule.start()
        return running

    def _open_database(self, parts: ExitStack) -> DeviceDatabase:
        self._database = DeviceDatabase(self._config.database_path, journal=self._journal, ballast=self._ballast)
        self._database.open(MODELS)
        parts.callback(self._database.close)
        parts.callback(withdraw, self._config.state_dir)
        return self._database

    def _find_identity(self, ids: IdSource) -> Identity:
        """Who this device is, after what a crash left half-done is finished and a copied file has been found out."""
        self._identity = identity = Identity(self._database, self._config.state_dir, self._clock, ids)
        identity.finish_adoption()
        instance.confirm(self._database, self._config.state_dir, lambda conn: identity.start_incarnation(conn, resend_all=False))
        return identity

    def _make_rounds(self, identity: Identity) -> SyncRound:
        config = self._config
        self._rounds = SyncRound(
            self._database,
            identity,
            self._clock,
            self._gateway_for,
            backoff_cap_s=config.sync.backoff_cap_s,
            backups_dir=backup_folder(config),
        )
        return self._rounds

    def _make_provisioning(self, enrolment: Enrolment) -> Provisioning:
        config = self._config
        file = Path(config.provisioning.file).expanduser() if config.provisioning.file else config.state_dir / provisioning.FILE_NAME
        return Provisioning(file, enrolment, self._clock, config.provisioning.spread_s)

    def _start_server(self, device: Device, parts: ExitStack) -> Listeners:
        server = Listeners(create_app(device), self._config.api, self._inherited)
        server.start()
        parts.callback(server.stop, SERVER_STOP_S)
        return server

    def _make_access(self, ids: IdSource) -> LocalAccess:
        config = self._config
        tokens = {"control_token": new_token(config.state_dir), "app_token": new_token(config.state_dir, APP_TOKEN_NAME)}
        school = SchoolSignIn(self._identity, self._gateway_for)
        return make_access(
            self._database,
            config.state_dir,
            self._clock,
            ids,
            config.sign_in,
            own_origins=config.api.allowed_origins,
            school=school,
            **tokens,
        )

    def _make_schedule(self, identity: Identity, rounds: SyncRound, verifying: VerifyRound) -> Schedule:
        config, clock, database = self._config, self._clock, self._database
        self._live = live = LiveConfig(config, self._environ, self._follow)
        self._inbox = ContentInbox(config.inbox_dir, database, lambda: _school_id(identity), clock, lambda: live.current.inbox.steady_ms)
        checkup = Checkup(config.database_path, config.state_dir, clock)
        tasks = Tasks(
            rounds,
            lambda: mastery.refresh_stale(database, clock, self._engine.histories),
            self._inbox.look,
            live.check,
            verifying.run_if_due,
            lambda: checkup.repeat_if_due(database.look_through),
            back_up_if_due=lambda: back_up_if_due(config, clock, go_on=lambda: not self._stopping.is_set()),
            look_for_provisioning=self._provisioning.look,
            replan_due=lambda: plan_making.replan_due(self._engine, situation(clock), identity.device_id),
        )
        return Schedule(tasks, live, clock)

    def _notices(self) -> list[str]:
        with self._database.read() as conn:
            recovered = list(self._recovered.sentences(conn))
        full = [_DISK_FULL] if self._ballast.full else []
        order = revocation.noted(self._config.state_dir)
        waiting = [notice for notice in (order and order.sentence(), self._provisioning.notice()) if notice]
        return [*full, *waiting, *recovered, *_notices(self._live.status, self._inbox.status)]

    def _follow(self, config: DeviceConfig) -> None:
        logs.set_level(config.log.level)
        self._schedule.follow(config)


def run(config_path: Path | None, environ: Mapping[str, str], say: Callable[[str], None]) -> int:
    """Runs the daemon until SIGTERM or SIGINT. `say` gets a sentence with the address once it listens. Returns the exit code.

    Raises OperatorError when it cannot start. A second signal ends the process at once.
    """
    config = load_config(config_path, environ)
    logs.start(config.log.level, config.log.format)
    tell_crashes(log)
    prepare_folders(config)
    inherited = inherited_sockets(os.environ)
    pulse = Pulse(SystemClock())
    ballast = Ballast(config.database_path)
    with locked(config.state_dir), owning(config.database_path):
        ballast.start()
        checkup = make_ready(config)
        _wipe_if_ordered(config)
        service = Service(config, environ, ballast=ballast, inherited=inherited)
        with stop_signals() as wait_for_signal, checkup.in_use(lambda: service.failure() is None):
            running = service.start()
            log.info("started", extra=fields(pid=running.pid, address=running.url))
            say(f"Carrel listens on {running.url}")
            notify("READY=1")
            if is_watched():
                pulse.start(running)
            exit_code = _wait(service, pulse, wait_for_signal)
            notify("STOPPING=1")
            pulse.stop()
            service.stop()
        _wipe_if_ordered(config)
    log.info("stopped", extra=fields(exit_code=exit_code))
    if left := threads_left(THREADS_STOP_S):
        # The interpreter would wait for them at its exit. The database is closed: nothing of theirs can be lost.
        log.warning("threads were left behind", extra=fields(threads=",".join(left)))
        logging.shutdown()
        os._exit(exit_code)
    return exit_code


def _wipe_if_ordered(config: DeviceConfig) -> None:
    """While nothing has the database open."""

    def empty(discarding_unsent: bool) -> None:
        from daemon.image import strip  # here, because hardly any device is ever wiped

        strip(config.database_path, config.state_dir, backup_folder(config), discarding_unsent=discarding_unsent)

    revocation.wipe_if_ordered(config.state_dir, empty, gateways(config), SystemClock().now_ms)


def _wait(service: Service, pulse: Pulse, wait_for_signal: Callable[[float], bool]) -> int:
    """Until a signal comes (0) or the database fails (EXIT_FAILED), upon which the service manager starts a new process."""
    while not wait_for_signal(HEALTH_CHECK_S):
        if failure := service.failure():
            log.error("stopping, for a new process to open the database", extra=fields(error=failure))
            return EXIT_FAILED
        service.tend()
        if pulse.is_alive():
            notify("WATCHDOG=1")
    return 0


def _school_id(identity: Identity) -> str | None:
    current = identity.current()
    return current.school_id if current else None


def _notices(config: ConfigStatus, inbox: InboxStatus) -> Iterator[str]:
    if config.problem:
        yield f"The settings of before stay in force: {config.problem}"
    if config.needs_restart:
        yield f"A restart is needed for changed settings: {', '.join(config.needs_restart)}."
    if inbox.folder_problem:
        yield inbox.folder_problem
    if inbox.last_problem:
        yield f"A content file was refused: {inbox.last_problem}"
