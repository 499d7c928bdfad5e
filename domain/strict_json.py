"""What JSON parsers disagree about is refused: names that stand twice in an object, and integers of more than 64 bits.

msgspec takes the last of several values of a name, other parsers the first; and it reads integers of any size, which neither database can hold. A large
message costs one look at its bytes and one at its decoded form; only where these do not settle the matter is it parsed a second time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from domain.errors import MalformedJson, Problem

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# A number of so many digits may be too large; ids, which are hexadecimal, stand in quotes.
_LONG_NUMBER = re.compile(rb"[:,\[\s-][0-9]{19}")
# A name is followed by its colon at once, in what a program writes.
_NAME_ENDS = b'":'
_SPACED = re.compile(rb'"[ \t\n\r]+:')
# Below this a second parse costs less than thinking about it.
_SMALL_BYTES = 2_000


def demand_strict(data: bytes, message: Any, *, large_integers: bool = False) -> None:
    """Raises MalformedJson for a body that parsers may understand differently. `message` is what was decoded of it.

    With `large_integers` these are left to whoever judges the values one by one.
    """
    if len(data) >= _SMALL_BYTES and (large_integers or not _LONG_NUMBER.search(data)) and _has_each_name_once(data, message):
        return
    try:
        (_DISTINCT if large_integers else _DEMANDING).decode(data.decode())
    except _Doubtful as error:
        raise MalformedJson([Problem("$", "malformed", str(error))]) from error
    except RecursionError as error:
        raise MalformedJson([Problem("$", "malformed", "The JSON is nested too deeply.")]) from error


class _Doubtful(ValueError):
    """Valid JSON that is refused."""


def _has_each_name_once(data: bytes, message: Any) -> bool:
    """Whether the bytes hold just as many names as the decoded message. False also where that cannot be told so easily."""
    return data.count(_NAME_ENDS) == _names_in(message) and not _SPACED.search(data)


def _names_in(value: Any) -> int:
    """The names of a decoded message, those of objects in columns left out: where there are such, the bytes hold more, and are parsed."""
    if isinstance(value, msgspec.Struct):
        given = [(field, getattr(value, field.name)) for field in msgspec.structs.fields(value)]
        return sum(1 + _names_in(held) for field, held in given if field.required or held != field.default)
    if isinstance(value, Mapping):
        return len(value) + sum(map(_names_in, value.values()))
    if isinstance(value, list) and value and isinstance(value[0], msgspec.Struct):
        return sum(map(_names_in, value))
    return 0


def _distinct(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _Doubtful("A name stands more than once in an object.")


def _int64(digits: str) -> int:
    # Longer texts are not even converted, which takes time that grows with their square.
    if len(digits) > 20 or not INT64_MIN <= int(digits) <= INT64_MAX:
        raise _Doubtful("An integer has more than 64 bits.")
    return 0


_DISTINCT = json.JSONDecoder(object_pairs_hook=_distinct, parse_int=len)
_DEMANDING = json.JSONDecoder(object_pairs_hook=_distinct, parse_int=_int64)
