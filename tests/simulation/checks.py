"""What must hold at every moment (docs/protocol.md; the names are those of docs/reliability.md)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import NoReturn

from domain.ids import Id
from domain.registry import TABLES, ScopeKind
from tests.simulation.ledger import Ledger
from tests.simulation.views import DeviceView, ServerView


class Violated(AssertionError):
    """An invariant does not hold. `name` is the invariant's, `trace` what happened before, for a world to fill in."""

    def __init__(self, name: str, words: str) -> None:
        super().__init__(f"{name}: {words}")
        self.name, self.words = name, words
        self.trace: list[str] = []


def violated(name: str, words: str) -> NoReturn:
    raise Violated(name, words)


def check_always(server: ServerView, devices: Iterable[DeviceView], changed: Iterable[DeviceView], ledger: Ledger, outsider: Id) -> None:
    """Everything that a step may have broken: `changed` are the devices whose file was written, `server` is as it is now, and no device was ever
    granted the `outsider`.
    """
    devices = list(devices)
    for view in changed:
        if outsider in view.students:
            violated("NO_LEAK", f"{view.device.name} follows a student whom nobody granted")
        check_no_leak(view)
        check_own_writes(view, ledger)
    for view in devices:
        check_no_gap(server, view)
    check_nothing_lost(server, devices, ledger)
    check_nothing_invented(server, ledger)


def check_no_leak(view: DeviceView) -> None:
    """No row of a scope that the device does not follow is here, unless a change of it still waits for its way to school."""
    followed = {scope.partition(":")[2] for scope in view.cursors}
    for table in TABLES.values():
        if table.scope is ScopeKind.SCHOOL:
            continue
        strays = [row for row, (subject, _) in view.rows[table.name].items() if subject not in followed and row not in view.queued_rows]
        if strays and view.cursors:
            violated("NO_LEAK", f"{view.device.name} holds {len(strays)} rows of {table.name} outside its scopes")


def check_own_writes(view: DeviceView, ledger: Ledger) -> None:
    """What a student has changed here, and what the school has not settled yet, is what the device shows."""
    last = {(table, row, name): (op, value) for op, table, row, text in view.changes for name, value in json.loads(text).items()}
    for (table, row_id, name), (op_id, value) in last.items():
        if op_id in ledger.poisoned or name not in TABLES[table].column_names:
            continue  # spoiled behind the product's back, or of a later version
        shown = next(iter(view.device.rows(f"SELECT {name} FROM {table} WHERE id = ?", row_id)), (None,))[0]
        if (json.loads(shown) if shown and isinstance(value, list) else shown) != value:
            violated("READ_YOUR_WRITES", f"{view.device.name} shows {shown} for {name}, and not the {value} that is queued")


def check_no_gap(server: ServerView, view: DeviceView) -> None:
    """Every row up to the cursor is here, in that version or a later one. A device that has not heard of the server's restore counts as before."""
    if view.epoch != server.epoch:
        return
    for table in TABLES.values():
        here = view.rows[table.name]
        for row, (subject, number) in server.rows[table.name].items():
            scope = f"{table.scope}:{subject}" if subject else str(table.scope)
            if number <= view.cursors.get(scope, -1) and (row not in here or here[row][1] < number):
                what = "an older version" if row in here else "nothing"
                violated(
                    "NO_GAP", f"{view.device.name} has {what} of row {number} of {table.name}, and cursor {view.cursors[scope]} of {scope}"
                )


def check_nothing_lost(server: ServerView, devices: Iterable[DeviceView], ledger: Ledger) -> None:
    """Each accepted answer is in a queue, at school, or a dead letter."""
    somewhere = server.rows["question_attempts"].keys() | server.dead.keys() | ledger.excused
    lost = ledger.attempts.keys() - somewhere
    if lost and (lost := lost.difference(*(view.logged for view in devices))):
        violated("NO_LOST_OP", f"{len(lost)} accepted answers are nowhere")


def check_nothing_invented(server: ServerView, ledger: Ledger) -> None:
    """The school has no answer that nobody gave."""
    if invented := server.rows["question_attempts"].keys() - ledger.attempts.keys():
        violated("EXACTLY_ONCE", f"the school has {len(invented)} answers that nobody gave")


def check_status(server: ServerView, view: DeviceView, ledger: Ledger) -> None:
    """A device says `synced` only when everything that it has written, and still could send, is at school."""
    if view.device.rounds.status().state != "synced" or view.epoch != server.epoch:
        return  # or it speaks of a server that was restored since
    if view.pending:
        violated("TRUTHFUL_STATUS", f"{view.device.name} says synced with {len(view.pending)} operations queued")
    mine = view.logged & ledger.attempts.keys()
    if missing := mine - server.rows["question_attempts"].keys() - server.dead.keys():
        violated("TRUTHFUL_STATUS", f"{view.device.name} says synced, and {len(missing)} of its answers are not at school")
