"""A real PostgreSQL for tests."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
from psycopg2.extensions import connection

from cloud_api.embedded import DatabaseServer, EmbeddedPostgres, reachable_folder
from cloud_api.embedded.cluster import OWNER
from tests.support.memory import memory_folder

# The address of a server whose user may create databases; without it tests start their own.
SERVER_VARIABLE = "CARREL_TEST_DATABASE_URL"
PREFIX = "carrel-test-"


@contextmanager
def temporary_data_dir() -> Iterator[Path]:
    """A data folder for one server, removed afterwards. pytest's tmp_path will not do: as root it is closed to other accounts."""
    with memory_folder(PREFIX) as parent:
        if os.geteuid() == 0:
            parent.chmod(0o711)
        data_dir = reachable_folder(parent / "postgres")
        try:
            yield data_dir
        finally:
            shutil.rmtree(data_dir, ignore_errors=True)


@contextmanager
def running_server() -> Iterator[DatabaseServer]:
    """The server that CARREL_TEST_DATABASE_URL names, else one of our own that ends with the block."""
    if url := os.environ.get(SERVER_VARIABLE):
        yield DatabaseServer(url)
        return
    with temporary_data_dir() as data_dir, EmbeddedPostgres.start(data_dir, durable=False) as server:
        _execute(server, f"ALTER ROLE {OWNER} CREATEROLE")  # some tests need database users of their own
        try:
            yield server
        finally:
            _kept.pop(server.url).close()


@contextmanager
def temporary_database(server: DatabaseServer, template: str | None = None) -> Iterator[str]:
    """The address of a new database, empty or a copy of `template`; dropped afterwards, whoever is still connected."""
    name = f"test_{secrets.token_hex(6)}"
    url = server.create_database(name) if template is None else _copy(server, template, name)
    try:
        yield url
    finally:
        _execute(server, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def _copy(server: DatabaseServer, template: str, name: str) -> str:
    owner = "" if server.owner is None else f" OWNER {server.owner}"
    # Files as they are, where PostgreSQL knows that way (15), instead of page by page through the write-ahead log: half the time.
    strategy = " STRATEGY FILE_COPY" if _connection(server).server_version >= 150_000 else ""
    _execute(server, f"CREATE DATABASE {name} TEMPLATE {template}{owner}{strategy}")
    return server.url_for(name)


# One connection to each server, by its address: to connect takes a third of the time that a database takes.
_kept: dict[str, connection] = {}


def _execute(server: DatabaseServer, statement: str) -> None:
    with _connection(server).cursor() as cursor:
        cursor.execute(statement)


def _connection(server: DatabaseServer) -> connection:
    kept = _kept.get(server.url)
    if kept is None or kept.closed:
        kept = _kept[server.url] = psycopg2.connect(server.url)
        kept.autocommit = True
    return kept
