"""Restoring a backup: into a new database, which takes the place of the old one in one step, under a new epoch.

    pg_restore into a new database ──▶ migrated ──▶ new epoch ──▶ both renamed in one transaction

Until the last step the school goes on with the database that it has, and a failure leaves nothing behind. Afterwards devices find another epoch,
send again what they still keep, and pull everything anew (docs/protocol.md, section 8); nobody has to act. The replaced database is kept.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import peewee
import psycopg2
from psycopg2.extensions import parse_dsn

from cloud_api import audit
from cloud_api.backups.since_backup import Registers, SinceBackup
from cloud_api.backups.withdrawals import Withdrawn
from cloud_api.config import Database as DatabaseSettings
from cloud_api.database import CloudDatabase, Cursor, one_row
from cloud_api.erasure import rights
from domain.clock import Clock
from domain.errors import AlreadyRunning, OperatorError, PostgresUnavailable
from domain.ids import Id, IdSource
from migrations.dump import Client
from migrations.engines import Limits, PostgresEngine, first_line, with_database
from migrations.history import HISTORY_TABLE
from migrations.runner import upgrade_cloud
from migrations.schema.sqltext import quoted
from migrations.waiting import SILENCE, Activity

# Databases from which others are created and renamed; one of them is on every server.
MAINTENANCE = ("postgres", "template1")
# How often it is tried to rename a database that others are using, each time for five seconds of PostgreSQL's.
SWAP_TRIES = 6
CLEAR_EVERY_S = 0.2
OBJECT_IN_USE = "55006"
NAME_BYTES_MAX = 63

Execute = Callable[..., Any]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Restored:
    """What is served from now on: the database, under which epoch, and the name that the replaced one has, None when there was none; what had been
    withdrawn since the backup was made, and is so again; and what a superuser has to run in it, so that it allows what the replaced one did.
    """

    database: str
    server_epoch: Id
    schools: int
    replaced: str | None
    withdrawn: Withdrawn = field(default_factory=Withdrawn)
    rights_to_give: tuple[str, ...] = ()


def restore(
    url: str,
    archive: Path,
    clock: Clock,
    ids: IdSource,
    activity: Activity = SILENCE,
    *,
    registers: Registers | None = None,
    superuser_url: str | None = None,
) -> Restored:
    """Puts a backup in the place of the database at `url`, which need not exist.

    What ended since the backup was made ends again in it (cloud_api/backups/since_backup.py), as far as `registers`, those beside the archive, or the
    replaced database tell. Whoever may end the write-ahead log of the replaced database may end the new one's, given by `superuser_url` where there is one.

    Raises OperatorError when the file is no backup or anything of it fails: then the database is what it was. Raises AlreadyRunning while somebody
    else restores it, PostgresUnavailable, and SchemaError for a backup of a newer version.
    """
    database = _name_in(url)
    if not archive.is_file():
        raise OperatorError(f"There is no file {archive}.")
    fresh = f"carrel_restore_{secrets.token_hex(6)}"
    fresh_url = with_database(url, fresh)
    try:
        with _maintenance(url) as engine:
            execute: Execute = engine.database.execute_sql
            client = Client.of(engine)
            _demand_ours(client.contents(archive), archive)
            _demand_alone(execute, database)
            _demand_owner(execute, database)
            execute(f"CREATE DATABASE {quoted(fresh)} TEMPLATE template0{_like(execute, database)}")
            try:
                _demand_led_to(fresh_url, fresh)
                to_give = rights.give(with_database(superuser_url or url, fresh), rights.holders(url))
                with activity.during(f"restoring {archive.name}"):
                    client.read_archive(archive, fresh, otherwise="Nothing was restored")
                upgrade_cloud(fresh_url)
                since = SinceBackup(url, archive, registers or Registers(), clock, ids)
                ended = since.end_again(fresh_url)
                epoch, schools = _make_new_life(fresh_url, clock, ids)
                replaced = _swap(url, execute, database, fresh, clock)
            except BaseException:
                execute(f"DROP DATABASE IF EXISTS {quoted(fresh)} WITH (FORCE)")
                raise
            if replaced:
                ended = ended.and_also(since.end_late(url, with_database(url, replaced)))
    except peewee.PeeweeException as error:
        raise OperatorError(f"Nothing was restored: {first_line(error)}.") from error
    return Restored(database, epoch, schools, replaced, ended, tuple(to_give))


def _name_in(url: str) -> str:
    """The name of the database that an address leads to, wherever it stands in it."""
    try:
        name = parse_dsn(url).get("dbname")
    except psycopg2.ProgrammingError as error:  # whose words may quote the password
        raise OperatorError("The address of the database is not a valid one.") from error
    if not name:
        raise OperatorError("The address of the database has no name in it: postgresql://…/NAME.")
    return str(name)


def _demand_led_to(url: str, name: str) -> None:
    """A proxy may lead every address to one database: the one that is served would be taken for the new one. Raises OperatorError."""
    engine = PostgresEngine(url, Limits())
    engine.connect()
    try:
        if engine.database.execute_sql("SELECT current_database()").fetchone()[0] != name:
            raise OperatorError(
                "Nothing was restored, because the address leads to one database, whatever its name: give PostgreSQL's own."
            )
    finally:
        engine.close()


@contextmanager
def _maintenance(url: str) -> Iterator[PostgresEngine]:
    """A connection to the server beside the database itself."""
    for name in MAINTENANCE:
        engine = PostgresEngine(with_database(url, name), Limits())
        try:
            engine.connect()
        except PostgresUnavailable:
            if name == MAINTENANCE[-1]:
                raise
            continue
        with ExitStack() as closing:
            closing.callback(engine.close)
            yield engine
        return


def _demand_ours(contents: str, archive: Path) -> None:
    if any(f" {table} " not in contents for table in (HISTORY_TABLE, "server_state", "question_attempts")):
        raise OperatorError(f"{archive} is not a backup of a school's database.")


def _demand_alone(execute: Execute, database: str) -> None:
    """Until the connection ends nobody else restores this database: two at once would end each other's connections. Raises AlreadyRunning."""
    row = execute("SELECT pg_try_advisory_lock(hashtextextended('carrel restores ' || %s, 0))", (database,)).fetchone()
    if row != (True,):
        raise AlreadyRunning(f"Somebody else restores {database} at this moment: let that finish.")


