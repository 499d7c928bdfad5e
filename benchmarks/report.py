"""What was measured, held against its limits, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Bound(Enum):
    """Which side of the limit is good."""

    AT_MOST = "at_most"
    AT_LEAST = "at_least"

    @property
    def sign(self) -> str:
        return "≤" if self is Bound.AT_MOST else "≥"


@dataclass(frozen=True, slots=True)
class Check:
    """One measured value and the limit of its budget, both in `unit`. `spread` is the lowest and the highest of the repeated runs."""

    what: str
    value: float
    unit: str
    bound: Bound
    limit: float
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool:
        return self.value <= self.limit if self.bound is Bound.AT_MOST else self.value >= self.limit


@dataclass(frozen=True, slots=True)
class Result:
    """One budget: the checks that decide, and `figures` that explain them. `failure` says why nothing could be measured."""

    name: str
    checks: Sequence[Check] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    failure: str | None = None

    @property
    def met(self) -> bool:
        return self.failure is None and all(check.met for check in self.checks)


def as_json(results: Sequence[Result], settings: Mapping[str, Any]) -> dict[str, Any]:
    """`{"settings": {…}, "results": [{"name", "met", "failure", "checks": [{"what", "value", "unit", "bound", "limit", "met", "spread"}], "figures"}]}`."""
    return {"settings": dict(settings), "results": [_result(result) for result in results]}


def _result(result: Result) -> dict[str, Any]:
    return {
        "name": result.name,
        "met": result.met,
        "failure": result.failure,
        "checks": [
            {
                "what": check.what,
                "value": round(check.value, 4),
                "unit": check.unit,
                "bound": check.bound.value,
                "limit": check.limit,
                "met": check.met,
                "spread": None if check.spread is None else [round(edge, 4) for edge in check.spread],
            }
            for check in result.checks
        ],
        "figures": {name: round(value, 4) for name, value in result.figures.items()},
    }


def as_text(result: Result) -> str:
    """A few lines: every check with its limit, then the figures behind them."""
    if result.failure is not None:
        return f"{result.name}\n  not measured: {result.failure}"
    checks = [
        f"  {'met ' if check.met else 'MISSED'.ljust(4)}  {check.what}: {_value(check)} (budget {check.bound.sign} {_number(check.limit)} {check.unit})"
        for check in result.checks
    ]
    figures = [f"        {name}: {_number(value)}" for name, value in result.figures.items()]
    return "\n".join([result.name, *checks, *figures])


def _value(check: Check) -> str:
    text = f"{_number(check.value)} {check.unit}"
    return text if check.spread is None else f"{text}, runs {_number(check.spread[0])} to {_number(check.spread[1])}"


def _number(value: float) -> str:
    """Three significant digits, and whole numbers whole."""
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1_000 else f"{value:.3g}"
