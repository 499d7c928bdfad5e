"""The outbox `sync_operations`: append in the caller's transaction, read the next batch, begin anew, prune.

An operation's `seq` is `op_no - seq_base`; nothing ever rewrites a queued operation (docs/protocol.md, "Identity"). Every function takes the
connection of a transaction that its caller holds: `append` inside `DeviceDatabase.write`, the others inside `read` or `write`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from daemon.identity.boot import boot_id
from daemon.sqlite_errors import is_sqlites_own
from domain.clock import Clock
from domain.ids import Id, derived_id, is_id
from domain.merge import Base, QueuedChange
from domain.operations import CHAIN_START, Operation, OperationKind, OperationState, Rejection
from domain.registry import SCHEMA_VERSION

# How long settled operations stay when the server has never said that its backup holds them.
KEEP_SYNCED_MS = 60 * 24 * 3600 * 1000
# And when it has: a backup that turns out to be unreadable is not the only one, and the one before it is not a week old.
KEEP_DURABLE_MS = 7 * 24 * 3600 * 1000
# Operations removed by one call of `prune`, so that no write transaction gets long.
PRUNE_MAX = 5_000
# The code of an operation that is sent as a void, and of its rejection.
SET_ASIDE = Rejection.SET_ASIDE.value


@dataclass(frozen=True, slots=True)
class NewOperation:
    """A change to append: `payload` maps column names to JSON values, in registry order; `base` is what an update has replaced."""

    table: str
    row_id: Id
    kind: OperationKind
    payload: Mapping[str, Any]
    hlc: int = 0
    op_id: Id | None = None  # an insert's operation goes by its row's id
    base: Base | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the log is settled. `chain` is the chain after operation `acked_op_no`."""

    incarnation: str
    seq_base: int
    acked_op_no: int
    chain: bytes