def _demand_owner(execute: Execute, database: str) -> None:
    """What is restored belongs to whoever does it, and a server that comes as somebody else could not read it. Raises OperatorError."""
    row = execute(
        "SELECT r.rolname, current_user FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba WHERE d.datname = %s AND r.rolcanlogin",
        (database,),
    ).fetchone()
    if row is not None and row[0] != row[1]:
        raise OperatorError(
            f"Nothing was restored, because {database} belongs to {row[0]}, and {row[1]} is somebody else: restore it as {row[0]}."
        )


def _like(execute: Execute, database: str) -> str:
    """The clause that gives a new database the encoding and order of the old one; nothing where there is none, or none of the plain kind."""
    row = execute(
        "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database WHERE datname = %s AND datlocprovider = 'c'",
        (database,),
    ).fetchone()
    if row is None:
        return ""
    encoding, collate, ctype = ("'" + value.replace("'", "''") + "'" for value in row)
    return f" ENCODING {encoding} LC_COLLATE {collate} LC_CTYPE {ctype}"


def _make_new_life(url: str, clock: Clock, ids: IdSource) -> tuple[Id, int]:
    """Gives the restored database an epoch of its own, by which devices know that something may be missing; (epoch, number of schools)."""
    database = CloudDatabase(url, 1, 1, DatabaseSettings(statement_timeout_s=3600))

    def renew(cursor: Cursor) -> tuple[Id, int]:
        cursor.execute("UPDATE devices SET first_sync_until_ms = NULL WHERE first_sync_until_ms IS NOT NULL")
        cursor.execute("DELETE FROM user_sessions")  # also of those who have signed out since
        cursor.execute("SELECT id FROM schools")
        schools = [school_id for (school_id,) in cursor.fetchall()]
        for school_id in schools:
            audit.record(cursor, school_id, ids.new(), clock.now_ms(), audit.OPERATOR, "server.restored")
        cursor.execute("UPDATE server_state SET epoch = gen_random_uuid() RETURNING epoch")
        return Id(one_row(cursor)[0]), len(schools)

    try:
        return database.retrying(renew)
    finally:
        database.close()


def _swap(url: str, execute: Execute, database: str, fresh: str, clock: Clock) -> str | None:
    """Gives the new database the old one's name, and the old one another, at once. Returns the latter.

    Renaming waits until nobody is connected, and lets nobody in while it waits: the connections of the school's server are ended meanwhile,
    and its next ones find the new database. Raises OperatorError when others stay.
    """
    exists = execute("SELECT 1 FROM pg_database WHERE datname = %s", (database,)).fetchone() is not None
    suffix = f"_replaced_{clock.now_ms()}"
    replaced = database.encode()[: NAME_BYTES_MAX - len(suffix)].decode(errors="ignore") + suffix if exists else None
    with _maintenance(url) as second, _clearing(second.database.connection(), [database, fresh]):  # type: ignore[no-untyped-call]
        for number in range(1, SWAP_TRIES + 1):
            try:
                execute("BEGIN")
                if replaced:
                    execute(f"ALTER DATABASE {quoted(database)} RENAME TO {quoted(replaced)}")
                execute(f"ALTER DATABASE {quoted(fresh)} RENAME TO {quoted(database)}")
                execute("COMMIT")
                return replaced
            except peewee.PeeweeException as error:
                execute("ROLLBACK")
                if number == SWAP_TRIES or getattr(getattr(error, "orig", None), "pgcode", None) != OBJECT_IN_USE:
                    raise OperatorError(
                        f"Nothing was restored, because {database} cannot be renamed: {first_line(error)}. Stop the server and try again."
                    ) from error
    return None


@contextmanager
def _clearing(connection: Any, databases: list[str]) -> Iterator[None]:
    """Ends every connection to some databases, again and again while the block lasts."""
    done = threading.Event()

    def clear() -> None:
        while True:
            # One that may not be ended is in the way of the renaming, and named by it.
            with suppress(psycopg2.Error), connection.cursor() as cursor:
                cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = ANY (%s)", (databases,))
            if done.wait(CLEAR_EVERY_S):
                return

    thread = threading.Thread(target=clear, name="clearing")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
