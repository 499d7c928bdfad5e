"""What a doctor says: each finding with how bad it is, and what helps; the same words on a device and on a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from domain.errors import CarrelError

# What a doctor's command ends with, 0 when nothing is wrong.
EXIT_ERRORS, EXIT_WARNINGS = 1, 11


class Severity(StrEnum):
    """How bad it is, the worst last."""

    OK = "ok"
    NOTE = "note"  # worth knowing; nobody has to act
    WARNING = "warning"  # works, and will not for ever
    ERROR = "error"  # does not work, or something may be lost


_ORDER = tuple(Severity)
_MARKS = {Severity.OK: "ok     ", Severity.NOTE: "note   ", Severity.WARNING: "WARNING", Severity.ERROR: "ERROR  "}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check came to. `remedy` is a sentence for a person; `fix` does the same where that is safe, and raises CarrelError or OSError."""

    check: str
    severity: Severity
    message: str
    remedy: str = ""
    fix: Callable[[], object] | None = field(default=None, compare=False, repr=False)

    def as_json(self) -> dict[str, Any]:
        return {
            "check": self.check,
            "severity": self.severity.value,
            "message": self.message,
            "remedy": self.remedy,
            "fixable": self.fix is not None,
        }


Check = Callable[[], Iterable[Finding]]


def examine(checks: Mapping[str, Check]) -> list[Finding]:
    """Every finding, check by check; what a check cannot look at is a finding of its own, and keeps no other from looking."""
    found: list[Finding] = []
    for name, check in checks.items():
        try:
            found += check()
        except (CarrelError, OSError) as error:
            said = error.message if isinstance(error, CarrelError) else str(error)
            found.append(Finding(name, Severity.ERROR, said))
    return found


def fix(findings: Iterable[Finding]) -> list[str]:
    """Does what is safe. Returns the checks of which something was put right; what fails is found again by the next examination."""
    fixed = []
    for finding in findings:
        if finding.fix is None or finding.severity in (Severity.OK, Severity.NOTE):
            continue
        try:
            finding.fix()
        except (CarrelError, OSError):
            continue
        fixed.append(finding.check)
    return fixed


def worst(findings: Sequence[Finding]) -> Severity:
    return max((finding.severity for finding in findings), key=_ORDER.index, default=Severity.OK)


def exit_code(findings: Sequence[Finding]) -> int:
    """0, EXIT_WARNINGS or EXIT_ERRORS."""
    return {Severity.ERROR: EXIT_ERRORS, Severity.WARNING: EXIT_WARNINGS}.get(worst(findings), 0)


def lines(findings: Sequence[Finding]) -> list[str]:
    """A line for each finding, and what helps below it."""
    width = max((len(finding.check) for finding in findings), default=0)
    told = []
    for finding in findings:
        told.append(f"{_MARKS[finding.severity]}  {finding.check:{width}}  {finding.message}")
        if finding.remedy:
            told.append(f"{'':{len(_MARKS[Severity.OK]) + width + 4}}→ {finding.remedy}")
    return told