class Outbox:
    """Appends operations stamped with this machine's clocks."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._boot_id = boot_id()

    def append(self, conn: sqlite3.Connection, operations: Sequence[NewOperation]) -> None:
        """Adds the operations, in order, to the transaction that also holds their rows."""
        wall_ms, mono_ms = self._clock.now_ms(), self._clock.monotonic_ms()
        boot_no = self._boot_no(conn)
        conn.executemany(
            "INSERT INTO sync_operations (op_id, table_name, row_id, kind, schema_version, hlc, wall_ms, mono_ms, boot_no, payload,"
            " base) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    op.op_id or op.row_id,
                    op.table,
                    op.row_id,
                    op.kind.value,
                    SCHEMA_VERSION,
                    op.hlc,
                    wall_ms,
                    mono_ms,
                    boot_no,
                    msgspec.json.encode(op.payload).decode(),
                    None if op.base is None else msgspec.json.encode(op.base).decode(),
                )
                for op in operations
            ],
        )

    def _boot_no(self, conn: sqlite3.Connection) -> int:
        row = conn.execute("SELECT boot_no FROM boots WHERE boot_id = ?", (self._boot_id,)).fetchone()
        if row is None:
            row = conn.execute("INSERT INTO boots (boot_id) VALUES (?) RETURNING boot_no", (self._boot_id,)).fetchone()
        return int(row[0])


def progress(conn: sqlite3.Connection) -> Progress | None:
    """How far the log is settled; None on a device that was never enrolled."""
    row = conn.execute("SELECT incarnation, seq_base, acked_op_no, chain FROM sync_progress").fetchone()
    return Progress(row[0], row[1], row[2], bytes.fromhex(row[3])) if row else None


def next_operations(conn: sqlite3.Connection, place: Progress, ops_max: int, bytes_max: int) -> list[Operation]:
    """The next unsettled operations in order: at most `ops_max`, and payloads of at most `bytes_max` bytes but always one operation.

    A damaged text that is no UTF-8 any more has its bytes escaped as surrogates: nobody can send it, and it can be told which it is.
    """
    try:
        return _next_operations(conn, place, ops_max, bytes_max)
    except (sqlite3.OperationalError, UnicodeDecodeError) as error:
        if is_sqlites_own(error):
            raise
    conn.text_factory = lambda text: text.decode("utf-8", "surrogateescape")
    try:
        return _next_operations(conn, place, ops_max, bytes_max)
    finally:
        conn.text_factory = str


def _next_operations(conn: sqlite3.Connection, place: Progress, ops_max: int, bytes_max: int) -> list[Operation]:
    rows = conn.execute(
        "SELECT op_no - ?, iif(kind = 'insert', row_id, op_id), table_name, row_id, iif(code IS ?, 'void', kind), schema_version, hlc, wall_ms, mono_ms, boot_id,"
        " iif(code IS ?, '{}', payload), iif(code IS ?, NULL, base) FROM sync_operations JOIN boots USING (boot_no) WHERE op_no > ? ORDER BY op_no LIMIT ?",
        (place.seq_base, SET_ASIDE, SET_ASIDE, SET_ASIDE, place.acked_op_no, ops_max),
    )
    batch: list[Operation] = []
    used = 0
    for operation in map(Operation._make, rows):
        if operation.kind == OperationKind.VOID:
            operation = _sendable(operation)
        used += len(operation.payload) + len(operation.base or "")
        if batch and used > bytes_max:
            break
        batch.append(operation)
    return batch


def _sendable(void: Operation) -> Operation:
    """A void of which the ids can be read, whatever has become of those of the operation whose place it takes; the same ones each time."""
    if is_id(void.op_id) and is_id(void.row_id):
        return void
    stand_in = derived_id("void", void.op_id, void.row_id)
    return void._replace(op_id=stand_in, row_id=stand_in)


def set_aside(conn: sqlite3.Connection, place: Progress, seq: int, message: str) -> None:
    """Gives up sending an operation that the server refuses even alone: a void takes its place, so that the log goes on without a gap.

    It is settled as rejected like any other; what it held stays here.
    """
    conn.execute(
        "UPDATE sync_operations SET code = ?, message = ? WHERE op_no = ? AND state = 'pending'", (SET_ASIDE, message, place.seq_base + seq)
    )


# Stands among the cursors while rows that this incarnation has written are at school and not here.
_ABSENT = "absent:"


def note_absent(conn: sqlite3.Connection) -> None:
    """Rows that this incarnation wrote are not here (any more): their scope was lost. Should it come back, they must come with it, and the server
    leaves out what an incarnation wrote itself: the next pull is to be one of a new incarnation.
    """
    conn.execute("INSERT OR IGNORE INTO cursors (scope, cursor) VALUES (?, 0)", (_ABSENT,))


def has_absent(conn: sqlite3.Connection) -> bool:
    """Whether rows that this incarnation wrote are at school and not here."""
    return conn.execute("SELECT 1 FROM cursors WHERE scope = ?", (_ABSENT,)).fetchone() is not None


def forget_outdated(conn: sqlite3.Connection, server_now_ms: int | None) -> None:
    """Removes what a device that was never asleep would not keep any more, before everything kept is sent again.

    A row that was deleted meanwhile would else come back, to a server that has forgotten its deletion. None, where nobody knows the time, keeps all.
    """
    while server_now_ms is not None and prune(conn, 0, server_now_ms) == PRUNE_MAX:
        pass


def has_settled(conn: sqlite3.Connection) -> bool:
    """Whether the log still has an operation that is at school."""
    return conn.execute("SELECT 1 FROM sync_operations WHERE state = 'synced' LIMIT 1").fetchone() is not None


def start_incarnation(conn: sqlite3.Connection, incarnation: Id, *, resend_all: bool) -> None:
    """Begins a new life of the log: unsettled operations, or with `resend_all` every operation still kept, are sent again under it.

    Their ids stay, so whatever the server has already becomes a duplicate. Rejected operations among them are sent again too, because the log
    has no gaps; those before them are not.
    """
    if resend_all:
        conn.execute("UPDATE sync_operations SET state = 'pending', settled_at_ms = NULL WHERE state = 'synced'")
    first = conn.execute("SELECT min(op_no) FROM sync_operations WHERE state = 'pending'").fetchone()[0]
    if first is None:
        first = conn.execute("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'sync_operations'").fetchone()[0] + 1
    base = first - 1
    conn.execute("DELETE FROM cursors WHERE scope = ?", (_ABSENT,))
    conn.execute(
        "INSERT INTO sync_progress (one, incarnation, seq_base, acked_op_no, chain) VALUES (1, ?, ?, ?, ?) ON CONFLICT (one) DO UPDATE"
        " SET incarnation = excluded.incarnation, seq_base = excluded.seq_base, acked_op_no = excluded.acked_op_no, chain = excluded.chain",
        (incarnation, base, base, CHAIN_START.hex()),
    )
    if resend_all:  # what was in a backup of that server is not in one of this
        conn.execute("UPDATE sync_progress SET durable_op_no = 0")


def last_hlc(conn: sqlite3.Connection) -> int:
    """The greatest hybrid clock value that this device has written; 0 if none."""
    return int(conn.execute("SELECT coalesce(max(hlc), 0) FROM sync_operations WHERE hlc > 0").fetchone()[0])


@dataclass(frozen=True, slots=True)
class Counts:
    """Operations of this device: not yet at school, and refused by the server."""

    pending: int
    rejected: int


def counts(conn: sqlite3.Connection) -> Counts:
    """Counted over the partial indexes: costs what is pending, not what was ever written."""
    pending, rejected = (
        conn.execute(f"SELECT count(*) FROM sync_operations WHERE state = '{state}'").fetchone()[0]
        for state in (OperationState.PENDING.value, OperationState.REJECTED.value)
    )
    return Counts(pending, rejected)


def nowhere_else(conn: sqlite3.Connection) -> int:
    """How many operations only this device holds: those that are queued, and those set aside, of which the school has the place alone."""
    query = "SELECT count(*) FROM sync_operations WHERE state = 'pending' OR (state = 'rejected' AND code = ?)"
    return int(conn.execute(query, (SET_ASIDE,)).fetchone()[0])


def behind(conn: sqlite3.Connection, op_no: int) -> tuple[int, int | None]:
    """How many operations were queued after this one, told by their numbers, and when the first of them was written (UTC ms, None: there is none)."""
    last: int | None = conn.execute("SELECT max(op_no) FROM sync_operations").fetchone()[0]
    first = conn.execute(
        "SELECT wall_ms FROM sync_operations WHERE op_no > ? AND state = 'pending' ORDER BY op_no LIMIT 1", (op_no,)
    ).fetchone()
    return (max(0, (last or 0) - op_no), int(first[0])) if first else (0, None)


@dataclass(frozen=True, slots=True)
class Contacts:
    """When this device last reached its school, sent something and fetched something; UTC ms."""

    last_contact_ms: int | None = None
    last_push_ms: int | None = None
    last_pull_ms: int | None = None


def contacts(conn: sqlite3.Connection) -> Contacts:
    """The stored times; a push or pull is a contact too."""
    row = conn.execute("SELECT last_contact_ms, last_push_ms, last_pull_ms FROM sync_progress").fetchone()
    if row is None:
        return Contacts()
    return Contacts(max((ms for ms in row if ms is not None), default=None), row[1], row[2])


def note_contact(conn: sqlite3.Connection, now_ms: int) -> None:
    """Writes down that the school was reached."""
    conn.execute("UPDATE sync_progress SET last_contact_ms = ?", (now_ms,))


def queued_changes(conn: sqlite3.Connection, table: str, row_ids: Sequence[str]) -> dict[str, list[QueuedChange]]:
    """For those of the rows that have queued changes: each of them, oldest first."""
    rows = conn.execute(
        "SELECT row_id, payload, hlc FROM sync_operations WHERE state = 'pending' AND table_name = ? AND row_id IN (SELECT value FROM json_each(?))"
        " ORDER BY op_no",
        (table, msgspec.json.encode(row_ids).decode()),
    )
    found: dict[str, list[QueuedChange]] = {}
    for row_id, payload, hlc in rows:
        found.setdefault(row_id, []).append(QueuedChange(read_payload(payload) or {}, hlc))
    return found


def read_payload(text: str) -> dict[str, Any] | None:
    """The fields that an operation holds; None where it was damaged (daemon/queue/unreadable.py)."""
    try:
        payload = msgspec.json.decode(text)
    except ValueError:
        return None
    return payload if isinstance(payload, dict) else None


def note_durable(conn: sqlite3.Connection, seq: int | None) -> None:
    """A backup of the server's holds this incarnation's operations up to `seq`; None tells nothing. In the caller's write, which has checked that
    the incarnation is the one that was asked for.
    """
    if seq is not None:
        conn.execute("UPDATE sync_progress SET durable_op_no = max(durable_op_no, min(seq_base + ?, acked_op_no))", (seq,))


def durable_op_no(conn: sqlite3.Connection) -> int:
    """The last operation that is known to be in a backup of the server's; 0 if none."""
    row = conn.execute("SELECT durable_op_no FROM sync_progress").fetchone()
    return int(row[0]) if row else 0


def prune(conn: sqlite3.Connection, durable_op_no: int, now_ms: int) -> int:
    """Removes settled operations that the server's backup has held for a week, or that are older than 60 days; at most PRUNE_MAX. Returns how
    many.

    `now_ms` is the server's time. Only from the beginning of the log: a gap, as a wrong clock would make, could never be sent again. Rejected
    operations stay.
    """
    return conn.execute(
        "DELETE FROM sync_operations WHERE op_no IN (SELECT op_no FROM sync_operations WHERE state = 'synced'"
        " AND op_no <= (SELECT acked_op_no FROM sync_progress) AND op_no < coalesce((SELECT op_no FROM sync_operations"
        " WHERE state = 'synced' AND settled_at_ms >= iif(op_no > ?, ?, ?) ORDER BY op_no LIMIT 1), 9223372036854775807) ORDER BY op_no LIMIT ?)",
        (durable_op_no, now_ms - KEEP_SYNCED_MS, now_ms - KEEP_DURABLE_MS, PRUNE_MAX),
    ).rowcount
