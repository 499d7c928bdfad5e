from __future__ import annotations

import threading
from contextlib import suppress

from daemon.process.pulse import SILENCE_MAX_MS, Pulse
from daemon.process.state_folder import RunningDaemon
from tests.support.device import ManualClock

RUNNING = RunningDaemon(1, "127.0.0.1", 1, 0)
WAIT_S = 5.0


def test_a_daemon_that_does_not_answer_for_a_minute_does_not_count_as_alive() -> None:
    clock, meeting = ManualClock(), threading.Barrier(2)
    answers = True

    def ask(_running: RunningDaemon) -> None:
        with suppress(threading.BrokenBarrierError):
            meeting.wait(WAIT_S)
        if not answers:
            raise TimeoutError

    def ask_once() -> None:
        """One question is put and its answer taken in: with the second meeting the next question begins."""
        meeting.wait(WAIT_S)
        meeting.wait(WAIT_S)

    pulse = Pulse(clock, 0.001, ask)
    assert pulse.is_alive(), "nobody asks yet"
    pulse.start(RUNNING)
    try:
        clock.advance(SILENCE_MAX_MS)
        ask_once()
        assert pulse.is_alive()
        answers = False
        ask_once()
        ask_once()
        clock.advance(SILENCE_MAX_MS - 1)
        assert pulse.is_alive()
        clock.advance(1)
        assert not pulse.is_alive()
        answers = True
        ask_once()
        ask_once()
        assert pulse.is_alive()
    finally:
        meeting.abort()
        pulse.stop()
