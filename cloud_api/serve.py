"""The cloud API under gunicorn: processes of threads, a graceful stop, and the address printed once it listens."""

from __future__ import annotations

from typing import Any

from flask import Flask
from gunicorn.app.base import BaseApplication  # type: ignore[import-untyped]

from cloud_api.app import create_app
from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase
from cloud_api.worker import Worker


class CloudServer(BaseApplication):  # type: ignore[misc]  # gunicorn is not typed
    """`run()` serves until SIGTERM or SIGINT and then ends the process; requests in flight are finished first."""

    def __init__(self, config: CloudConfig, url: str) -> None:
        self._config = config
        self._url = url
        self.arrives_max_s = config.server.arrives_max_s
        super().__init__()

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
            "proc_name": "carrel-cloud",
            # Nobody steers the server but by signals.
            "control_socket_disable": True,
            "when_ready": _print_address,
        }
        for name, value in settings.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """The application; runs in each worker, after the fork, so that every process has a pool of its own."""
        return create_app(self._config, CloudDatabase.configured(self._url, self._config.database))


def _print_address(arbiter: Any) -> None:
    """Says where the server listens, on standard output, because a port of 0 is known only now."""
    host, port = arbiter.LISTENERS[0].getsockname()[:2]
    print(f"carrel-cloud listens on http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
