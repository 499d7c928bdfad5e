"""Learning apps that may use the localhost API, each known by a token of which only the hash is kept.

Besides the registered apps there is always one more, the account's own: any program that can read `app.token` in the state folder, which is
new at every start. Its pages come from the origins of the configuration, those of a registered app from the origins that it was added with.
"""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from daemon.database import DeviceDatabase
from domain.clock import Clock
from domain.errors import Conflict, InvalidInput, NotFound, Problem
from domain.ids import Id, IdSource

TOKEN_BYTES = 32
# The id under which the account's own app is stored in sessions; no registered app can have it.
OWN_APP = "own"
# The same for the device page, which the daemon serves itself; it has no token, and may sign students in and nothing else.
DEVICE_PAGE = "page"
_BUILT_IN = (OWN_APP, DEVICE_PAGE)
APPS_MAX = 100


@dataclass(frozen=True, slots=True)
class App:
    """An app that may call. `origins` are those of its web pages, such as `http://localhost:3000`."""

    id: str
    name: str
    origins: tuple[str, ...] = ()
    created_at_ms: int = 0


_PAGE = App(DEVICE_PAGE, DEVICE_PAGE)


class Apps:
    """The apps of this device. What is registered is held in memory too, because every request of a web page asks for origins."""

    def __init__(self, database: DeviceDatabase, clock: Clock, ids: IdSource, own_token: str, own_origins: Sequence[str] = ()) -> None:
        self._database, self._clock, self._ids = database, clock, ids
        self._own = App(OWN_APP, OWN_APP, tuple(own_origins))
        self._own_hash = token_hash(own_token)
        self._changing = threading.Lock()
        self._load()

    def all(self) -> list[App]:
        """The registered apps, by name."""
        return sorted((app for id_, app in self._by_id.items() if id_ not in _BUILT_IN), key=lambda app: app.name)

    def origins(self) -> frozenset[str]:
        """Every origin whose pages may call at all; which app they may speak for is another question."""
        return self._origins

    def get(self, app_id: str) -> App | None:
        """The app of this id; None when it was removed."""
        return self._by_id.get(app_id)

    def of_token(self, hash_: str) -> App | None:
        """The app whose token has this hash. Compared as hashes, so that the time taken says nothing about the token."""
        return self._by_hash.get(hash_)

    def add(self, name: str, origins: Sequence[str]) -> tuple[App, str]:
        """Registers an app: it and its token, which is shown this once. Raises Conflict when the name or an origin is another app's already."""
        app, token = App(self._ids.new(), name, tuple(dict.fromkeys(origins)), self._clock.now_ms()), secrets.token_urlsafe(TOKEN_BYTES)

        def work(conn: sqlite3.Connection) -> None:
            if conn.execute("SELECT count(*) FROM apps").fetchone()[0] >= APPS_MAX:
                raise InvalidInput([Problem("$.name", "invalid_value", f"This device has {APPS_MAX} apps already: remove one.")])
            if conn.execute("SELECT 1 FROM apps WHERE name = ?", (name,)).fetchone():
                raise Conflict("An app of this name is registered already.")
            conn.execute(
                "INSERT INTO apps (id, name, token_hash, origins, created_at_ms) VALUES (?, ?, ?, ?, ?)",
                (app.id, name, token_hash(token), msgspec.json.encode(app.origins).decode(), app.created_at_ms),
            )

        with self._changing:
            self._demand_free(app)
            self._database.write(work)
            self._load()
        return app, token

    def remove(self, app_id: Id) -> None:
        """Takes an app away with all its sessions, on a full disk too. Raises NotFound."""

        def work(conn: sqlite3.Connection) -> None:
            if not conn.execute("DELETE FROM apps WHERE id = ?", (app_id,)).rowcount:
                raise NotFound("There is no app of this id.")
            conn.execute("DELETE FROM student_sessions WHERE app_id = ?", (app_id,))

        with self._changing:
            self._database.write(work, finishing=True)
            self._load()

    def _demand_free(self, app: App) -> None:
        if app.name in _BUILT_IN:
            raise Conflict("This name stands for a part of Carrel.")
        if set(app.origins) & self._origins:
            raise Conflict("An origin belongs to another app already: what a page may do must not depend on chance.")

    def _load(self) -> None:
        with self._database.read() as conn:
            rows = conn.execute("SELECT id, name, origins, created_at_ms, token_hash FROM apps").fetchall()
        found = {row[4]: App(row[0], row[1], tuple(msgspec.json.decode(row[2])), row[3]) for row in rows} | {self._own_hash: self._own}
        self._by_hash = found
        self._by_id = {app.id: app for app in (*found.values(), _PAGE)}
        self._origins = frozenset(origin for app in found.values() for origin in app.origins)


def token_hash(token: str) -> str:
    """What is kept of a token: random 256 bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
