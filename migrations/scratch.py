"""Empty databases to try things in: a temporary file for a device, a database of its own on a server for the cloud."""

from __future__ import annotations

import importlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import peewee as pw

from domain.errors import OperatorError
from migrations.engines import Limits, first_line, open_engine, with_database
from migrations.files import Kind
from migrations.history import HEAD
from migrations.runner import open_migrations
from migrations.schema.description import Execute, Schema
from migrations.schema.models import ModelSet
from migrations.schema.sqltext import quoted

# Gives the address of an empty database, which is gone after the block.
Scratch = Callable[[], AbstractContextManager[str]]

NAME_PREFIX = "carrel_scratch_"
# A scratch database tells when it was made, by its server's clock: carrel_scratch_65f1c2a0_9b1d…. One that is older than this, and that nobody is
# connected to, was left by a process that was killed.
STALE_AFTER_S = 3600
_NAME = re.compile(rf"{NAME_PREFIX}(?P<made_s>[0-9a-f]{{8,12}})_[0-9a-f]{{12}}")
# The module of a PostgreSQL of one's own, which is started when there is no server to work on.
EMBEDDED = "cloud_api.embedded"


@contextmanager
def device_scratch() -> Iterator[str]:
    """The address of a SQLite file that does not exist yet, in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="carrel-scratch-") as folder:
        yield f"sqlite:///{folder}/scratch.sqlite3"


def server_scratch(url: str) -> Scratch:
    """Scratch databases on the server of `url`, whose user must be allowed to create databases.

    Those that killed processes left are dropped first. Raises OperatorError when a database cannot be made or reached.
    """

    @contextmanager
    def scratch() -> Iterator[str]:
        with _connected(url) as execute:
            now_s = int(execute("SELECT extract(epoch FROM clock_timestamp())").fetchone()[0])
            _drop_stale(execute, now_s - STALE_AFTER_S)
            name = f"{NAME_PREFIX}{now_s:08x}_{secrets.token_hex(6)}"
            execute(f"CREATE DATABASE {quoted(name)}")
        try:
            address = with_database(url, name)
            with _connected(address) as execute:
                if execute("SELECT current_database()").fetchone()[0] != name:
                    raise OperatorError(
                        f"The address of the server leads to one database, whatever its name: {NAME_PREFIX}… is not reached."
                    )
            yield address
        finally:
            with _connected(url) as execute:
                execute(f"DROP DATABASE IF EXISTS {quoted(name)} WITH (FORCE)")

    return scratch


def _drop_stale(execute: Execute, made_before_s: float) -> None:
    """Drops the scratch databases of this user that are older and that nobody is connected to. What cannot be dropped stays."""
    rows = execute(
        "SELECT datname FROM pg_database d WHERE pg_has_role(datdba, 'USAGE')"
        " AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.datid = d.oid)"
    ).fetchall()
    for (name,) in rows:
        match = _NAME.fullmatch(name)
        if match and int(match["made_s"], 16) < made_before_s:
            with suppress(pw.PeeweeException):  # somebody connected in this moment, or dropped it
                execute(f"DROP DATABASE IF EXISTS {quoted(name)}")


@contextmanager
def embedded_server() -> Iterator[Scratch]:
    """Scratch databases on a PostgreSQL that is started for them. Raises OperatorError when none can be found."""
    try:
        embedded: Any = importlib.import_module(EMBEDDED)
    except ImportError as error:
        raise OperatorError(
            "There is no PostgreSQL to work on: give --scratch-url postgresql://… or install Carrel with [cloud]."
        ) from error
    parent = Path(tempfile.mkdtemp(prefix="carrel-scratch-"))
    try:
        if os.geteuid() == 0:
            parent.chmod(0o711)  # PostgreSQL runs under another account then, which must be able to reach its folder
        data_dir = embedded.reachable_folder(parent / "postgres")
        try:
            with embedded.EmbeddedPostgres.start(data_dir, durable=False) as server:
                yield server_scratch(server.url)
        finally:
            shutil.rmtree(data_dir, ignore_errors=True)
    finally:
        shutil.rmtree(parent, ignore_errors=True)


@contextmanager
def scratch_for(kind: Kind, url: str | None) -> Iterator[Scratch]:
    """Scratch databases for one kind: for the cloud on the server of `url`, else on one that is started."""
    if kind == "device":
        yield device_scratch
    elif url:
        yield server_scratch(url)
    else:
        with embedded_server() as scratch:
            yield scratch


def schema_of_models(kind: Kind, models: ModelSet, scratch: Scratch) -> Schema:
    """The schema that the models stand for: made in a scratch database and read back. Raises OperatorError when they do not fit it."""
    with scratch() as url:
        engine = open_engine(kind, url, Limits())
        try:
            with engine.locked():
                with engine.atomic():
                    models.create(engine.database)
                return engine.schema()
        finally:
            engine.close()


def schema_of_files(kind: Kind, scratch: Scratch, *, target: str = HEAD, folder: Traversable | None = None) -> Schema:
    """The schema that the files up to `target` make: those shipped, or those in `folder`. Raises as `Migrations.upgrade`."""
    with scratch() as url, open_migrations(kind, url, folder=folder) as migrations:
        migrations.upgrade(target)
        return migrations.schema()


@contextmanager
def _connected(url: str) -> Iterator[Execute]:
    """Runs SQL in a session of its own. Raises OperatorError for what PostgreSQL refuses."""
    engine = open_engine("cloud", url, Limits())
    try:
        engine.connect()
        yield engine.database.execute_sql
    except pw.PeeweeException as error:
        raise OperatorError(
            f"No scratch database can be made on this server: {first_line(error)}; --scratch-url names another server for that."
        ) from error
    finally:
        engine.close()
