"""Operations and conflicts as the API tells them, for its routes and for commands that work without a daemon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from daemon.api.schemas.sync import SyncConflict, SyncOperation, SyncOperationWhole
from daemon.database import DeviceDatabase
from daemon.models import sync as stored
from daemon.queue import sync_log
from daemon.queue.outbox import read_payload
from domain.ids import dashed
from domain.merge import SERVER_WRITER


def operations(database: DeviceDatabase, rows: Sequence[stored.SyncOperation]) -> list[SyncOperation]:
    """Operations without what they hold."""
    return [SyncOperation(**told) for _, told in _told(database, rows)]


def whole_operations(database: DeviceDatabase, rows: Sequence[stored.SyncOperation]) -> list[SyncOperationWhole]:
    """Operations with what they hold."""
    return [
        SyncOperationWhole(
            **told,
            payload=_content(row.payload),
            base=None if row.base is None else _content(row.base),
            schema=row.schema_version,
            hlc=row.hlc,
        )
        for row, told in _told(database, rows)
    ]


def conflicts(database: DeviceDatabase, device_id: str | None, rows: Sequence[stored.SyncConflict]) -> list[SyncConflict]:
    """Conflicts, seen from the device `device_id`."""
    names = sync_log.names_of(database, [row.student_id for row in rows])
    return [
        SyncConflict(
            id=dashed(row.id),
            student_id=dashed(row.student_id),
            student_name=names.get(row.student_id),
            table=row.table_name,
            row_id=dashed(row.row_id),
            field=row.field,
            kept=_value(row.kept_value),
            kept_by=_writer(row.kept_clock, device_id),
            lost=_value(row.lost_value),
            lost_by=_writer(row.lost_clock, device_id),
            seen=_value(row.base_value),
            rule=row.rule,
            noted_at_ms=row.created_at_ms,
            restored_at_ms=row.restored_at_ms,
        )
        for row in rows
    ]


def _told(database: DeviceDatabase, rows: Sequence[stored.SyncOperation]) -> Iterator[tuple[stored.SyncOperation, Mapping[str, Any]]]:
    students = sync_log.students_of(database, rows)
    names = sync_log.names_of(database, list(students.values()))
    for row in rows:
        student = students.get(row.op_no)
        yield (
            row,
            {
                "op_no": row.op_no,
                "id": dashed(row.op_id),
                "table": row.table_name,
                "row_id": dashed(row.row_id),
                "student_id": dashed(student) if student else None,
                "student_name": names.get(student) if student else None,
                "kind": row.kind,
                "state": row.state,
                "code": row.code,
                "message": row.message,
                "written_at_ms": row.wall_ms,
                "settled_at_ms": row.settled_at_ms,
            },
        )


def _content(text: str) -> dict[str, Any]:
    """What an operation holds. Of one that was damaged the very text, for whoever can still make something of it."""
    found = read_payload(text)
    return {"damaged": text} if found is None else found


def _value(text: str | None) -> Any:
    return None if text is None else msgspec.json.decode(text)


def _writer(clock: str | None, device_id: str | None) -> str | None:
    match _value(clock):
        case [0, _] | None:
            return None
        case [_, writer] if writer == SERVER_WRITER:
            return "school"
        case [_, writer]:
            return "this_device" if writer == device_id else "another_device"
    return None
