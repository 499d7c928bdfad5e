"""The server of a simulation: the product's database module over one connection that stays open, and a server that dies, or is restored.

A school is made for each seed in a database that all seeds share. A seed that restores its server has a database of its own, because a backup
is one of a whole server.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from cloud_api.backups import making
from cloud_api.database import CloudDatabase
from cloud_api.embedded import DatabaseServer
from tests.simulation.connection import Session, session_class

# A push of one run takes a dozen statements, one with something to sort out some more: within so many a server that is to die does so.
STATEMENTS_MAX = 25
# Statements are planned once, before there is anything that PostgreSQL could know of the tables: the indexes are right for all that comes.
_PLANS = "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET jit = off"


class ServerCrash(BaseException):
    """The server dies in the middle of a transaction. No code of the product catches it for good."""


@dataclass
class Line:
    """The one connection to a simulated server, whoever holds it: the product hands out narrowed copies of its database.

    `connect` makes it; before the `statements_left`-th statement from now, if that is set, `failure` is raised.
    """

    connect: Callable[[], None]
    commits: int = 0
    statements_left: int | None = None
    failure: BaseException = field(default_factory=ServerCrash)
    kept: Any = None
    inside: bool = False

    def spend(self) -> None:
        """A statement is about to be sent."""
        if self.statements_left is not None:
            self.statements_left -= 1
            if self.statements_left <= 0:
                self.statements_left = None
                raise self.failure


class SimulatedCloud(CloudDatabase):
    """Without the pool's look at the connection before each use. `commits` counts transactions that may have written something."""

    def __init__(self, url: str, line: Line | None = None) -> None:
        super().__init__(url, max_connections=1)
        self._line = line or Line(self._connect)

    @property
    def commits(self) -> int:
        return self._line.commits

    @contextmanager
    def failing(self, statements: int, failure: BaseException) -> Iterator[None]:
        """Within it, `failure` is raised before that many statements from now; once."""
        self._line.statements_left, self._line.failure = statements, failure
        try:
            yield
        finally:
            self._line.statements_left = None

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        line = self._line
        if line.inside:
            raise RuntimeError("this thread is inside a transaction already")
        if line.kept is None:
            line.connect()
        line.inside = True
        try:
            yield line.kept
        except BaseException:
            line.statements_left = None  # the next process is alive
            line.kept.cursor().execute("ROLLBACK")
            raise
        finally:
            line.inside = False

    def _connect(self) -> None:
        self._check_out()
        kept = self._line.kept = self._pool.connection()
        kept.cursor().execute(f"{_PLANS}; COMMIT")
        kept.cursor_factory = session_class(Session(self._line.spend))

    @contextmanager
    def transaction(self, **options: Any) -> Iterator[Any]:
        with super().transaction(**options) as cursor:
            yield cursor
        self._line.commits += not (options.get("read_only") or options.get("snapshot"))

    def retrying(self, fn: Any, **options: Any) -> Any:
        result = super().retrying(fn, **options)
        self._line.commits += 1
        return result

    def close(self) -> None:
        self._line.kept = None
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
            making._note_durable(cursor.execute, places)

    def restore(self) -> None:
        """The database is the copy; nobody has the one that it was."""
        if self._backup is None:
            raise LookupError("no backup")
        self.close()
        super().__init__(self._create(self._backup), self._line)
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
