"""Formulas of a course as plain text: pages draw none, and nobody should have to read TeX at a glance."""

from __future__ import annotations

import re
from collections.abc import Mapping

# What formulas of school courses name, as one character.
_SIGNS: Mapping[str, str] = {
    "times": "×", "cdot": "·", "div": "÷", "pm": "±", "infty": "∞", "pi": "π", "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥", "neq": "≠",
    "ne": "≠", "approx": "≈", "circ": "°", "degree": "°",
}  # fmt: skip
_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_ROOTS: Mapping[str, str] = {"": "√", "2": "√", "3": "∛", "4": "∜"}
# Longer texts stay as they are: the time that this takes grows with the square of their length.
_LENGTH_MAX = 1_000
# Formulas in formulas are resolved from the innermost out; what is deeper stays as it was written.
_DEPTH_MAX = 6
_SIZES = re.compile(r"\\(?:left|right)(?![a-zA-Z])")
_LITERAL = re.compile(r"\\([%$#&_ ])|\\n(?![a-zA-Z])")
_SIGN = re.compile(rf"\\({'|'.join(_SIGNS)})(?![a-zA-Z])")
_WORDS = re.compile(r"\\(?:text|mathrm|operatorname|overline)\s*\{([^{}]*)\}")
_POWER = re.compile(r"\^(?:\{\(?(-?\d+)\)?\}|(-?\d+)(?![\d.]))")
_FRACTION = re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}(\s*[\w√∛∜(]|\s*\\)?")
_ROOT = re.compile(r"\\sqrt\s*(?:\[([^\]{}]*)\])?\s*\{([^{}]*)\}")
_GROUPED = re.compile(r"([\^_])\{([^{}]*)\}")
_LOOSE = re.compile(r"(?<![A-Za-z_\]}])\{([^{}]*)\}")
# What stands above a line without brackets, and what below one or under a root.
_PRODUCT = re.compile(r"-?(?:[\w.√∛∜π∞⁰¹²³⁴⁵⁶⁷⁸⁹⁻]*|\([^()]*\))")
_FACTOR = re.compile(r"-?[√∛∜]?(?:[\d.]+|\w|\([^()]*\))[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]*")


def plain(text: str) -> str:
    r"""A text without the marks of its formulas: `$$\frac{1}{2}x^2$$` is `(1/2)x²`. What is not known stays as it was written."""
    marked, text = "$$" in text, text.replace("$$", "")
    if len(text) > _LENGTH_MAX or ("\\" not in text and "^" not in text):
        return text
    text = _LITERAL.sub(lambda found: found[1] or " ", _SIZES.sub("", text))
    text = _SIGN.sub(lambda found: _SIGNS[found[1]], text)
    for _ in range(_DEPTH_MAX):
        before = text
        text = _POWER.sub(lambda found: (found[1] or found[2]).translate(_RAISED), _WORDS.sub(r"\1", text))
        text = _ROOT.sub(lambda found: _degree(found[1] or "") + _term(found[2], _FACTOR), text)
        text = _GROUPED.sub(lambda found: f"{found[1]}({found[2]})", _FRACTION.sub(_fraction, text))
        if marked:
            text = _LOOSE.sub(lambda found: _term(found[1], _FACTOR), text)
        if text == before:
            break
    return text


def _fraction(found: re.Match[str]) -> str:
    """In brackets where something is multiplied by it."""
    said = f"{_term(found[1], _PRODUCT)}/{_term(found[2], _FACTOR)}"
    return f"({said}){found[3]}" if found[3] else said


def _term(inner: str, bare: re.Pattern[str]) -> str:
    inner = inner.strip()
    return inner if bare.fullmatch(inner) else f"({inner})"


def _degree(degree: str) -> str:
    return _ROOTS.get(degree, f"{degree.translate(_RAISED)}√")
