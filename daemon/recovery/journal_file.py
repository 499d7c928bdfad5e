"""The format of the side file of unsent operations (daemon/recovery/journal.py), and reading it.

A line is a CRC-32 in eight hex digits, a space, and a JSON array; a line that does not agree with its CRC is passed over, and the next one
is found by its newline.

    ["journal", 1, school id]
    ["op", op_no, op_id, table, row_id, kind, schema, hlc, wall_ms, mono_ms, boot_id, payload, base]
    ["rejected", op_no, code, message]
    ["settled", op_no]                    operations up to this one are settled; of those only the rejected ones still matter
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from domain.operations import OperationState
from migrations.private_files import real_path

SUFFIX = ".journal"
VERSION = 1
# Longer than any line: a payload is within the registry's limits, far below this.
LINE_BYTES_MAX = 1024 * 1024
_CRC_DIGITS = 8


class KeptOperation(NamedTuple):
    """An operation as it is kept outside its table; `op_no` is its place in the table that it was taken from."""

    op_no: int
    op_id: str
    table: str
    row_id: str
    kind: str
    schema: int
    hlc: int
    wall_ms: int
    mono_ms: int
    boot_id: str
    payload: str
    base: str | None
    state: str = OperationState.PENDING.value
    code: str | None = None
    message: str | None = None


def is_same(one: KeptOperation, other: KeptOperation) -> bool:
    """Whether two operations in the same place are one, of which something may have been damaged, rather than of two lives of a log."""
    return one.op_no == other.op_no and (one.op_id == other.op_id or one.row_id == other.row_id or one.payload == other.payload)


class Extent(NamedTuple):
    """What a look through a journal found. `unreadable` lines were damaged; a torn line at the end was never finished, and does not count."""

    school_id: str | None
    settled_op_no: int
    rejected: dict[int, tuple[str | None, str | None]]
    unreadable: int


def journal_path(database: Path) -> Path:
    """Where the journal of a database lies."""
    real = real_path(database)
    return real.with_name(real.name + SUFFIX)


def scan(path: Path) -> Extent:
    """Looks through a journal; one that is not there is empty. Raises OSError."""
    school_id: str | None = None
    settled = unreadable = torn = 0
    rejected: dict[int, tuple[str | None, str | None]] = {}
    for line in _lines(path):
        if line is None:
            torn += 1
            continue
        unreadable, torn = unreadable + torn, 0
        match line:
            case ["rejected", int(op_no), code, message]:
                rejected[op_no] = (code, message)
            case ["settled", int(op_no)]:
                settled = op_no
            case ["journal", _, school]:
                school_id = school
    return Extent(school_id, settled, rejected, unreadable)


def read(path: Path, extent: Extent) -> Iterator[KeptOperation]:
    """The operations in a journal that are not at school as far as it knows, in the order of the file. Raises OSError."""
    for line in _lines(path):
        match line:
            case ["op", *values] if len(values) == len(KeptOperation._fields) - 3:
                operation = KeptOperation(*values)
                if operation.op_no in extent.rejected:
                    code, message = extent.rejected[operation.op_no]
                    yield operation._replace(state=OperationState.REJECTED.value, code=code, message=message)
                elif operation.op_no > extent.settled_op_no:
                    yield operation


def laid_by(database: Path) -> int:
    """How many unsent operations of other schools wait beside a database (daemon/recovery/replacement.py)."""
    path = journal_path(database)
    return sum(1 for other in path.parent.glob(f"{path.name}.of-*") for _ in read(other, scan(other)))


def _lines(path: Path) -> Iterator[list[Any] | None]:
    """The array of each line; None for a line that is not what was written."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        while line := file.readline(LINE_BYTES_MAX):
            yield _decoded(line)


def _decoded(line: bytes) -> list[Any] | None:
    body = line[_CRC_DIGITS + 1 : -1]
    if line != _line(body):
        return None
    try:
        decoded = msgspec.json.decode(body)
    except ValueError:
        return None
    return decoded if isinstance(decoded, list) else None


def encoded(*values: Any) -> bytes:
    return _line(msgspec.json.encode(values))


def _line(body: bytes) -> bytes:
    return b"%08x %b\n" % (zlib.crc32(body), body)
