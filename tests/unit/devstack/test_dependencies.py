"""Packages that are not what constraints.txt says, or that nobody has allowed, are a problem: none is passed over."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import InvalidRequirement

from devstack.dependencies import CONSTRAINTS, LOCK, SETUP, Package, out_of_step, pinned, problems, required, service_locks_out_of_step

MIT = frozenset({"MIT"})
PINS = {"flask": "3.1.3", "werkzeug": "3.1.9", "ruff": "0.17.6"}
ROOT = Package("0.1.0", ["flask>=3.1", 'ruff; extra == "dev"', 'gone; sys_platform == "nowhere"'])
INSTALLED = {
    "carrel": ROOT,
    "flask": Package("3.1.3", ["Werkzeug>=3", 'extra-thing; extra == "async"'], MIT),
    "werkzeug": Package("3.1.9", [], MIT),
    "ruff": Package("0.17.6", [], MIT),
    "somebodys-own-tool": Package("1.0"),
}


def test_an_environment_as_it_is_pinned_is_in_order_whatever_else_is_installed() -> None:
    assert list(problems(PINS, INSTALLED)) == []


def test_what_one_machine_alone_needs_may_be_pinned() -> None:
    assert list(problems(PINS | {"gone": "1.0"}, INSTALLED)) == []


@pytest.mark.parametrize(
    ("pins", "installed", "said"),
    [
        ({"werkzeug": None}, {}, "werkzeug is needed and not pinned"),
        ({}, {"werkzeug": None}, "werkzeug is needed and not installed"),
        ({"werkzeug": "3.1.8"}, {}, "werkzeug is installed as 3.1.9 and pinned as 3.1.8"),
        ({"six": "1.0"}, {}, "six is pinned in constraints.txt and not needed"),
        ({}, {"ruff": Package("0.17.6", [], frozenset({"MIT", "AGPL-3.0-only"}))}, "ruff has a licence that nobody has allowed"),
        ({}, {"ruff": Package("0.17.6")}, "ruff has a licence that nobody has allowed: none is named"),
    ],
)
def test_whatever_is_not_as_it_should_be_is_told(pins: dict[str, str | None], installed: dict[str, Package | None], said: str) -> None:
    given = {name: version for name, version in (PINS | pins).items() if version}
    there = {name: package for name, package in (INSTALLED | installed).items() if package}
    (problem,) = problems(given, there)
    assert problem.startswith(said)


@pytest.mark.parametrize("line", ["flask", "flask>=3", "flask==3.*", "flask @ file:///tmp/flask", "flask===3==="])
def test_a_line_that_pins_no_version_is_refused(line: str) -> None:
    with pytest.raises(InvalidRequirement):
        pinned(line)


def test_the_shipped_files_can_be_read_whole() -> None:
    lines = [line for line in Path(CONSTRAINTS).read_text().splitlines() if not line.startswith("#")]
    assert len(pinned("\n".join(lines))) == len(lines) > 50
    assert {"flask>=3.1,<4", 'ruff ; extra == "dev"'} < set(required(Path(SETUP).read_text()))


HASH = f"--hash=sha256:{'0a' * 32}"


@pytest.mark.parametrize(
    ("lock", "said"),
    [
        (f"flask==3.1.2 \\\n    {HASH} \\\n    {HASH}\n", ["flask is 3.1.3 in constraints.txt and 3.1.2 in constraints.lock"]),
        ("", ["flask is 3.1.3 in constraints.txt and missing in constraints.lock"]),
        (f"flask==3.1.3 {HASH}\nsix==1.17.0 {HASH}", ["six is not pinned in constraints.txt and 1.17.0 in constraints.lock"]),
        ("flask==3.1.3", ["flask==3.1.3 has no hash in constraints.lock"]),
        (f"# by hand\nFlask==3.1.3 \\\n    {HASH} \\\n    {HASH}\n", []),
    ],
)
def test_a_lock_that_does_not_hold_the_pinned_versions_each_with_a_hash_is_told(lock: str, said: list[str]) -> None:
    assert [sentence.partition(": ")[0] for sentence in out_of_step({"flask": "3.1.3"}, lock)] == said


def test_the_shipped_locks_have_what_is_pinned_and_what_a_service_needs() -> None:
    pins = pinned(CONSTRAINTS.read_text())
    assert list(out_of_step(pins, LOCK.read_text())) == []
    assert list(service_locks_out_of_step(pins, {"carrel": Package("", required(Path(SETUP).read_text()))})) == []


def test_a_package_that_a_service_needs_and_its_lock_lacks_is_told() -> None:
    needs = {"carrel": Package("", ['ruff; extra == "cloud"'])}
    assert list(service_locks_out_of_step(pinned(CONSTRAINTS.read_text()), needs)) == [
        "ruff is 0.17.6 in constraints.txt and missing in server.lock: `make lock` writes it anew."
    ]
