"""A real PostgreSQL for tests."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg2

from cloud_api.embedded import DatabaseServer, EmbeddedPostgres, reachable_folder
from cloud_api.embedded.cluster import OWNER

# The address of a server whose user may create databases; without it tests start their own.
SERVER_VARIABLE = "CARREL_TEST_DATABASE_URL"
PREFIX = "carrel-test-"


# A file system in memory: on one of the disk half of PostgreSQL's time goes into files that the next test throws away.
MEMORY = Path("/dev/shm")
MEMORY_FREE_MIN_BYTES = 4 << 30
# What a test run that was killed has left there takes memory: the next one takes it away. Younger folders may not be locked yet.
LEFT_BEHIND_MIN_AGE_S = 60.0


@contextmanager
def temporary_data_dir() -> Iterator[Path]:
    """A data folder for one server, removed afterwards. pytest's tmp_path will not do: as root it is closed to other accounts."""
    _remove_left_behind()
    parent = Path(tempfile.mkdtemp(prefix=PREFIX, dir=MEMORY if _has_room(MEMORY) else None))
    if os.geteuid() == 0:
        parent.chmod(0o711)
    data_dir = reachable_folder(parent / "postgres")
    in_use = _locked(parent)
    try:
        yield data_dir
    finally:
        shutil.rmtree(parent)
        shutil.rmtree(data_dir, ignore_errors=True)
        if in_use is not None:
            os.close(in_use)


def _has_room(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK) and shutil.disk_usage(folder).free >= MEMORY_FREE_MIN_BYTES


def _locked(folder: Path) -> int | None:
    """A descriptor that holds the lock of a folder until it is closed; None when another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _remove_left_behind() -> None:
    """Removes the folders in memory of test runs that are gone."""
    for folder in MEMORY.glob(f"{PREFIX}*"):
        try:
            if time.time() - folder.stat().st_mtime < LEFT_BEHIND_MIN_AGE_S:
                continue
            lock = _locked(folder)
        except OSError:  # another test has just removed it, or it is another account's
            continue
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


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
