"""A real PostgreSQL for tests."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2

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
        _let_make_roles(server)
        yield server


def _let_make_roles(server: EmbeddedPostgres) -> None:
    """Some tests need database users of their own."""
    with closing(psycopg2.connect(server.url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(f"ALTER ROLE {OWNER} CREATEROLE")


@contextmanager
def temporary_database(server: DatabaseServer, template: str | None = None) -> Iterator[str]:
    """The address of a new database, empty or a copy of `template`; dropped afterwards, whoever is still connected."""
    name = f"test_{secrets.token_hex(6)}"
    url = server.create_database(name, template)
    try:
        yield url
    finally:
        server.drop_database(name)
