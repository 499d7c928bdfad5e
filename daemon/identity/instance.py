"""Whether this database is the one that this folder had: a random text in both, exchanged at every start of the daemon.

A copied or restored database brings the text of another moment with it. Then its log's continuity is in doubt before the first contact, and
a new incarnation begins: what is queued is sent again under it, with its ids. A copy that has the folder's files with it is found out
at first contact instead, by the chain (docs/protocol.md, section 8).

The file `device.identity` holds the row of `identity` with the text in it, so that a device whose database is lost still knows who it is.
"""

from __future__ import annotations

import logging
import secrets
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

from daemon.database import DeviceDatabase
from daemon.durable_file import read_json, replace_json
from domain.errors import StorageFull

log = logging.getLogger(__name__)

IDENTITY_COPY = "device.identity"
INSTANCE_BYTES = 16

# Takes the connection of the write in which a new incarnation is to begin.
Begin = Callable[[sqlite3.Connection], None]


def confirm(database: DeviceDatabase, state_dir: Path, begin_incarnation: Begin) -> bool:
    """Compares the texts, begins a new incarnation when they differ or one is missing, and exchanges them. To be called at every start.

    Returns whether the database was the folder's own; one that was never enrolled is. On a full disk everything stays as it is: the chain
    still tells copies apart.
    """
    with database.read() as conn:
        row = identity_row(conn)
    if row is None:
        return True
    copy = read_json(state_dir / IDENTITY_COPY)
    own = copy is not None and copy.get("instance") == row["instance"]
    fresh = secrets.token_hex(INSTANCE_BYTES)

    def exchange(conn: sqlite3.Connection) -> None:
        if not own:
            begin_incarnation(conn)
        conn.execute("UPDATE identity SET instance = ?", (fresh,))

    try:
        database.write(exchange, finishing=True)
        keep_copy(database, state_dir)
    except StorageFull:
        log.warning("no room to note which database is in use")
        return own
    if not own:
        log.warning("the database is a copy or was restored: its log goes on under a new incarnation")
    return own


def keep_copy(database: DeviceDatabase, state_dir: Path) -> None:
    """Writes down who this device is, beside its token; to be called after every enrolment.

    A copy that cannot be written is logged and no more: without it the next start takes the database for a restored one, which loses nothing.
    """
    with database.read() as conn:
        row = identity_row(conn)
    if row is None:
        return
    try:
        replace_json(state_dir / IDENTITY_COPY, row)
    except OSError as error:
        log.warning("who this device is cannot be noted beside the database: %s", error.strerror)


def identity_row(conn: sqlite3.Connection) -> dict[str, Any] | None:
    """The row of `identity` by column name; None on a device that was never enrolled. Raises sqlite3.Error."""
    cursor = conn.execute("SELECT * FROM identity")
    row = cursor.fetchone()
    return dict(zip([column[0] for column in cursor.description], row, strict=True)) if row else None
