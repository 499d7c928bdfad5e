"""The ground that worlds stand on, made once a process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from cloud_api.embedded import DatabaseServer
from migrations.runner import upgrade_device
from tests.simulation.cloud import SimulatedCloud
from tests.simulation.served import ServedApp
from tests.support.cloud import migrated_template
from tests.support.memory import memory_folder
from tests.support.postgres import temporary_database

PREFIX = "carrel-sim-"


@dataclass(frozen=True, slots=True)
class Ground:
    """What all worlds stand on: a database with any number of schools and the application over it, the server and template for worlds with a database
    of their own, and a migrated device file to copy. `met` counts what went wrong in all of them.
    """

    shared: SimulatedCloud
    app: ServedApp
    server: DatabaseServer
    cloud_template: str
    device_template: bytes
    met: Counter[str] = field(default_factory=Counter)


@contextmanager
def ground_on(server: DatabaseServer) -> Iterator[Ground]:
    """Databases and files at head, for all worlds of this process."""
    with memory_folder(PREFIX) as folder:
        upgrade_device(folder / "device.sqlite3")
        device_template = (folder / "device.sqlite3").read_bytes()
    with migrated_template(server) as template, temporary_database(server, template) as url:
        shared = SimulatedCloud(url)
        try:
            yield Ground(shared, ServedApp(shared), server, template, device_template)
        finally:
            shared.close()
