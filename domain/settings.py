"""Settings: one table of a TOML file, overridden by environment variables, as a frozen dataclass.

A settings class is a frozen dataclass whose fields are `str`, `int`, `float`, `bool` or `tuple[str, ...]`, made with `setting(…)`, or
nested dataclasses of the same kind (`field(default_factory=Api)`); a nested dataclass is a sub-table. Every field has a default.

The field `port` of the nested dataclass `api` in the section `device` is the key `port` of the table `[device.api]`, and the variable
`CARREL_DEVICE_API_PORT`. There is no second spelling. In a variable a truth value is `true` or `false`, a list is separated by commas.

What the file or the environment says and no setting answers to is a problem, never silently ignored; all problems are reported together.
Messages never repeat a value.
"""

from __future__ import annotations

import dataclasses
import math
import tomllib
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from domain.errors import InvalidConfig, Problem

# The tables that one config.toml may hold: device and server may share a file, and each reads its own part.
SECTIONS = ("device", "cloud")
FILE_BYTES_MAX = 1024 * 1024

T = TypeVar("T")
Check = Callable[[Any], str | None]

_METADATA_KEY = "setting"


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """What a setting may be. `unit` and `help` are for people; `check` gives the sentence that is wrong with a value, or None.

    `live` says that a change of the file takes effect in a process that is running; every other setting needs a restart.
    """

    help: str
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    check: Check | None = None
    live: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Setting:
    """One setting of a class: its place in the file (`device.api.port`), its variable, its type, default and rule."""

    path: str
    variable: str
    type: Any
    default: Any
    rule: Rule


def setting(
    default: T,
    help: str,
    *,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    check: Check | None = None,
    live: bool = False,
) -> T:
    """A field of a settings class, with the rule that its value keeps; `minimum` and `maximum` are inclusive."""
    rule = Rule(help, unit, minimum, maximum, choices, check, live)
    return dataclasses.field(default=default, metadata={_METADATA_KEY: rule})


def load(cls: type[T], *, section: str, toml_path: Path | None, environ: Mapping[str, str]) -> T:
    """The settings of `section` from the file (None: no file) and the environment, which wins.

    Raises InvalidConfig with every problem found: a file that cannot be read, unknown sections, keys and variables, wrong types, values
    outside their limits.
    """
    problems: list[Problem] = []
    settings = settings_of(cls, section)
    table = _read_section(toml_path, section, problems) if toml_path else {}
    values = _from_table(settings, section, table, problems) | _from_environment(settings, section, environ, problems)
    if problems:
        raise InvalidConfig(str(toml_path) if toml_path else "The environment", problems)
    return _build(cls, section, values)


def settings_of(cls: type, section: str) -> list[Setting]:
    """Every setting of a class in the order of its fields, nested ones opened up."""
    return list(_walk(cls, section))


def values_of(config: Any, section: str) -> dict[str, Any]:
    """Setting path to value, of a loaded settings object."""
    return {s.path: _value_at(config, s.path.split(".")[1:]) for s in settings_of(type(config), section)}


