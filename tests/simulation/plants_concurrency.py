"""Bugs that show only when several work at once, planted for the tests that let them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from typing import Any

import psycopg2
import pytest

from cloud_api.devices import auth
from cloud_api.sync import feed, pull, push

# More than one batch ever takes.
_BLOCK = 100_000


def numbers_from_a_sequence(patch: pytest.MonkeyPatch) -> None:
    """Feed numbers come from a sequence, which lets a later one be seen first."""
    standing = pull._standing

    def take(cursor: Any, school_id: str, count: int) -> int:
        cursor.execute("SELECT nextval(pg_get_serial_sequence('device_incarnations', 'no'))")
        return int(cursor.fetchone()[0]) * _BLOCK

    def through_the_last_row(cursor: Any, device: Any, request: Any) -> Any:
        true = standing(cursor, device, request)
        cursor.execute("SELECT coalesce(max(feed_no), 0) FROM question_attempts WHERE school_id = %s", (device.school_id,))
        return replace(true, head=max(true.head, cursor.fetchone()[0]))

    patch.setattr(feed, "take", take)
    patch.setattr(pull, "_standing", through_the_last_row)


def counter_let_go_too_early(patch: pytest.MonkeyPatch) -> None:
    """The counter is moved in a transaction of its own, so that it is free again before the rows are there."""
    take = feed.take

    def at_once(cursor: Any, school_id: str, count: int) -> int:
        info = cursor.connection.info
        connection = psycopg2.connect(**info.dsn_parameters, password=info.password)
        with closing(connection), connection, connection.cursor() as other:
            return take(other, school_id, count)

    patch.setattr(feed, "take", at_once)


def device_not_locked(patch: pytest.MonkeyPatch) -> None:
    """Two pushes of one device may be under way at the same time."""
    device_for = auth.device_for
    patch.setattr(push, "device_for", lambda cursor, token, lock: device_for(cursor, token, lock=False))
