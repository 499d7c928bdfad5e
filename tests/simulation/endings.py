"""What must hold when faults have stopped and everything has drained."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from cloud_api.learning import mastery as cloud_mastery
from daemon.learning import mastery as device_mastery
from daemon.sync.verify import Verified
from domain.agreement import Result
from domain.ids import Id
from domain.registry import TABLES, Kind, ScopeKind, Table
from tests.simulation.checks import violated
from tests.simulation.device import LATER_FIELD

if TYPE_CHECKING:
    from tests.simulation.device import SimulatedDevice
    from tests.simulation.world import World

# In as many worlds the product compares itself as well: it asks for everything once more.
COMPARED_SHARE = 0.4

Row = dict[str, Any]
Stored = dict[str, dict[Id, Row]]
_MASTERY = "student_id, concept_id, score, evidence, attempts, correct_attempts, last_attempt_at_ms, level"


def check_end(world: World) -> None:
    """Raises Violated."""
    stored = {table.name: _server_rows(world, table) for table in TABLES.values()}
    _check_answers(world, stored)
    _check_losers(world, stored)
    live = [device for device in world.devices if device.device_id() not in world.revoked]
    for device in world.devices:
        _check_state(world, device, revoked=device not in live)
    for device in live:
        _check_converged(world, device, stored)
    if live and world.randomness.random() < COMPARED_SHARE:
        _check_agreement(world, world.randomness.choice(live))
    _check_mastery(world, live)


def _server_rows(world: World, table: Table) -> dict[Id, Row]:
    names = (*table.column_names, "feed_no", "_extra")
    with world.database.transaction(read_only=True) as cursor:
        cursor.execute(f"SELECT {', '.join(names)} FROM {table.name} WHERE school_id = %s", (world.school.id,))
        return {row[0]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}


def _device_rows(device: SimulatedDevice, table: Table) -> dict[Id, Row]:
    names = (*table.column_names, "feed_no")
    rows = (dict(zip(names, row, strict=True)) for row in device.rows(f"SELECT {', '.join(names)} FROM {table.name}"))
    opened: dict[Kind, Callable[[Any], Any]] = {
        Kind.JSON: lambda value: value if value is None else json.loads(value),
        Kind.BOOLEAN: lambda value: value if value is None else bool(value),
    }
    convert = {c.name: opened[c.kind] for c in table.columns if c.kind in opened}
    return {row["id"]: {name: convert[name](v) if name in convert else v for name, v in row.items()} for row in rows}


def _check_answers(world: World, stored: Stored) -> None:
    """Every accepted answer is at school, as it was given, or was refused for a reason."""
    attempts = stored["question_attempts"]
    for row_id, given in world.ledger.attempts.items():
        if (row := attempts.get(row_id)) is None:
            code = world.server.dead.get(row_id)
            if code and code != "not_granted" and row_id not in world.ledger.poisoned:
                violated("NO_LOST_OP", f"a good answer was rejected: {code}")
            continue
        if (row["student_id"], row["question_id"], row["correct"], row["answer"]) != (
            given.student, given.question, given.correct, given.answer
        ):  # fmt: skip
            violated("EXACTLY_ONCE", "an answer is stored with other content")
        if given.by_later and (row["_extra"] or {}).get(LATER_FIELD[0]) != LATER_FIELD[1]:
            violated("NO_LOST_OP", "what a later version wrote was not kept")


def _check_losers(world: World, stored: Stored) -> None:
    """Every accepted value of a field is the one that counts, was replaced by somebody who saw it, or can be read among those that lost."""
    kept, forgiven = _kept_values(world), world.ledger.excused | world.ledger.poisoned | _queued(world)
    replaced = {(edit.row_id, edit.field, _text(edit.seen)) for edit in world.ledger.edits.values()}
    for op_id, edit in world.ledger.edits.items():
        row, key = stored[edit.table].get(edit.row_id), (edit.row_id, edit.field, _text(edit.value))
        counts = row is not None and row[edit.field] == edit.value
        if not counts and key not in replaced and key not in kept and op_id not in forgiven:
            violated("LOSER_KEPT", f"{edit.field} = {edit.value} is neither the value of the row nor kept")


def _text(value: Any) -> str:
    return json.dumps(value)


def _kept_values(world: World) -> set[tuple[Id, str, str]]:
    with world.database.transaction(read_only=True) as cursor:
        cursor.execute("SELECT row_id, field, lost_value FROM sync_conflicts WHERE school_id = %s", (world.school.id,))
        kept = {(row_id, name, _text(value)) for row_id, name, value in cursor.fetchall()}
        cursor.execute("SELECT row_id, payload FROM dead_letters WHERE school_id = %s AND kind = 'update'", (world.school.id,))
        return kept | {(row_id, name, _text(value)) for row_id, payload in cursor.fetchall() for name, value in payload.items()}


def _queued(world: World) -> frozenset[str]:
    """What is on devices still, and of revoked ones everything: they may not have heard of a server's restore."""
    views = [world.view(device) for device in world.devices]
    return frozenset[str]().union(*(v.logged if v.device.device_id() in world.revoked else v.queued for v in views))


