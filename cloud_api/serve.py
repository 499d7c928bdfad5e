"""The cloud API under gunicorn: processes of threads, a graceful stop, and the address printed once it listens."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]
from gunicorn.arbiter import Arbiter  # type: ignore[import-untyped]
from gunicorn.systemd import sd_notify  # type: ignore[import-untyped]

from cloud_api import logs
from cloud_api.analytics.keeper import Keeper
from cloud_api.app import create_app, keep_figures_up
from cloud_api.config import CloudConfig, demand_protected
from cloud_api.database import CloudDatabase
from cloud_api.tls import Certificate
from cloud_api.worker import ServerLog, Worker
from domain.errors import InvalidConfig

log = logging.getLogger("carrel.cloud")


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
        """On SIGHUP: how much is logged is what the configuration says by now, and workers are replaced one by one; all else waits for a restart."""
        if self._reread is not None:
            try:
                found = self._reread()
            except InvalidConfig as error:
                log.error("the configuration is not followed: %s", "; ".join(f"{p.path} {p.message}" for p in error.problems))
            else:
                self._config = dataclasses.replace(self._config, log_level=found.log_level, log_format=found.log_format)
                logs.start(found.log_level, found.log_format)
        super().reload()

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
            # Who a request comes from is told by cloud_api/forwarding.py.
            "forwarded_allow_ips": "",
            "when_ready": lambda arbiter: _print_address(arbiter, self.certificate is not None),
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def run(self) -> None:
        """Serves; gunicorn's own way takes an arbiter that systemd's watchdog knows nothing of."""
        _Arbiter(self).run()

    def load(self) -> Flask:
        """The application; runs in each worker, after the fork, so that every process has a pool of its own."""
        database = CloudDatabase.configured(self._url, self._config.database)
        app = create_app(self._config, database)
        keep_figures_up(app, Keeper(database, self._config.figures))
        return app


class _Arbiter(Arbiter):  # type: ignore[misc]  # gunicorn is not typed
    """gunicorn's, which looks after its workers every second; each such look is a sign of life for systemd's watchdog.

    A worker that hangs is ended here; an arbiter that hangs, or has no worker, is ended by systemd.
    """

    def murder_workers(self) -> None:
        super().murder_workers()
        if self.WORKERS:
            sd_notify("WATCHDOG=1", self.log)


def _print_address(arbiter: Any, has_tls: bool) -> None:
    """Says where the server listens, on standard output, because a port of 0 is known only now."""
    host, port = arbiter.LISTENERS[0].getsockname()[:2]
    print(f"carrel-cloud listens on {'https' if has_tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
