"""Cursors of pages: texts that an app hands back unread. A page is full when it has one row more than asked for behind it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from daemon.api.intake import INVALID_VALUE
from daemon.learning.attempts import Place
from daemon.queue.sync_log import ConflictPlace
from domain.errors import InvalidInput, Problem
from domain.ids import Id, is_id
from domain.registry import INT64_MAX

Row = TypeVar("Row")


def cut(rows: Sequence[Row], limit: int, cursor_of: Callable[[Row], Any]) -> tuple[Sequence[Row], str | None]:
    """The page and the cursor of the next, of up to `limit` + 1 rows read."""
    if len(rows) <= limit:
        return rows, None
    return rows[:limit], str(cursor_of(rows[limit - 1]))


def id_cursor(cursor: str | None) -> str:
    """The id behind which a page begins; empty for the first page. Raises InvalidInput."""
    if cursor is None:
        return ""
    if not is_id(cursor):
        raise _bad_cursor()
    return Id(cursor)


def number_cursor(cursor: str | None) -> int | None:
    """The number behind which a page begins. Raises InvalidInput."""
    return None if cursor is None else _number(cursor)


def attempt_cursor(cursor: str | None) -> Place | None:
    """The attempt behind which a page begins. Raises InvalidInput."""
    return None if cursor is None else Place(*_time_and_id(cursor))


def conflict_cursor(cursor: str | None) -> ConflictPlace | None:
    """The conflict behind which a page begins. Raises InvalidInput."""
    return None if cursor is None else ConflictPlace(*_time_and_id(cursor))


def _time_and_id(cursor: str) -> tuple[int, str]:
    time, _, id_ = cursor.partition(".")
    if not is_id(id_):
        raise _bad_cursor()
    return _number(time), id_


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > INT64_MAX:  # texts are short: CURSOR_LENGTH_MAX
        raise _bad_cursor()
    return int(text)


def _bad_cursor() -> InvalidInput:
    return InvalidInput([Problem("query.cursor", INVALID_VALUE, "This is not a cursor that was given here.")])
