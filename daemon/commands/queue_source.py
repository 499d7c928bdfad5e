"""Where commands about the queue get it from: the running daemon, or the file itself while none runs. Both give the same JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from daemon.commands.site import Settings, find_daemon
from daemon.process.left_out import leave_out_postgres

if TYPE_CHECKING:
    from daemon.control import Control
    from daemon.database import DeviceDatabase
    from domain.ids import Id

Answer = dict[str, Any]
PAGE = 500


class QueueSource(Protocol):
    """What a device has not brought to school, and which values lost. Lists are of dicts shaped as in the API."""

    def counts(self) -> Answer:
        """`pending` and `rejected` operations, and `answers_pending` among the first."""
        ...

    def operations(self, state: str, limit: int) -> list[Answer]:
        """At most `limit` operations in that state, newest first."""
        ...

    def operation(self, key: str) -> Answer:
        """One operation, whole, by its id or its number. Raises NotFound."""
        ...

    def unsent(self) -> Iterator[Answer]:
        """Every operation that is not at school, whole, oldest first."""
        ...

    def retry(self, ids: Sequence[str] | None) -> Answer:
        """Queues rejected operations again: `retried`, `op_nos`, `left`."""
        ...

    def conflicts(self, limit: int) -> list[Answer]:
        """At most `limit` conflicts, newest first."""
        ...


class _Running:
    """The queue of a daemon that runs."""

    def __init__(self, control: Control) -> None:
        self._control = control

    def counts(self) -> Answer:
        return self._control.get("/v1/status")

    def operations(self, state: str, limit: int) -> list[Answer]:
        return self._pages(f"/v1/sync/operations?state={state}&", limit)

    def operation(self, key: str) -> Answer:
        return self._control.get(f"/v1/sync/operations/{quote(self._id_of(key), safe='')}")

    def unsent(self) -> Iterator[Answer]:
        cursor = ""
        while True:
            page = self._control.get(f"/v1/sync/unsent?limit={PAGE}{cursor}")
            yield from page["items"]
            if page["next_cursor"] is None:
                return
            cursor = f"&cursor={page['next_cursor']}"

    def retry(self, ids: Sequence[str] | None) -> Answer:
        named = None if ids is None else [self._id_of(key) for key in ids]
        return self._control.post("/v1/sync/retry", {"ids": named})

    def conflicts(self, limit: int) -> list[Answer]:
        return self._pages("/v1/sync/conflicts?", limit)

    def _pages(self, path: str, limit: int) -> list[Answer]:
        items: list[Answer] = []
        cursor = ""
        while len(items) < limit:
            page = self._control.get(f"{path}limit={min(PAGE, limit - len(items))}{cursor}")
            items += page["items"]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        return items

    def _id_of(self, key: str) -> str:
        """The id of the operation that a person has named by its number."""
        if _is_number(key):
            found = self._control.get(f"/v1/sync/operations?limit=1&cursor={int(key) + 1}")["items"]
            if found and found[0]["op_no"] == int(key):
                return str(found[0]["id"])
        return _demand_id(key)


class _File:
    """The queue of a file that no daemon has open."""

    def __init__(self, database: DeviceDatabase) -> None:
        self._database = database

    def counts(self) -> Answer:
        from daemon.queue import outbox, sync_log

        with self._database.read() as conn:
            counts, answers = outbox.counts(conn), sync_log.answers_pending(conn)
        return {"pending": counts.pending, "rejected": counts.rejected, "answers_pending": answers}

    def operations(self, state: str, limit: int) -> list[Answer]:
        from daemon.api import sync_answers
        from daemon.queue import sync_log

        return _plain(sync_answers.operations(self._database, sync_log.operations(self._database, None, state, None, limit)))

    def operation(self, key: str) -> Answer:
        from daemon.api import sync_answers
        from daemon.queue import sync_log

        found = sync_log.operation(self._database, None, self._id_of(key))
        return _plain(sync_answers.whole_operations(self._database, [found]))[0]

    def unsent(self) -> Iterator[Answer]:
        from daemon.api import sync_answers
        from daemon.queue import sync_log

        after = 0
        while rows := sync_log.unsent(self._database, after, PAGE):
            yield from _plain(sync_answers.whole_operations(self._database, rows))
            after = rows[-1].op_no

    def retry(self, ids: Sequence[str] | None) -> Answer:
        from daemon.queue import requeue
        from domain.clock import SystemClock

        op_ids = None if ids is None else [self._id_of(key) for key in ids]
        now_ms = SystemClock().now_ms()
        done = self._database.write(lambda conn: requeue.retry(conn, op_ids, now_ms))
        return {"retried": len(done.op_nos), "op_nos": list(done.op_nos), "left": done.left}

    def conflicts(self, limit: int) -> list[Answer]:
        from daemon.api import sync_answers
        from daemon.queue import sync_log

        rows = sync_log.conflicts(self._database, None, None, limit)
        return _plain(sync_answers.conflicts(self._database, sync_log.device_id(self._database), rows))

    def _id_of(self, key: str) -> Any:
        from daemon.queue import sync_log

        if _is_number(key):
            found = sync_log.operations(self._database, None, None, int(key) + 1, 1)
            if found and found[0].op_no == int(key):
                return found[0].op_id
        return _demand_id(key)


def _is_number(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) < len(str(2**63))


def _demand_id(key: str) -> Id:
    from domain.errors import NotFound
    from domain.ids import parse_id

    try:
        return parse_id(key)
    except ValueError as error:
        raise NotFound("This device has written no such change.") from error


def _plain(structs: Sequence[Any]) -> list[Answer]:
    import msgspec

    plain: list[Answer] = msgspec.to_builtins(list(structs))
    return plain


@contextmanager
def queue_source(settings: Settings) -> Iterator[QueueSource]:
    """The queue of this device, whether its daemon runs or not."""
    control = find_daemon(settings)
    if control is not None:
        yield _Running(control)
        return
    leave_out_postgres()
    from daemon.offline import offline_database

    with offline_database(settings.load()) as database:
        yield _File(database)
