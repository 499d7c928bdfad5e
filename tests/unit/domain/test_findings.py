from __future__ import annotations

from collections.abc import Iterator

from domain.errors import OperatorError
from domain.findings import EXIT_ERRORS, EXIT_WARNINGS, Finding, Severity, examine, exit_code, fix, lines, worst

GOOD = Finding("disk", Severity.OK, "There is room.")
BAD = Finding("clock", Severity.ERROR, "It is wrong.", "set it")


def test_a_check_that_cannot_look_is_a_finding_and_keeps_no_other_from_looking() -> None:
    def cannot() -> Iterator[Finding]:
        yield GOOD
        raise OperatorError("The file cannot be read.")

    found = examine({"database": cannot, "disk": lambda: [GOOD]})
    assert [(one.check, one.severity) for one in found] == [("disk", Severity.OK), ("database", Severity.ERROR), ("disk", Severity.OK)]
    assert found[1].message == "The file cannot be read."


def test_the_worst_decides_how_the_command_ends() -> None:
    warning = Finding("disk", Severity.WARNING, "There is little room.")
    note = Finding("disk", Severity.NOTE, "There is room.")
    assert worst([GOOD, warning, note]) is Severity.WARNING
    assert [exit_code(found) for found in ([], [GOOD, note], [warning, GOOD], [warning, BAD])] == [0, 0, EXIT_WARNINGS, EXIT_ERRORS]


def test_only_what_is_wrong_and_safe_is_put_right_and_a_failure_stops_nothing() -> None:
    done: list[str] = []

    def fails() -> None:
        raise OSError

    findings = [
        Finding("good", Severity.OK, "", fix=lambda: done.append("good")),
        Finding("failing", Severity.ERROR, "", fix=fails),
        BAD,
        Finding("mode", Severity.ERROR, "", fix=lambda: done.append("mode")),
    ]
    assert fix(findings) == ["mode"]
    assert done == ["mode"]
    assert [one.as_json()["fixable"] for one in findings] == [True, True, False, True]


def test_what_helps_stands_below_what_is_wrong() -> None:
    first, second, third = lines([GOOD, BAD])
    assert "There is room." in first
    assert second.startswith("ERROR")
    assert third.strip() == "→ set it"
