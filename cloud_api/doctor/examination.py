"""All checks of a server, in the order in which a person would ask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cloud_api.backups.making import back_up
from cloud_api.config import CloudConfig
from cloud_api.database import CloudDatabase
from cloud_api.doctor import contents, files, machine, postgres
from cloud_api.retention import tidy
from cloud_api.schema import demand_schema
from domain.clock import Clock
from domain.errors import CarrelError, Unavailable
from domain.findings import Check, Finding, Severity, examine
from domain.ids import IdSource
from migrations.files import shipped_files


def examine_server(config: CloudConfig, url: str, backups: Path, clock: Clock) -> list[Finding]:
    """Everything that is found; without its database nothing of what lies in it can be looked at."""
    before: dict[str, Check] = {
        "versions": machine.versions,
        "listener": lambda: machine.listener(config, clock),
        "permissions": lambda: files.permissions(config, backups),
    }
    found = examine(before)
    database = CloudDatabase(url, 1, 1, config.database)
    try:
        try:
            database.ping()
        except (Unavailable, CarrelError) as error:
            remedy = "start PostgreSQL; check DATABASE_URL, and that it lets this machine in (pg_hba.conf)"
            return [*found, Finding("database", Severity.ERROR, error.message, remedy)]
        return [*found, *examine(_checks(config, url, database, backups, clock))]
    finally:
        database.close()


def _checks(config: CloudConfig, url: str, database: CloudDatabase, backups: Path, clock: Clock) -> dict[str, Check]:
    return {
        "database": lambda: postgres.settings(database),
        "connections": lambda: postgres.connections(database, config),
        "erasing": lambda: postgres.erasing(database),
        "leftovers": lambda: postgres.leftovers(database),
        "standby": lambda: postgres.standbys(database),
        "clock": lambda: postgres.clock(database, clock),
        "schema": lambda: schema(database),
        "disk": lambda: postgres.disk(database),
        "tools": lambda: machine.tools(url),
        "backups": lambda: machine.backups(backups, clock, lambda: _back_up(url, backups, clock)),
        "queue": lambda: contents.refused(database),
        "devices": lambda: contents.devices(database, clock),
        "tidy": lambda: contents.tidied(database, config, clock, lambda: _tidy(config, url, clock)),
    }


def _back_up(url: str, folder: Path, clock: Clock) -> None:
    """One more in the folder; which of them go, the timer's service says."""
    back_up(url, folder, clock, keep=len(list(folder.iterdir())) + 1)


def _tidy(config: CloudConfig, url: str, clock: Clock) -> None:
    """What the timer does, but for what students wrote: that goes to the last byte, and into a register, by the command alone. Over a connection of its own:
    the examination's is closed when something is put right.
    """
    database = CloudDatabase(url, 1, 1, config.database)
    try:
        tidy(database, clock, IdSource(clock.now_ms), replace(config.retention, retired_students_days=0, answers_days=0))
    finally:
        database.close()


def schema(database: CloudDatabase) -> Iterator[Finding]:
    """Whether this version can work with the database."""
    own = shipped_files("cloud")[-1].name
    at = demand_schema(database)
    if at == own:
        yield Finding("schema", Severity.OK, f"The database is at {at}, as this version wants it.")
    else:
        yield Finding(
            "schema", Severity.WARNING, f"The database is at {at}, one step newer than this version.", "install the newer version here too"
        )
