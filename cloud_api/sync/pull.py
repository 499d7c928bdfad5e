"""Giving out the feed: one page of a device's scopes, all of one moment (docs/protocol.md, "Pull").

    one snapshot → scopes granted → what is new in each, counted → fill the page scope by scope → rows as column blocks, tombstones, cursors

The student's own scope comes first, so that a device is of use before the school's content is complete. Rows that this very incarnation wrote
last are left out while the device knows all that it wrote: it learnt their numbers from the answers to its pushes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cloud_api.devices.auth import Device, device_for, scopes_of
from cloud_api.erasure.orders import orders_after
from cloud_api.sync.envelope import envelope_problems
from domain.blocks import TableBlock, encode_block
from domain.clock import Clock
from domain.errors import InvalidInput, Problem, SyncRefused
from domain.registry import Policy, ScopeKind, Table, tables_in
from domain.wire import PAGE_ROWS_MAX, SCOPES_MAX, AnswersLetGo, PullAnswer, PullRequest, Tombstone

# Rows of one table that may share a feed number, and so must not be parted: the conflicts of one operation, one for each of its fields.
ROWS_A_NUMBER_MAX = 100
_KINDS = (ScopeKind.STUDENT, ScopeKind.CLASS, ScopeKind.SCHOOL)


@dataclass(frozen=True, slots=True)
class Reach:
    """What one page covers of one scope: the `count` rows with `after` < feed number ≤ `through`."""

    scope: str
    kind: ScopeKind
    subject: str  # the student's or class's id; the school's own for the school scope
    after: int
    through: int
    count: int = 0


@dataclass(slots=True)
class Page:
    """A page being filled. `reaches` are the scopes with rows on it, `cursors` every scope's cursor after it."""

    reaches: list[Reach] = field(default_factory=list)
    cursors: dict[str, int] = field(default_factory=dict)
    has_more: bool = False


def give_page(cursor: Any, token: str, request: PullRequest, clock: Clock, poll_after_s: float) -> PullAnswer:
    """The next page for a device, read in the caller's transaction, which must be a snapshot.

    Raises NotSignedIn or Forbidden for the token, InvalidInput for a request without form, SyncRefused for a cursor that this server cannot have
    given (`ahead`), or from which it cannot tell any more what was deleted since (`too_old`).
    """
    check_form(request)
    return give_page_to(cursor, device_for(cursor, token, lock=False), request, clock, poll_after_s)


def give_page_to(cursor: Any, device: Device, request: PullRequest, clock: Clock, poll_after_s: float) -> PullAnswer:
    """The same for a device that is known already, and a request whose form is checked."""
    granted = scopes_of(cursor, device)
    standing = _standing(cursor, device, request)
    _check_cursors(standing, request, granted)
    page = _fill(cursor, device, granted, request, standing.head, standing.origin_no)
    tables = {}
    for table in (t for kind in _KINDS for t in tables_in(kind)):
        reaches = [r for r in page.reaches if r.kind is table.scope and r.count]
        if reaches and (block := _block(cursor, device, table, reaches, standing.origin_no)):
            tables[table.name] = block
    return PullAnswer(
        tables=tables,
        tombstones=_tombstones(cursor, device, [r for r in page.reaches if r.after > 0 or r.scope in request.cursors]),
        cursors=page.cursors,
        gained=sorted(granted - request.cursors.keys()),
        lost=sorted(request.cursors.keys() - granted),
        has_more=page.has_more,
        server_time_ms=clock.now_ms(),
        server_epoch=standing.epoch,
        poll_after_s=poll_after_s,
        durable_through=standing.durable_seq or None,
        # A number of another life of the server says nothing.
        erasures=orders_after(cursor, device, request.erased_through if request.server_epoch == standing.epoch else 0),
        answers_let_go=None if standing.let_go_before_ms is None else AnswersLetGo(standing.let_go_no, standing.let_go_before_ms),
    )