def origins_of(cls: type, *, section: str, toml_path: Path | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Setting path to where its value comes from: the name of a variable, `file` or `default`. For settings that `load` accepted."""
    settings = settings_of(cls, section)
    in_file = _from_table(settings, section, _read_section(toml_path, section, []), []) if toml_path else {}
    return {s.path: s.variable if s.variable in environ else "file" if s.path in in_file else "default" for s in settings}


def _value_at(config: Any, names: list[str]) -> Any:
    for name in names:
        config = getattr(config, name)
    return config


def _walk(cls: type, prefix: str) -> Iterator[Setting]:
    types = typing.get_type_hints(cls)
    for field in dataclasses.fields(cls):
        path, type_ = f"{prefix}.{field.name}", types[field.name]
        if dataclasses.is_dataclass(type_):
            yield from _walk(typing.cast(type, type_), path)
        else:
            yield Setting(path, f"CARREL_{path.replace('.', '_').upper()}", type_, field.default, field.metadata[_METADATA_KEY])


def _build(cls: type[T], prefix: str, values: Mapping[str, Any]) -> T:
    types = typing.get_type_hints(cls)
    given: dict[str, Any] = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # a settings class is a dataclass
        path, type_ = f"{prefix}.{field.name}", types[field.name]
        if dataclasses.is_dataclass(type_):
            given[field.name] = _build(typing.cast(type, type_), path, values)
        elif path in values:
            given[field.name] = values[path]
    return cls(**given)


# --- the file


def _read_section(path: Path, section: str, problems: list[Problem]) -> dict[str, Any]:
    document = _read_toml(path, problems)
    for name in document.keys() - set(SECTIONS):
        problems.append(Problem(name, "unknown", _unknown("section", name, SECTIONS)))
    table = document.get(section, {})
    if isinstance(table, dict):
        return table
    problems.append(Problem(section, "type", "must be a table"))
    return {}


def _read_toml(path: Path, problems: list[Problem]) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            problems.append(Problem("file", "too_large", f"is larger than {FILE_BYTES_MAX} bytes"))
            return {}
        return tomllib.loads(data.decode())
    except OSError as error:
        problems.append(Problem("file", "unreadable", f"cannot be read ({error.strerror})"))
    except UnicodeDecodeError:
        problems.append(Problem("file", "malformed", "is not UTF-8 text"))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        problems.append(Problem("file", "malformed", f"is not TOML: {error}"))
    return {}


def _from_table(settings: list[Setting], section: str, table: Mapping[str, Any], problems: list[Problem]) -> dict[str, Any]:
    by_path = {s.path: s for s in settings}
    groups = {path[:dot] for path in by_path for dot, letter in enumerate(path) if letter == "."}
    values: dict[str, Any] = {}
    for path, value in _flatten(section, table, groups):
        if path in by_path:
            if _keep(by_path[path], value, path, problems):
                values[path] = _as_type(by_path[path].type, value)
        elif path in groups:
            problems.append(Problem(path, "type", "must be a table"))
        else:
            known = [p for p in (*by_path, *groups) if p != section]
            problems.append(Problem(path, "unknown", _unknown("setting", path, known)))
    return values


def _flatten(prefix: str, table: Mapping[str, Any], groups: set[str]) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        path = f"{prefix}.{name}"
        if isinstance(value, dict) and path in groups:
            yield from _flatten(path, value, groups)
        else:
            yield path, value


# --- the environment


def _from_environment(settings: list[Setting], section: str, environ: Mapping[str, str], problems: list[Problem]) -> dict[str, Any]:
    by_variable = {s.variable: s for s in settings}
    prefix = f"CARREL_{section.upper()}_"
    values: dict[str, Any] = {}
    for variable, text in environ.items():
        if variable in by_variable:
            found = by_variable[variable]
            value = _parse(found.type, text)
            if _keep(found, value, variable, problems):
                values[found.path] = _as_type(found.type, value)
        elif variable.startswith(prefix):
            problems.append(Problem(variable, "unknown", _unknown("setting", variable, list(by_variable))))
    return values


def _parse(type_: Any, text: str) -> Any:
    """The value that `text` stands for, or the text itself where it stands for none of that type: `_keep` then says so."""
    if type_ is bool:
        return {"true": True, "false": False}.get(text.strip().lower(), text)
    if type_ in (int, float):
        try:
            return type_(text)
        except ValueError:
            return text
    if type_ is str:
        return text
    return [part.strip() for part in text.split(",") if part.strip()]


# --- one value


def _keep(found: Setting, value: Any, where: str, problems: list[Problem]) -> bool:
    problem = _type_problem(found.type, value) or _limit_problem(found.rule, value)
    if problem:
        problems.append(Problem(where, *problem))
    return problem is None


def _type_problem(type_: Any, value: Any) -> tuple[str, str] | None:
    word, fits = _TYPES.get(type_, ("a list of texts", _is_list_of_texts))
    return None if fits(value) else ("type", f"must be {word}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


_TYPES: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    str: ("a text", lambda value: isinstance(value, str)),
    int: ("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool)),
    float: ("a number", _is_number),
    bool: ("true or false", lambda value: isinstance(value, bool)),
}


def _limit_problem(rule: Rule, value: Any) -> tuple[str, str] | None:
    unit = f" {rule.unit}" if rule.unit else ""
    if rule.minimum is not None and value < rule.minimum:
        return "range", f"must be at least {rule.minimum:.16g}{unit}"
    if rule.maximum is not None and value > rule.maximum:
        return "range", f"must be at most {rule.maximum:.16g}{unit}"
    if rule.choices and value not in rule.choices:
        return "choice", f"must be one of {', '.join(rule.choices)}"
    if rule.check and (sentence := rule.check(value)):
        return "invalid", sentence
    return None


def _as_type(type_: Any, value: Any) -> Any:
    """A value that kept its rule in the field's own type: TOML writes 30 for 30.0, and lists for tuples."""
    if type_ is float and isinstance(value, int):
        return float(value)
    return tuple(value) if isinstance(value, list) else value


def _unknown(what: str, name: str, known: list[str] | tuple[str, ...]) -> str:
    from difflib import get_close_matches  # here, because most names are right

    near = get_close_matches(name, known, n=1)
    return f"is not a {what}; did you mean {near[0]}?" if near else f"is not a {what}"
