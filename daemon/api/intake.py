"""What callers send, taken in: the bytes of a body and the texts of a query become checked structs, or InvalidInput with every problem found.

The quick way is one typed decode, one look at each limited field, and one search for repeated names. Only when that fails is the input walked
value by value, to name all that is wrong with it, at most PROBLEMS_MAX things.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec

from daemon.api.limits import broken, column_of, item_of, keeps_limits, struct_of, with_any_items
from domain.errors import InvalidInput, MalformedJson, Problem
from domain.operations import Rejection

# Problems reported of one request; a body of 500 attempts may hold thousands.
PROBLEMS_MAX = 20
# Characters of an unknown name that are repeated in a path.
NAME_LENGTH_MAX = 60

# Codes of problems. The first is also what the server calls an operation that breaks a limit.
INVALID_VALUE = Rejection.INVALID.value
UNKNOWN_FIELD = "unknown_field"
MISSING_FIELD = "missing_field"
WRONG_TYPE = "wrong_type"
REPEATED_FIELD = "repeated_field"

T = TypeVar("T")


def json_reader(type_: Any) -> Callable[[bytes], Any]:
    """A function that decodes a body of this type. It raises MalformedJson, and InvalidInput with all problems."""
    decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(type_)

    def read(body: bytes) -> Any:
        try:
            value = decoder.decode(body)
            if keeps_limits(value) and not _repeats_a_name(body):
                return value
        except (ValueError, RecursionError):  # msgspec's errors are kinds of ValueError
            pass
        raise _invalid(_walk(parse(body), type_, "$", strict=True))

    return read


def query_reader(type_: type[T]) -> Callable[[Mapping[str, list[str]]], T]:
    """A function that converts query parameters, given as name to all its values. It raises InvalidInput with all problems."""

    def read(values: Mapping[str, list[str]]) -> T:
        repeated = [name for name, given in values.items() if len(given) > 1]
        plain = {name: given[0] for name, given in values.items()}
        try:
            query = msgspec.convert(plain, type_, strict=False)
            if not repeated and keeps_limits(query):
                return query
        except msgspec.ValidationError:
            pass
        raise _invalid(_walk(_Names(plain, repeated), type_, "query", strict=False))

    return read


def parse(body: bytes) -> Any:
    """The JSON value of a body; an object in which a name stands twice remembers it. Raises MalformedJson."""
    try:
        msgspec.json.decode(body)  # the strict parser: no NaN, no infinity, no lone surrogate, UTF-8 only
        return _REMEMBERING.decode(body.decode())
    except RecursionError:
        raise MalformedJson([Problem("$", MalformedJson.code, "The JSON is nested too deeply.")]) from None
    except ValueError:
        raise MalformedJson([Problem("$", MalformedJson.code, "The body is not valid JSON in UTF-8.")]) from None


_RAW_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def field_names(body: bytes) -> frozenset[str]:
    """The names in the JSON object that a body is; none for anything else."""
    try:
        return frozenset(_RAW_FIELDS.decode(body))
    except (ValueError, RecursionError):
        return frozenset()


# --- repeated names: msgspec takes the last value, other parsers the first


class _Names(dict[str, Any]):
    """An object, and those of its names that stood in it more than once."""

    def __init__(self, fields: Any, repeated: list[str]) -> None:
        super().__init__(fields)
        self.repeated = repeated


class _Repeated(ValueError):
    """A name stands twice in one object."""


def _demand_distinct(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) != len(pairs):
        raise _Repeated


def _remember_repeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    repeated: dict[str, None] = {}
    for name, value in pairs:
        if name in fields:
            repeated[name] = None
        fields[name] = value
    return _Names(fields, list(repeated)) if repeated else fields


_DEMANDING = json.JSONDecoder(object_pairs_hook=_demand_distinct)
_REMEMBERING = json.JSONDecoder(object_pairs_hook=_remember_repeated)


def _repeats_a_name(body: bytes) -> bool:
    """Costs 3 µs for one attempt, a twentieth of what Flask does around it."""
    try:
        _DEMANDING.decode(body.decode())
    except _Repeated:
        return True
    return False


# --- the walk that names all problems


def _invalid(found: Iterator[Problem]) -> InvalidInput:
    problems = list(islice(found, PROBLEMS_MAX))
    return InvalidInput(problems or [Problem("$", INVALID_VALUE, "The request cannot be read.")])


def _walk(value: Any, type_: Any, path: str, *, strict: bool) -> Iterator[Problem]:
    item, struct, column = item_of(type_), struct_of(type_), column_of(type_)
    if isinstance(value, dict) and struct is not None:
        yield from _walk_fields(value, struct, path, strict=strict)
        return
    try:
        msgspec.convert(value, type_ if item is None else with_any_items(type_), strict=strict)
    except msgspec.ValidationError as error:
        yield _type_problem(path, str(error), strict, _examples(type_))
        return
    if isinstance(value, list) and item is not None:
        for place, one in enumerate(value):
            yield from _walk(one, item, f"{path}[{place}]", strict=strict)
    elif column is not None and (what := broken(column, value)):
        yield Problem(path, INVALID_VALUE, f"This {what}.")


def _walk_fields(value: dict[str, Any], struct: type[msgspec.Struct], path: str, *, strict: bool) -> Iterator[Problem]:
    known = {info.encode_name: info for info in msgspec.structs.fields(struct)}
    for name in value.repeated if isinstance(value, _Names) else ():
        yield Problem(f"{path}.{name[:NAME_LENGTH_MAX]}", REPEATED_FIELD, "This name stands more than once.")
    for name in value:
        if name not in known:
            yield Problem(f"{path}.{name[:NAME_LENGTH_MAX]}", UNKNOWN_FIELD, "There is no such field.")
    for name, info in known.items():
        if name in value:
            yield from _walk(value[name], info.type, f"{path}.{name}", strict=strict)
        elif info.required:
            yield Problem(f"{path}.{name}", MISSING_FIELD, "This must be given.")


# What msgspec calls the kinds of values, for people.
_KINDS = {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false", "array": "a list", "object": "an object"}
_LENGTH = re.compile(r"Expected (str|array) of length (>=|<=) (\d+)")
_NUMBER = re.compile(r"Expected (?:int|float) (>=|<=) (\S+)")
_BOUNDS = {">=": "at least", "<=": "at most"}


def _type_problem(path: str, text: str, strict: bool, examples: list[str]) -> Problem:
    """What msgspec said, in words that name types and limits, and never the value."""
    expected, got, kind = text.partition(" - at `$")[0].replace("`", "").partition(", got ")
    # In a query everything is text: what was got says nothing.
    given = f", not {_kind(kind)}" if got and strict else ""
    return Problem(path, WRONG_TYPE if got else INVALID_VALUE, f"This {_demand(expected, examples)}{given}.")


def _demand(expected: str, examples: list[str]) -> str:
    if length := _LENGTH.fullmatch(expected):
        kind, bound, count = length.groups()
        return f"must have {_BOUNDS[bound]} {count} {'character' if kind == 'str' else 'item'}{'' if count == '1' else 's'}"
    if number := _NUMBER.fullmatch(expected):
        return f"must be {_BOUNDS[number[1]]} {number[2]}"
    kinds = expected.removeprefix("Expected ").split(" | ")
    if set(kinds) <= _KINDS.keys() | {"null"}:
        return f"must be {' or '.join(map(_kind, kinds))}"
    return f"must look like {examples[0]}" if examples else "has not the form that it must have"


def _examples(type_: Any) -> list[str]:
    """What a type is documented to look like."""
    marks = get_args(type_)[1:] if get_origin(type_) is Annotated else ()
    return [example for mark in marks if isinstance(mark, msgspec.Meta) for example in mark.examples or ()]


def _kind(name: str) -> str:
    return _KINDS.get(name, name)
