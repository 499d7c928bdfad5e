"""Bringing the database to where it can be worked with, by whoever owns it: the daemon, or a command while none runs."""

from __future__ import annotations

from daemon.config import DeviceConfig
from daemon.recovery.integrity import Checkup
from daemon.recovery.replacement import Recovery
from daemon.upgrade import upgrade_if_needed
from domain.clock import SystemClock
from domain.ids import IdSource


def make_ready(config: DeviceConfig) -> Checkup:
    """Sees to it that the database is sound, of this version's schema, and holds everything that is unsent; makes it if need be.

    The caller holds the locks of the state folder and of the database, and nothing has the database open. Raises OperatorError and its
    kin when a person must act, Unavailable while another program holds the file.
    """
    clock = SystemClock()
    recovery = Recovery(config.database_path, config.state_dir, clock, IdSource(clock.now_ms))
    recovery.set_aside_if_damaged()
    upgrade_if_needed(config.database_path)
    recovery.restore()
    return recovery.checkup
