"""What requests and answers of the localhost API have in common: pages of a list, and whose rows are asked for."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from daemon.api.endpoints import Input
from daemon.api.limits import RowId

PAGE_MAX = 500
PAGE_DEFAULT = 100
CURSOR_LENGTH_MAX = 100

Limit = Annotated[int, Meta(ge=1, le=PAGE_MAX, description="Items on one page.")]
PageCursor = Annotated[str, Meta(max_length=CURSOR_LENGTH_MAX, description="next_cursor of the page before.")] | None
OwnId = Annotated[RowId | None, Meta(description="May only name the signed-in student; everything else is forbidden.")]


class OwnQuery(Input, frozen=True):
    student_id: OwnId = None


class OwnPageQuery(OwnQuery, frozen=True):
    limit: Limit = PAGE_DEFAULT
    cursor: PageCursor = None


class PageQuery(Input, frozen=True):
    limit: Limit = PAGE_DEFAULT
    cursor: PageCursor = None


class Output(msgspec.Struct, frozen=True):
    """Base of everything that is answered."""
