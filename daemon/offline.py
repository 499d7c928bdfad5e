"""What commands do while no daemon runs: this process works in the state folder meanwhile, as a daemon would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from daemon.config import DeviceConfig, prepare_folders
from daemon.database import DeviceDatabase
from daemon.gateway import gateways
from daemon.identity.device import DeviceIdentity, Identity
from daemon.identity.enrolment import Enrolment
from daemon.models import MODELS
from daemon.process.state_folder import locked
from daemon.readiness import make_ready
from domain.clock import SystemClock
from domain.errors import OperatorError
from domain.ids import IdSource
from migrations.lock import owning


@contextmanager
def offline_database(config: DeviceConfig) -> Iterator[DeviceDatabase]:
    """The opened database, closed at the end of the block. Raises AlreadyRunning, SchemaError, and OperatorError where there is none yet."""
    if not config.database_path.exists():
        raise OperatorError(f"There is no database at {config.database_path} yet: nothing was ever recorded here.")
    with _own_database(config) as database:
        yield database


def enrol(config: DeviceConfig, cloud_url: str, code: str, name: str) -> DeviceIdentity:
    """Enrols a device whose daemon is not running. Raises AlreadyRunning, OperatorError, and what `Enrolment.enrol` raises."""
    prepare_folders(config)
    with _own_database(config) as database:
        clock = SystemClock()
        identity = Identity(database, config.state_dir, clock, IdSource(clock.now_ms))
        identity.finish_adoption()
        return Enrolment(identity, gateways(config)).enrol(cloud_url, code, name)


@contextmanager
def _own_database(config: DeviceConfig) -> Iterator[DeviceDatabase]:
    with locked(config.state_dir), owning(config.database_path):
        make_ready(config)
        database = DeviceDatabase(config.database_path)
        database.open(MODELS)
        try:
            yield database
        finally:
            database.close()
