"""Operations: one local change of one row, its place in the device's log, and the hash chain over the log.

pending ──sent──▶ pending ──acknowledged──▶ synced ──▶ pruned
                         └────────────────▶ rejected   (terminal, visible, retried by hand)
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import NamedTuple

from domain.ids import Id


class OperationKind(StrEnum):
    """What an operation does to its row."""

    INSERT = "insert"  # the payload holds every column but the id
    UPDATE = "update"  # the payload holds the changed fields
    VOID = "void"  # nothing: it only takes the place of an operation that could not be sent


class OperationState(StrEnum):
    """Where an operation of this device stands."""

    PENDING = "pending"
    SYNCED = "synced"
    REJECTED = "rejected"


class Verdict(StrEnum):
    """What the server says of one operation."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"  # it was here already; nothing changed
    MERGED = "merged"  # a concurrent change won at least one field; the loser is kept as a conflict
    REJECTED = "rejected"  # kept whole as a dead letter


class Rejection(StrEnum):
    """Why an operation became a dead letter. The values are public (docs/errors.md)."""

    INVALID = "invalid_value"  # a value breaks the registry's limits
    UNKNOWN_TABLE = "unknown_table"  # no such table, or not one that devices write
    NOT_WRITABLE = "not_writable"  # a column or a kind of change that devices may not send
    NOT_GRANTED = "not_granted"  # the row lies outside what the device was allowed when it wrote it
    IMMUTABLE = "immutable"  # the id exists with other content
    UNKNOWN_REFERENCE = "unknown_reference"  # a row that it refers to does not exist
    DELETED = "deleted"  # the row was deleted, and stays so
    DEPENDS_ON = "depends_on"  # an operation that it builds on was rejected
    SET_ASIDE = "set_aside"  # the device could not send it
    ERASED = "erased"  # the student's data were erased at school; nothing of the operation is kept there
    REFUSED = "refused_by_database"  # the database itself would not take it


class Operation(NamedTuple):
    """One row of `sync_operations` as it is sent. `payload` is compact JSON text, exactly as it was written with the row.

    `wall_ms`, `mono_ms` and `boot_id` are the device's clocks at the time of writing (docs/protocol.md, "Clocks"). `base` is JSON text too: what
    the writer of an update had before its eyes, `{field: [value, clock or null]}` (docs/protocol.md, "Conflicts"). The chain does not cover it.
    """

    seq: int
    op_id: Id
    table: str
    row_id: Id
    kind: str
    schema: int
    hlc: int
    wall_ms: int
    mono_ms: int
    boot_id: str
    payload: str
    base: str | None = None


CHAIN_BYTES = 16
CHAIN_START = bytes(CHAIN_BYTES)


def next_chain(chain: bytes, operation: bytes) -> bytes:
    """chain(n) = BLAKE2b-128(chain(n-1) ‖ canonical bytes of operation n); 16 bytes."""
    return hashlib.blake2b(chain + operation, digest_size=CHAIN_BYTES).digest()


def canonical_prefix(table: str, kind: str, schema: int) -> str:
    """The part of the canonical bytes that operations of one run share."""
    return f'"{table}","{kind}",{schema},'


def canonical_bytes(prefix: str, seq: int, op_id: str, row_id: str, hlc: int, wall_ms: int, payload: str) -> bytes:
    """What the chain covers: the JSON array [seq, op id, row id, hlc, wall ms, table, kind, schema, payload], without spaces.

    `prefix` comes from `canonical_prefix`. The payload is the JSON text that the device stored; the server writes the same text from the
    columns it received, in their order.
    """
    return f'[{seq},"{op_id}","{row_id}",{hlc},{wall_ms},{prefix}{payload}]'.encode()