def _check_state(world: World, device: SimulatedDevice, *, revoked: bool) -> None:
    status, view = device.rounds.status(), world.view(device)
    wanted = ("waiting",) if revoked else ("rejected",) if view.rejected else ("synced",)
    if status.state not in wanted:
        violated("NO_WEDGE", f"{device.name} is {status.state} and not {wanted[0]}: {status.message}")
    if not revoked and view.cursors.keys() != world.school.granted_scopes(device.device_id()):
        violated("NO_LEAK", f"{device.name} follows {sorted(view.cursors)}, which is not what it was granted")


def _check_converged(world: World, device: SimulatedDevice, stored: Stored) -> None:
    """The device holds the server's rows of its scopes, value for value; besides them only what was rejected."""
    view, alone = world.view(device), world.view(device).queued_rows | world.ledger.lost_rows
    for table in TABLES.values():
        expected = {row_id: row for row_id, row in stored[table.name].items() if _scope(table, row) in view.cursors}
        here = _device_rows(device, table)
        names = (*table.column_names, "feed_no")
        for row_id in expected.keys() | here.keys():
            there = {name: expected[row_id][name] for name in names} if row_id in expected else None
            if here.get(row_id) == there or (there is None and row_id in alone):
                continue
            name = "NO_RESURRECTION" if there is None and _is_buried(world, row_id) else "CONVERGENCE"
            violated(name, f"{device.name} and the school differ in {table.name}:\n{here.get(row_id)}\n{there}")


def _check_agreement(world: World, device: SimulatedDevice) -> None:
    """The product's own comparison of device and school says what the one above says."""
    verified = device.verify(content=True)
    if world.ledger.lost_rows:
        return  # what the school lacks for good differs for good
    if not isinstance(verified, Verified) or verified.result is not Result.MATCH:
        violated("CONVERGENCE", f"{device.name} and the school are equal, and the comparison says {verified}")


def _scope(table: Table, row: Mapping[str, Any]) -> str:
    return str(table.scope) if table.scope is ScopeKind.SCHOOL else f"{table.scope}:{row[table.scope_column or 'id']}"


def _is_buried(world: World, row_id: str) -> bool:
    return bool(world.school.builder.value("SELECT 1 FROM tombstones WHERE school_id = %s AND row_id = %s", world.school.id, row_id))


def _check_mastery(world: World, devices: list[SimulatedDevice]) -> None:
    """Devices and server work out the same from the same attempts."""
    students = [*world.school.students]
    with world.database.transaction() as cursor:
        cloud_mastery.refresh(cursor, world.school.id, students, world.clock.now_ms())
        cursor.execute(f"SELECT {_MASTERY} FROM concept_mastery WHERE school_id = %s", (world.school.id,))
        at_school = _by_student(cursor.fetchall())
    for device in devices:
        device_mastery.refresh_stale(device.database, device.clock)
        counted = _by_student(device.rows(f"SELECT {_MASTERY} FROM concept_mastery"))
        attempts = world.view(device).rows["question_attempts"]
        for student in world.view(device).students:
            if any(row_id not in world.server.rows["question_attempts"] for row_id, (s, _) in attempts.items() if s == student):
                continue  # it counts an answer that the school has refused
            if counted[student] != at_school[student]:
                violated("DERIVED_EQUAL", f"{device.name} and the school:\n{counted[student]}\n{at_school[student]}")


def _by_student(rows: list[tuple[Any, ...]]) -> defaultdict[str, dict[str, tuple[Any, ...]]]:
    found: defaultdict[str, dict[str, tuple[Any, ...]]] = defaultdict(dict)
    for student, concept, *values in rows:
        found[student][concept] = tuple(values)
    return found
