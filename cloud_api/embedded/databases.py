"""Creating and dropping databases on a PostgreSQL server, embedded or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg2
from psycopg2 import sql
from psycopg2.extensions import cursor

from domain.errors import PostgresUnavailable

CONNECT_TIMEOUT_S = 10


class DatabaseServer:
    """A server known by the address of one of its databases, `postgresql://user:password@host:port/database`."""

    def __init__(self, url: str) -> None:
        self.url = url
        # The user of the same password to whom databases are given; None: whoever makes them.
        self.owner: str | None = None

    def url_for(self, database: str) -> str:
        """The address of another database of this server, for its owner."""
        parts = urlsplit(self.url)
        if self.owner is not None:
            parts = parts._replace(netloc=f"{self.owner}:{parts.password}@{parts.hostname}:{parts.port}")
        return urlunsplit(parts._replace(path=f"/{database}"))

    def superuser_url_for(self, database: str) -> str:
        """The address of another database, for the user of `url`."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def make_owner(self, name: str, password: str) -> None:
        """Makes the user to whom databases are given from now on, unless there is one; it may make databases, and is no superuser."""
        with self._cursor() as execute:
            execute.execute("SELECT FROM pg_roles WHERE rolname = %s", (name,))
            if execute.fetchone() is None:
                identity = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(sql.Identifier(name), sql.Literal(password))
                execute.execute(identity)
                # With `_may_end_log`: what is erased goes with the write-ahead log that it stands in.
                execute.execute(sql.SQL("GRANT pg_checkpoint TO {}").format(sql.Identifier(name)))
        self.owner = name

    def answers(self) -> bool:
        """Whether a connection succeeds now."""
        try:
            psycopg2.connect(self.url, connect_timeout=CONNECT_TIMEOUT_S).close()
        except psycopg2.OperationalError:
            return False
        return True

    def create_database(self, name: str, template: str | None = None) -> str:
        """Make an empty database, or a copy of `template` (to which nobody may be connected). Returns its address."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        if self.owner is not None:
            statement += sql.SQL(" OWNER {}").format(sql.Identifier(self.owner))
        with self._cursor() as execute:
            execute.execute(statement)
        if self.owner is not None and template is None:
            self._may_end_log(name, self.owner)
        return self.url_for(name)

    def ensure_database(self, name: str) -> str:
        """The address of a database, which is made when there is none. One that a restore has put there gets what it lacks."""
        if not DatabaseServer(self.url_for(name)).answers():
            return self.create_database(name)
        if self.owner is not None:
            self._may_end_log(name, self.owner)
        return self.url_for(name)

    def _may_end_log(self, database: str, owner: str) -> None:
        """Rights on functions are a database's own; those made from it as a template have them too."""
        with closing(psycopg2.connect(self.superuser_url_for(database), connect_timeout=CONNECT_TIMEOUT_S)) as connection:
            connection.autocommit = True
            with connection.cursor() as execute:
                execute.execute("SELECT has_function_privilege(%s, 'pg_switch_wal()', 'EXECUTE')", (owner,))
                if execute.fetchone() != (True,):
                    execute.execute(sql.SQL("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO {}").format(sql.Identifier(owner)))

    def drop_database(self, name: str) -> None:
        """Remove a database and end every connection to it; nothing happens if there is none."""
        with self._cursor() as execute:
            execute.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    @contextmanager
    def _cursor(self) -> Iterator[cursor]:
        """A cursor of a short connection outside any transaction, in which CREATE DATABASE would be refused."""
        try:
            with closing(psycopg2.connect(self.url, connect_timeout=CONNECT_TIMEOUT_S)) as connection:
                connection.autocommit = True
                with connection.cursor() as opened:
                    yield opened
        except psycopg2.Error as error:
            raise PostgresUnavailable(f"PostgreSQL refused: {str(error).strip().splitlines()[0]}.") from error
