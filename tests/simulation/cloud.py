"""The server of a simulation: the product's database module over one connection that stays open, and a server that dies, or is restored.

A school is made for each seed in a database that all seeds share. A seed that restores its server has a database of its own, because a backup
is one of a whole server.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2.extensions

from cloud_api import backup
from cloud_api.database import CloudDatabase
from cloud_api.embedded import DatabaseServer


class ServerCrash(BaseException):
    """The server dies in the middle of a transaction. No code of the product catches it for good."""


class _MortalCursor(psycopg2.extensions.cursor):
    """Dies when its server does, and sends BEGIN together with the statement after it: one way less to the database in each transaction.

    Each connection has a class of its own.
    """

    _begin = ""
    spend: Callable[[], None]

    def execute(self, query: Any, parameters: Any = None) -> None:
        self.spend()
        if isinstance(query, str) and query.startswith("BEGIN"):
            type(self)._begin = f"{query};"
            return
        begin, type(self)._begin = self._begin, ""
        super().execute(begin.encode() + query if isinstance(query, bytes) else begin + query, parameters)

    def copy_expert(self, *arguments: Any) -> None:
        self.spend()
        super().copy_expert(*arguments)


class SimulatedCloud(CloudDatabase):
    """Without the pool's look at the connection before each use. `commits` counts transactions that may have written something; before the
    `statements_left`-th statement from now, if that is set, the server dies.
    """

    def __init__(self, url: str) -> None:
        super().__init__(url, max_connections=1)
        self.commits = 0
        self.statements_left: int | None = None
        self._kept: Any = None
        self._prepared: set[str] = set()

    def prepared(self, name: str, sql: str) -> None:
        """Makes `sql` a prepared statement of the connection, planned once; inside a transaction."""
        if name not in self._prepared:
            self._kept.cursor().execute(f"PREPARE {name} AS {sql}")
            self._prepared.add(name)

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        if self._kept is None:
            self._check_out()
            self._kept = self._pool.connection()
            self._kept.cursor_factory = type("Cursor", (_MortalCursor,), {"spend": staticmethod(self._spend)})
            self._prepared.clear()
        elif self._kept.info.transaction_status:
            raise RuntimeError("this thread is inside a transaction already")
        try:
            yield self._kept
        except BaseException:
            self.statements_left = None  # the next process is alive
            self._kept.cursor().execute("ROLLBACK")
            raise

    @contextmanager
    def transaction(self, *, read_only: bool = False, snapshot: bool = False) -> Iterator[Any]:
        with super().transaction(read_only=read_only, snapshot=snapshot) as cursor:
            yield cursor
        self.commits += not (read_only or snapshot)

    def retrying(self, fn: Any) -> Any:
        result = super().retrying(fn)
        self.commits += 1
        return result

    def _spend(self) -> None:
        if self.statements_left is not None:
            self.statements_left -= 1
            if self.statements_left <= 0:
                raise ServerCrash

    def close(self) -> None:
        self._kept = None
        super().close()


class RestorableCloud(SimulatedCloud):
    """A server of one seed's own: `back_up` keeps the whole database as it is, `restore` goes back to that under a new epoch."""

    _numbers = itertools.count()

    def __init__(self, server: DatabaseServer, template: str) -> None:
        self._server = server
        self._stem = f"sim_{template}_{next(self._numbers)}"
        self._backup: str | None = None
        self._made: list[str] = []
        super().__init__(self._create(template))

    @property
    def has_backup(self) -> bool:
        return self._backup is not None

    def back_up(self) -> None:
        """Keeps a copy, in place of an earlier one, and notes how far devices' logs are in it."""
        with self.transaction(read_only=True) as cursor:
            cursor.execute("SELECT school_id, no, last_seq FROM device_incarnations ORDER BY no")
            places = cursor.fetchall()
        current = self.url.rpartition("/")[2]
        self.close()
        self._create(current)
        self._backup = self._made[-1]
        with self.transaction() as cursor:
            backup._note_durable(cursor.execute, places)

    def restore(self) -> None:
        """The database is the copy; nobody has the one that it was."""
        if self._backup is None:
            raise LookupError("no backup")
        self.close()
        commits = self.commits
        super().__init__(self._create(self._backup))
        self.commits = commits
        with self.transaction() as cursor:
            cursor.execute("UPDATE server_state SET epoch = gen_random_uuid()")

    def drop(self) -> None:
        """Removes every database of this server."""
        self.close()
        for name in self._made:
            self._server.drop_database(name)

    def _create(self, template: str) -> str:
        name = f"{self._stem}_{len(self._made)}"
        self._made.append(name)
        return self._server.create_database(name, template)
