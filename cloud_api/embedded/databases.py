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

    def url_for(self, database: str) -> str:
        """The address of another database of this server."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

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
        with self._cursor() as execute:
            execute.execute(statement)
        return self.url_for(name)

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
