"""Fixtures for tests of pages: one browser a session, a device behind its real listener."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from daemon.api.server import LocalServer
from tests.support.browsing import chromium
from tests.support.cloud import cloud_database, cloud_school, cloud_template, flask_cloud, open_cloud_database
from tests.support.device import ADA, DeviceUnderTest, open_device

__all__ = ["cloud_database", "cloud_school", "cloud_template", "flask_cloud", "open_cloud_database"]

PIN = "4711"


@dataclass
class Site:
    """A device and the address of its page."""

    device: DeviceUnderTest
    server: LocalServer
    closing: ExitStack

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"

    def stop(self) -> None:
        """Takes the listener away, and keeps its port from whoever else looks for one: connecting to it is refused."""
        self.server.stop()
        kept = self.closing.enter_context(socket.socket())
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.bind(("127.0.0.1", self.server.port))


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    with chromium() as opened:
        yield opened


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """The device page of a device with Ada, who has a PIN, and a school that cannot be reached."""
    with open_device(tmp_path) as device, ExitStack() as closing:
        device.api.access.sign_in.set_pin(ADA, PIN)
        server = LocalServer(device.app, "127.0.0.1", 0, threads=4)
        server.start()
        try:
            yield Site(device, server, closing)
        finally:
            server.stop()
