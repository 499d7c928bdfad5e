"""The database for a command while no daemon runs: this process works in the state folder meanwhile, as a daemon would."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from daemon.config import DeviceConfig
from daemon.database import DeviceDatabase
from daemon.models import MODELS
from daemon.process.state_folder import locked
from daemon.readiness import make_ready
from domain.errors import OperatorError
from migrations.lock import owning


@contextmanager
def offline_database(config: DeviceConfig) -> Iterator[DeviceDatabase]:
    """The opened database, closed at the end of the block. Raises AlreadyRunning, SchemaError, and OperatorError where there is none yet."""
    if not config.database_path.exists():
        raise OperatorError(f"There is no database at {config.database_path} yet: nothing was ever recorded here.")
    with locked(config.state_dir), owning(config.database_path):
        make_ready(config)
        database = DeviceDatabase(config.database_path)
        database.open(MODELS)
        try:
            yield database
        finally:
            database.close()
