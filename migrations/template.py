"""The text of a new migration file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

LINE_LENGTH = 140

_HEAD = '''"""{text}."""

from __future__ import annotations

from typing import Any

'''
_ATOMIC = (
    "# No transaction: CONCURRENTLY allows none, and VALIDATE would hold its locks. Every statement may run again.\nATOMIC = False\n\n"
)
_ACCEPTED = "ACCEPTED = {{{rules}}}\n\n"
_IRREVERSIBLE = "IRREVERSIBLE = {reason}\n\n"
_FUNCTION = "\ndef {name}(migrator: Any, database: Any, *, fake: bool = False) -> None:\n{body}\n"
_EMPTY_UP = '    # migrator.sql("ALTER TABLE … ADD COLUMN … NOT NULL DEFAULT …")\n    raise NotImplementedError'
_EMPTY_DOWN = (
    '    # migrator.sql("ALTER TABLE … DROP COLUMN …"), or IRREVERSIBLE = "why" in place of this function\n    raise NotImplementedError'
)


def empty_file(text: str) -> str:
    """A file that a person is to fill; until then it refuses to run."""
    return _head(text) + _FUNCTION.format(name="migrate", body=_EMPTY_UP) + "\n" + _FUNCTION.format(name="rollback", body=_EMPTY_DOWN)


def filled_file(
    text: str, up: Sequence[str], down: Sequence[str], *, piecewise: bool, irreversible: str | None, accepted: Mapping[str, str]
) -> str:
    """A file of statements. Without a way back when `irreversible` gives the reason; `accepted`: the lint's rules it may break, and why."""
    parts = [_head(text), _ATOMIC if piecewise else ""]
    parts += [_ACCEPTED.format(rules=", ".join(f"{_literal(rule)}: {_literal(why)}" for rule, why in accepted.items()))] if accepted else []
    if irreversible:
        parts += [_IRREVERSIBLE.format(reason=_literal(irreversible)), _FUNCTION.format(name="migrate", body=_calls(up))]
    else:
        parts += [_FUNCTION.format(name="migrate", body=_calls(up)), "\n", _FUNCTION.format(name="rollback", body=_calls(down))]
    return "".join(parts)


def _head(text: str) -> str:
    return _HEAD.format(text=text.strip().rstrip(".").replace("\\", "\\\\").replace('"', "'"))


def _calls(statements: Sequence[str]) -> str:
    return "\n".join(_call(statement) for statement in statements) or "    pass"


def _call(statement: str) -> str:
    literal = _literal(statement)
    line = f"    migrator.sql({literal})"
    if literal.startswith('"""') or len(line) <= LINE_LENGTH:
        return line
    return f"    migrator.sql(\n        {literal}\n    )"


def _literal(text: str) -> str:
    """The text as a Python literal, in the form that the formatter leaves alone."""
    if "\\" in text or '"""' in text:
        return repr(text)
    if "\n" in text:
        return f'"""\n{text}\n"""'
    return f'"{text}"' if '"' not in text else repr(text)
