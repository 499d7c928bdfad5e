"""Whether a daemon answers itself: with the real API over the real file."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from daemon.api.server import LocalServer
from daemon.process import pulse
from daemon.process.state_folder import RunningDaemon
from tests.support.device import open_device


def test_an_answer_goes_through_the_listener_and_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "ANSWER_MAX_S", 1.0)
    with open_device(tmp_path) as device:
        listener = LocalServer(device.app, "127.0.0.1", 0, threads=2)
        listener.start()
        running = RunningDaemon(1, "127.0.0.1", listener.port, 0)
        hanging, going_on = threading.Event(), threading.Event()

        def hang(_conn: object) -> None:
            hanging.set()
            going_on.wait(30)

        writing = threading.Thread(target=device.database.write, args=(hang,))
        try:
            pulse.ask_over_http(running)
            writing.start()
            assert hanging.wait(5)
            with pytest.raises(TimeoutError):
                pulse.ask_over_http(running)
            going_on.set()
            writing.join(5)
            pulse.ask_over_http(running)
        finally:
            going_on.set()
            listener.stop()
        with pytest.raises(OSError):
            pulse.ask_over_http(running)
