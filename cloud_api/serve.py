"""The cloud API under gunicorn: processes of threads, a graceful stop, and the address printed once it listens."""

from __future__ import annotations

import dataclasses
import logging
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]

from cloud_api.analytics.keeper import Keeper
from cloud_api.app import create_app, keep_figures_up, keep_withdrawals
from cloud_api.config import CloudConfig, demand_protected, withdrawals_path
from cloud_api.database import CloudDatabase
from cloud_api.serving import logs
from cloud_api.serving.tls import Certificate
from cloud_api.serving.worker import ServerLog, Worker
from domain.errors import InvalidConfig, OperatorError
from loglines.notify import notify

log = logging.getLogger("carrel.cloud")

# How long the system may take to end a process after SIGKILL, and how often to look.
KILLED_MAX_S = 2.0
KILLED_POLL_S = 0.01


class CloudServer(BaseApplication):  # type: ignore[misc]  # gunicorn is not typed
    """`run()` serves until SIGTERM or SIGINT and then ends the process; requests in flight are finished first. `reread` gives the configuration anew.

    Raises OperatorError for a certificate that cannot be used, and for an address on a network without one or a proxy.
    """

    def __init__(self, config: CloudConfig, url: str, reread: Callable[[], CloudConfig] | None = None) -> None:
        self._config = config
        self._url = url
        self._reread = reread
        self.arrives_max_s = config.server.arrives_max_s
        demand_protected(config)
        self.certificate = Certificate(config.tls) if config.tls.certificate else None
        super().__init__()

    def reload(self) -> None:
        """On SIGHUP: new workers follow the configuration as it is now, and those of before finish what they have begun; what only a start can do,
        which is the address and whether there is TLS, waits for one. Wrong configuration is reported, and the one of before goes on.
        """
        if self._reread is not None:
            try:
                found = self._reread()
            except InvalidConfig as error:
                log.error("the configuration is not followed: %s", "; ".join(f"{p.path} {p.message}" for p in error.problems))
            else:
                self._follow(found)
        super().reload()

    def _follow(self, found: CloudConfig) -> None:
        kept = _kept_until_restart(self._config, found)
        if kept != found:
            log.warning("a restart is needed for changes of cloud.server.host, cloud.server.port or cloud.tls")
        try:
            demand_protected(kept)
        except OperatorError as error:
            log.error("the configuration is not followed: %s", error.message)
            return
        self._config = kept
        self.arrives_max_s = kept.server.arrives_max_s
        logs.start(kept.log_level, kept.log_format)
        log.info("the configuration was read again")

    def load_config(self) -> None:
        """gunicorn's settings, from Carrel's; neither its files nor its variables are read."""
        server = self._config.server
        host = f"[{server.host}]" if ":" in server.host else server.host
        settings: dict[str, Any] = {
            "bind": f"{host}:{server.port}",
            "workers": server.workers,
            "worker_class": f"{Worker.__module__}.{Worker.__qualname__}",
            "threads": server.threads,
            "graceful_timeout": server.graceful_stop_s,
            "loglevel": self._config.log_level,
            "logger_class": f"{ServerLog.__module__}.{ServerLog.__qualname__}",
            "proc_name": "carrel-cloud",
            # Nobody steers the server but by signals.
            "control_socket_disable": True,
            # Who a request comes from is told by cloud_api/serving/forwarding.py.
            "forwarded_allow_ips": "",
            "when_ready": lambda arbiter: _print_address(arbiter, self.certificate is not None),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def run(self) -> None:
        """Serves; gunicorn's own way takes an arbiter that systemd's watchdog knows nothing of. Raises OperatorError when the address cannot be had."""
        _demand_free(self._config.server.host, self._config.server.port)
        _Arbiter(self).run()

    def load(self) -> Flask:
        """The application; runs in each worker, after the fork, so that every process has a pool of its own."""
        database = CloudDatabase.configured(self._url, self._config.database)
        app = create_app(self._config, database)
        keep_figures_up(app, Keeper(database, self._config.figures))
        keep_withdrawals(app, database, withdrawals_path(self._config))
        return app


def _kept_until_restart(before: CloudConfig, found: CloudConfig) -> CloudConfig:
    """What was found, on the sockets of before: to open others would refuse whoever asks meanwhile."""
    server = dataclasses.replace(found.server, host=before.server.host, port=before.server.port)
    return dataclasses.replace(found, server=server, tls=before.tls)


class _Arbiter(Arbiter):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn's, which looks after its workers every second; each such look is a sign of life for systemd's watchdog.

    A worker that hangs is ended here; an arbiter that hangs, or has no worker, is ended by systemd.
    """

    def spawn_worker(self) -> int:
        """Starts a worker with signals held back until it answers them itself (`Worker.init_signals`).

        Until then a fork has the arbiter's handler, which only notes a signal for the arbiter's own loop: a worker that is told to stop in its first
        moments would not hear of it, and the stop would take all the time that requests in flight are given.
        """
        held = signal.pthread_sigmask(signal.SIG_BLOCK, Worker.SIGNALS)
        try:
            return int(super().spawn_worker())
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

    def stop(self, graceful: bool = True) -> None:
        """Stops the workers. Those that had to be killed have ended, too, when this returns."""
        super().stop(graceful)
        deadline_s = time.monotonic() + KILLED_MAX_S
        while self.WORKERS and time.monotonic() < deadline_s:
            time.sleep(KILLED_POLL_S)
            self.reap_workers()

    def murder_workers(self) -> None:
        super().murder_workers()
        self._show_life()

    def reap_workers(self) -> None:
        """Also what a reload does again and again, while workers of before finish."""
        super().reap_workers()
        self._show_life()

    def _show_life(self) -> None:
        if self.WORKERS:
            notify("WATCHDOG=1")  # gunicorn's own would wait for a manager that does not read


def _demand_free(host: str, port: int) -> None:
    """gunicorn would try for five seconds, and then say which call failed."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise OperatorError(
            f"The server cannot listen on {host}:{port}: {error.strerror}. Stop what uses it or choose another port in [cloud.server]."
        ) from error


def _print_address(arbiter: Any, has_tls: bool) -> None:
    """Says where the server listens, on standard output, because a port of 0 is known only now."""
    host, port = arbiter.LISTENERS[0].getsockname()[:2]
    print(f"carrel-cloud listens on {'https' if has_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
