"""Bugs planted in the server's side, in tests alone: each patches the product where a mistake would have been easy."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from cloud_api import publication
from cloud_api.database import CloudDatabase
from cloud_api.devices import auth
from cloud_api.routes import sync as routes
from cloud_api.sync import apply, feed, head, insert, merge, pull, push, rows
from cloud_api.sync.savepoints import accepted
from domain.errors import SyncRefused
from domain.operations import CHAIN_START


def acknowledged_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """The server answers, and one time in seven it dies before its commit."""
    retrying = CloudDatabase.retrying

    class _Died(Exception):
        pass

    def early(self: CloudDatabase, fn: Any) -> Any:
        answers = []

        def dying(cursor: Any) -> Any:
            answers.append(fn(cursor))
            if random.random() < 1 / 7:
                raise _Died
            return answers[-1]

        try:
            return retrying(self, dying)
        except _Died:
            return answers[-1]

    patch.setattr(CloudDatabase, "retrying", early)


def chain_not_checked(patch: pytest.MonkeyPatch) -> None:
    """The server goes by numbers alone."""
    check = push._check_continuity

    def blind(batch: Any, place: Any, chain_before: bytes) -> None:
        try:
            check(batch, place, chain_before)
        except SyncRefused as refused:
            if refused.code != "fork":
                raise

    patch.setattr(push, "_check_continuity", blind)


def known_by_number_alone(patch: pytest.MonkeyPatch) -> None:
    """Whatever a device numbers as it did before is taken for a duplicate, in whichever life of its log it was written."""
    place_of, check = push._place_of, push._check_continuity

    def longest(cursor: Any, device: Any, *others: Any) -> Any:
        place = place_of(cursor, device, *others)
        cursor.execute(
            "SELECT max(last_seq) FROM device_incarnations WHERE school_id = %s AND device_id = %s", (device.school_id, device.id)
        )
        return replace(place, last_seq=cursor.fetchone()[0]) if place.chain == CHAIN_START else place

    def tolerant(batch: Any, place: Any, chain_before: bytes) -> None:
        if batch.first_seq > 1:
            check(batch, place, chain_before)

    patch.setattr(push, "_place_of", longest)
    patch.setattr(push, "_check_continuity", tolerant)


def place_not_moved(patch: pytest.MonkeyPatch) -> None:
    """The server forgets how far it has a device's log."""
    patch.setattr(push, "_move_place", lambda *_: None)


def rejection_not_repeated(patch: pytest.MonkeyPatch) -> None:
    """A rejection whose answer was lost comes back as a duplicate."""
    settle_known = push._settle_known

    def forgetful(cursor: Any, device: Any, batch: Any, *others: Any) -> None:
        before = dict(batch.refusals)
        settle_known(cursor, device, batch, *others)
        batch.refusals.clear()
        batch.refusals.update(before)

    patch.setattr(push, "_settle_known", forgetful)


def dead_letters_dropped(patch: pytest.MonkeyPatch) -> None:
    """What is rejected is not kept."""
    patch.setattr(push, "keep_letters", lambda *_: None)


def neighbours_of_poison_refused(patch: pytest.MonkeyPatch) -> None:
    """One row that PostgreSQL does not take costs the others of its run."""

    def all_or_nothing(cursor: Any, items: Sequence[Any], write: Any) -> list[Any]:
        return [] if not items or accepted(cursor, lambda: write(items)) else list(items)

    patch.setattr(insert, "write_bisected", all_or_nothing)


def unknown_fields_dropped(patch: pytest.MonkeyPatch) -> None:
    """What a later version wrote besides is not kept."""
    patch.setattr(insert, "_extra", lambda table, run, places: [])


def losers_dropped(patch: pytest.MonkeyPatch) -> None:
    """A value that loses a merge is gone."""
    patch.setattr(apply, "keep_losers", lambda *_: None)


def merged_row_keeps_its_number(patch: pytest.MonkeyPatch) -> None:
    """A row that a merge has changed is not given a new feed number."""
    upsert = rows.upsert_rows

    def unnumbered(cursor: Any, table: Any, school_id: str, changed: Sequence[dict[str, Any]]) -> None:
        stored = rows.fetch_rows(cursor, table, school_id, [row["id"] for row in changed])
        upsert(cursor, table, school_id, [row | {"feed_no": stored.get(row["id"], row)["feed_no"]} for row in changed])

    patch.setattr(merge, "upsert_rows", unnumbered)


def numbers_taken_twice(patch: pytest.MonkeyPatch) -> None:
    """A batch takes one number too few, so that two rows share one."""
    take = feed.take
    patch.setattr(feed, "take", lambda cursor, school_id, count: take(cursor, school_id, max(count - 1, 0)))


def tombstones_not_written(patch: pytest.MonkeyPatch) -> None:
    """The school deletes a row and says nothing."""
    patch.setattr(publication, "_write_tombstones", lambda *_: None)


def tombstones_not_given(patch: pytest.MonkeyPatch) -> None:
    """Deletions are written down and not told."""
    patch.setattr(pull, "_tombstones", lambda *_: [])


def own_rows_always_left_out(patch: pytest.MonkeyPatch) -> None:
    """Whoever shares an incarnation is taken to know all that it wrote."""
    standing = pull._standing

    def trusting(cursor: Any, device: Any, request: Any) -> Any:
        true = standing(cursor, device, request)
        cursor.execute(
            "SELECT coalesce(max(no), -1) FROM device_incarnations WHERE device_id = %s AND incarnation = %s",
            (device.id, request.incarnation),
        )
        return replace(true, origin_no=cursor.fetchone()[0])

    patch.setattr(pull, "_standing", trusting)


def cursor_beyond_the_page(patch: pytest.MonkeyPatch) -> None:
    """A page that was cut moves its cursor to the head all the same."""
    shortened = pull._shortened

    def overstated(cursor: Any, device: Any, reach: Any, *others: Any) -> Any:
        part = shortened(cursor, device, reach, *others)
        return part and _Overstated(part, reach.through)

    patch.setattr(pull, "_shortened", overstated)


class _Overstated:
    """A reach that is written down as longer than it is."""

    def __init__(self, part: Any, through: int) -> None:
        self._part, self._said, self._asked = part, through, False

    def __getattr__(self, name: str) -> Any:
        if name == "through" and not self._asked:
            self._asked = True
            return self._said
        return getattr(self._part, name)


def grants_not_asked(patch: pytest.MonkeyPatch) -> None:
    """A device gets every student of its school."""
    scopes_of = auth.scopes_of

    def generous(cursor: Any, device: Any) -> frozenset[str]:
        granted = scopes_of(cursor, device)
        cursor.execute("SELECT id FROM users WHERE school_id = %s AND role = 'student'", (device.school_id,))
        return granted | {f"student:{row[0]}" for row in cursor.fetchall()}

    patch.setattr(pull, "scopes_of", generous)


def grants_not_in_the_etag(patch: pytest.MonkeyPatch) -> None:
    """The cheap poll says that nothing has changed when only a grant has."""
    read_head = head.read_head

    def by_feed_alone(*arguments: Any) -> Any:
        found = read_head(*arguments)
        return replace(found, etag=f'"{found.answer.server_epoch}/{found.answer.head}"')

    patch.setattr(routes, "read_head", by_feed_alone)
