"""The product's application of a simulated server, made once and lent to one world after the other: making it takes longer than a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any, cast
from unittest import mock

from cloud_api.app import create_app
from cloud_api.config import CloudConfig
from cloud_api.routes import sync as routes
from cloud_api.sync.push import PushReceiver
from domain.clock import Clock
from domain.ids import Id, IdSource
from domain.wire import Limits
from tests.simulation.cloud import SimulatedCloud


class ServedApp:
    """The WSGI application over a database. `lend` gives it the clock, the ids and the limits of a world."""

    def __init__(self, database: SimulatedCloud) -> None:
        self._clock: Clock
        self._ids: IdSource
        self._receivers: list[PushReceiver] = []
        # One whose values can be set between two worlds.
        self._settings: Any = SimpleNamespace(**asdict(CloudConfig().server))
        config = replace(CloudConfig(), server=cast(Any, self._settings))
        with mock.patch.object(routes, "PushReceiver", self._receiver), mock.patch.object(routes, "IdSource", lambda now_ms: self):
            self.wsgi: Callable[..., Any] = create_app(config, database, self, self)  # type: ignore[arg-type]  # it has `new`

    def lend(self, clock: Clock, ids: IdSource, limits: Limits, first_syncs_max: int) -> Callable[..., Any]:
        """The application as the server of a world."""
        self._clock, self._ids = clock, ids
        self._settings.first_syncs_max = first_syncs_max
        for receiver in self._receivers:
            receiver._limits = limits
        return self.wsgi

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def monotonic_ms(self) -> int:
        return self._clock.monotonic_ms()

    def new(self) -> Id:
        return self._ids.new()

    def _receiver(self, *arguments: Any) -> PushReceiver:
        receiver = PushReceiver(*arguments)
        self._receivers.append(receiver)
        return receiver
