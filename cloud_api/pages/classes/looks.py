"""How somebody looks at a heat map, as the address of the page says it: of which topic, in which order, as what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any
from urllib.parse import urlencode

from domain.errors import InvalidInput, NotFound, Problem
from domain.ids import Id, dashed, parse_id


class Order(StrEnum):
    """In which order students stand: lowest first, by name, by the age of their data."""

    NEED = "need"
    NAME = "name"
    AGE = "age"


@dataclass(frozen=True, slots=True)
class Look:
    """`topic`: the parts of that topic, or of the course (None); `concepts`: its concepts instead. `table`: in words and figures."""

    topic: Id | None = None
    concepts: bool = False
    order: Order = Order.NEED
    table: bool = False

    def but(self, **changes: Any) -> str:
        """The query of the same look but for `changes`; empty for the plain one."""
        look = replace(self, **changes)
        said = {
            "topic": dashed(look.topic) if look.topic else None,
            "by": "concepts" if look.concepts else None,
            "order": look.order if look.order != Order.NEED else None,
            "as": "table" if look.table else None,
        }
        given = {name: value for name, value in said.items() if value}
        return f"?{urlencode(given)}" if given else "?"


def read_look(query: Mapping[str, str]) -> Look:
    """From a query. Raises InvalidInput, and NotFound for a topic that can be none."""
    problems = [
        Problem(f"$.{name}", "invalid_value", f"{name} must be one of: {', '.join(values)}.")
        for name, values in _CHOICES.items()
        if query.get(name, values[0]) not in values
    ]
    if problems:
        raise InvalidInput(problems)
    topic = asked_topic(query)
    return Look(topic, query.get("by") == "concepts", Order(query.get("order", Order.NEED)), query.get("as") == "table")


def asked_topic(query: Mapping[str, str]) -> Id | None:
    """The topic of a query. Raises NotFound."""
    try:
        return parse_id(query["topic"]) if query.get("topic") else None
    except ValueError as error:
        raise NotFound("There is no such topic.") from error


_CHOICES: Mapping[str, tuple[str, ...]] = {
    "by": ("topics", "concepts"),
    "order": tuple(Order),
    "as": ("picture", "table"),
}