def check_form(request: PullRequest) -> None:
    """Raises InvalidInput for a request without form, UnsupportedProtocol."""
    problems = envelope_problems(request.protocol, request.incarnation)
    if len(request.cursors) > SCOPES_MAX or len(request.filling) > SCOPES_MAX:
        problems.append(Problem("$.cursors", "too_many_scopes", f"At most {SCOPES_MAX} scopes."))
    if any(not 0 <= c < 2**62 for c in (request.erased_through, *request.cursors.values())):
        problems.append(Problem("$.cursors", "out_of_range", "A cursor is a feed number."))
    if not 1 <= request.page_rows <= PAGE_ROWS_MAX:
        problems.append(Problem("$.page_rows", "out_of_range", f"A page holds 1 to {PAGE_ROWS_MAX} rows."))
    if problems:
        raise InvalidInput(problems)


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where school and device stand: the number of the incarnation whose rows the device knows, or -1; the last of the incarnation's operations
    that a backup holds; the school's head and the number below which its tombstones are not complete; the server's epoch; how far it has let
    go of answers (`AnswersLetGo`).
    """

    origin_no: int
    durable_seq: int
    head: int
    tombstone_floor: int
    epoch: str
    let_go_no: int
    let_go_before_ms: int | None


def _standing(cursor: Any, device: Device, request: PullRequest) -> _Standing:
    cursor.execute(
        "SELECT CASE WHEN i.last_seq = %s THEN i.no ELSE -1 END, coalesce(i.durable_seq, 0), s.head, s.tombstone_floor, e.epoch,"
        " coalesce(g.through_no, 0), g.before_ms FROM server_state e, schools s LEFT JOIN answers_let_go g ON g.school_id = s.id"
        " LEFT JOIN device_incarnations i ON i.school_id = s.id AND i.device_id = %s AND i.incarnation = %s"
        " WHERE s.id = %s",
        (request.acked_seq, device.id, request.incarnation, device.school_id),
    )
    return _Standing(*cursor.fetchone())


def _check_cursors(standing: _Standing, request: PullRequest, granted: frozenset[str]) -> None:
    cursors = {scope: request.cursors.get(scope, 0) for scope in granted}
    if any(cursor > standing.head for cursor in cursors.values()):
        # Numbers above the head are given again, to other rows, which a device with such a cursor would never see.
        raise SyncRefused("ahead", f"This server has changes up to {standing.head} only.")
    if not request.rebaselining and any(0 < cursors[s] < standing.tombstone_floor for s in granted.difference(request.filling)):
        raise SyncRefused("too_old", "This device was away for so long that it has to fetch everything again.")


def _scope_key(table: Table) -> str:
    """The column that holds what `Reach.subject` names."""
    return table.scope_column or "school_id"


def _foreign(table: Table) -> str:
    """SQL that leaves out what this incarnation wrote; only append-only rows stay as one device wrote them."""
    return "AND t.origin_no <> %(origin)s" if table.policy is Policy.APPEND_ONLY else ""


def _fill(cursor: Any, device: Device, granted: frozenset[str], request: PullRequest, head: int, origin_no: int) -> Page:
    """Decides what goes on the page: whole scopes while they fit, then a part of the first that does not."""
    page = Page(cursors={scope: request.cursors.get(scope, 0) for scope in granted})
    left = request.page_rows
    for kind in _KINDS:
        reaches = [_reach(device, kind, scope, page.cursors[scope], head) for scope in sorted(granted) if _kind_of(scope) is kind]
        counts = _count_new(cursor, device, kind, reaches, origin_no, left)
        for reach in reaches:
            count = counts.get(reach.subject, 0)
            if count > left:
                page.has_more = True
                if left > 0 and (part := _shortened(cursor, device, reach, origin_no, left)):
                    page.reaches.append(part)
                    page.cursors[part.scope] = part.through
                left = 0
                continue
            left -= count
            page.cursors[reach.scope] = reach.through
            page.reaches.append(replace(reach, count=count))
    page.reaches = [r for r in page.reaches if r.through > r.after]
    return page


def _kind_of(scope: str) -> ScopeKind:
    return ScopeKind(scope.partition(":")[0])


def _reach(device: Device, kind: ScopeKind, scope: str, after: int, head: int) -> Reach:
    return Reach(scope, kind, scope.partition(":")[2] or device.school_id, after, head)


def _count_new(cursor: Any, device: Device, kind: ScopeKind, reaches: Sequence[Reach], origin_no: int, limit: int) -> dict[str, int]:
    """How many new rows each scope of one kind has, counting no further than is of interest. One statement."""
    asked = [r for r in reaches if r.through > r.after]
    if not asked:
        return {}
    counts = " + ".join(
        f"(SELECT count(*) FROM (SELECT 1 FROM {t.name} t WHERE t.school_id = %(school)s AND t.{_scope_key(t)} = r.subject"
        f" AND t.feed_no > r.after AND t.feed_no <= %(head)s {_foreign(t)} LIMIT %(limit)s) AS new_rows)"
        for t in tables_in(kind)
    )
    cursor.execute(
        f"SELECT r.subject, {counts} FROM unnest(%(subjects)s::uuid[], %(afters)s::bigint[]) AS r(subject, after)",
        {**_asked(device, asked, origin_no), "head": asked[0].through, "limit": limit + 1},
    )
    return dict(cursor.fetchall())


def _asked(device: Device, reaches: Sequence[Reach], origin_no: int) -> dict[str, Any]:
    return {
        "school": device.school_id,
        "subjects": [r.subject for r in reaches],
        "afters": [r.after for r in reaches],
        "throughs": [r.through for r in reaches],
        "origin": origin_no,
    }


def _shortened(cursor: Any, device: Device, reach: Reach, origin_no: int, rows: int) -> Reach | None:
    """The reach cut at its `rows`-th new row in feed order, over all tables of the scope."""
    numbers = " UNION ALL ".join(
        f"(SELECT feed_no FROM {t.name} t WHERE t.school_id = %(school)s AND t.{_scope_key(t)} = %(subject)s"
        f" AND t.feed_no > %(after)s AND t.feed_no <= %(through)s {_foreign(t)} ORDER BY feed_no LIMIT %(rows)s)"
        for t in tables_in(reach.kind)
    )
    cursor.execute(
        f"SELECT max(feed_no) FROM (SELECT feed_no FROM ({numbers}) AS n ORDER BY feed_no LIMIT %(rows)s) AS first_rows",
        {
            "school": device.school_id,
            "subject": reach.subject,
            "after": reach.after,
            "through": reach.through,
            "origin": origin_no,
            "rows": rows,
        },
    )
    through = cursor.fetchone()[0]
    return None if through is None else replace(reach, through=through, count=rows)


def _block(cursor: Any, device: Device, table: Table, reaches: Sequence[Reach], origin_no: int) -> TableBlock | None:
    """The rows of one table within the reaches, in one statement, as a block of columns; None if there are none.

    What waits in `_extra` for a column goes down under its own name: a device that is newer than this server has a place for it.
    """
    names = [*table.column_names, "feed_no", "_extra"]
    # LATERAL and LIMIT lead PostgreSQL to the feed's index; of a plain join it thinks that origin_no leaves few rows, and reads the whole table.
    cursor.execute(
        f"SELECT {', '.join('t.' + n for n in names)} FROM unnest(%(subjects)s::uuid[], %(afters)s::bigint[], %(throughs)s::bigint[])"
        f" AS r(subject, after, through) CROSS JOIN LATERAL (SELECT {', '.join('t.' + n for n in names)} FROM {table.name} t"
        f" WHERE t.school_id = %(school)s AND t.{_scope_key(table)} = r.subject AND t.feed_no > r.after AND t.feed_no <= r.through"
        f" {_foreign(table)} ORDER BY t.feed_no LIMIT %(rows)s) AS t ORDER BY t.feed_no",
        {**_asked(device, reaches, origin_no), "rows": PAGE_ROWS_MAX + ROWS_A_NUMBER_MAX},
    )
    rows = cursor.fetchall()
    if not rows:
        return None
    columns: dict[str, list[Any]] = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    return encode_block(table, columns, len(rows))


def _tombstones(cursor: Any, device: Device, reaches: Sequence[Reach]) -> list[Tombstone]:
    """What was deleted in the reaches since their cursors. A scope that a device has never held needs none; one that it pulls anew does."""
    if not reaches:
        return []
    cursor.execute(
        "SELECT t.table_name, t.row_id, t.scope, t.feed_no FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS r(scope, after, through)"
        " JOIN tombstones t ON t.school_id = %s AND t.scope = r.scope AND t.feed_no > r.after AND t.feed_no <= r.through ORDER BY t.feed_no",
        ([r.scope for r in reaches], [r.after for r in reaches], [r.through for r in reaches], device.school_id),
    )
    return [Tombstone(table, row_id, scope, feed_no) for table, row_id, scope, feed_no in cursor.fetchall()]
