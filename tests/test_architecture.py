"""Who may import whom: read from the source, so that a wrong arrow fails before it works."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("domain", "loglines", "webpages", "migrations", "daemon", "cloud_api", "devstack", "benchmarks", "tests")

# What each package may import of ours.
ALLOWED = {
    "domain": {"domain"},
    "loglines": {"loglines", "domain"},
    "webpages": {"webpages"},
    "migrations": {"migrations", "domain"},
    "daemon": {"daemon", "domain", "loglines", "migrations", "webpages"},
    "cloud_api": {"cloud_api", "domain", "loglines", "migrations", "webpages"},
}

# The modules that may import a library. One library, one place; `domain` holds to the standard library but for turning values into bytes.
HOMES = {
    "apscheduler": ("daemon/jobs.py",),
    "watchdog": ("daemon/watcher.py",),
    "urllib3": ("daemon/gateway.py", "daemon/control.py", "devstack/"),
    "zstandard": ("domain/bodies.py",),
    "cryptography": ("domain/sealing.py",),
    "msgspec": (
        "domain/wire.py",
        "domain/bodies.py",
        "domain/blocks.py",
        "domain/strict_json.py",
        "domain/bundle.py",
        "domain/content_pack.py",
        "daemon/",
        "cloud_api/",
    ),
    "cheroot": ("daemon/api/server.py",),
    "gunicorn": ("cloud_api/serve.py", "cloud_api/serving/worker.py"),
    "click": (
        "daemon/cli.py",
        "daemon/commands/",
        "cloud_api/cli.py",
        "cloud_api/commands/",
        "cloud_api/embedded/__main__.py",
        "migrations/cli.py",
        "migrations/commands/",
        "devstack/",
    ),
    "prometheus_client": ("daemon/api/routes/metrics.py", "cloud_api/serving/metrics.py"),
    "argon2": ("daemon/access/pins.py", "cloud_api/access/passwords.py"),
    "peewee_migrate": ("migrations/router.py",),
    "psycopg2": ("cloud_api/", "migrations/engines/", "devstack/"),
    "flask": ("daemon/", "cloud_api/"),
    "jinja2": ("webpages/rendering.py",),
    "markupsafe": ("webpages/charts.py", "webpages/qr.py"),
    "segno": ("webpages/qr.py",),
}


SQL = re.compile(r"\s*(SELECT\s.+\sFROM|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE TABLE)\b", re.DOTALL)
PURE_EXCEPTIONS = {"msgspec", "zstandard", "cryptography"}


@cache
def sources(package: str) -> tuple[tuple[str, ast.Module], ...]:
    return tuple((path.relative_to(ROOT).as_posix(), ast.parse(path.read_text())) for path in sorted((ROOT / package).rglob("*.py")))


@cache
def imports(package: str) -> tuple[tuple[str, str], ...]:
    """(file, full name of an imported module), wherever in the file it stands."""
    return tuple((file, name) for file, tree in sources(package) for name in _imported(tree))


def _imported(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def top(name: str) -> str:
    return name.partition(".")[0]


@pytest.mark.parametrize("package", ALLOWED)
def test_packages_import_only_downwards_and_daemon_and_cloud_never_each_other(package: str) -> None:
    wrong = [(f, n) for f, n in imports(package) if top(n) in OURS and top(n) not in ALLOWED[package]]
    assert wrong == []


def test_domain_is_pure() -> None:
    allowed = sys.stdlib_module_names | {"domain"} | PURE_EXCEPTIONS
    effects = {"socket", "sqlite3", "subprocess", "http", "urllib", "logging", "asyncio", "os"}
    found = [(f, n) for f, n in imports("domain") if top(n) not in allowed or top(n) in effects]
    assert found == []


@pytest.mark.parametrize("library", HOMES)
def test_each_library_is_imported_where_it_is_at_home_and_nowhere_else(library: str) -> None:
    everywhere = (found for package in (*ALLOWED, "devstack") for found in imports(package))
    strays = {file for file, name in everywhere if top(name) == library and not file.startswith(HOMES[library])}
    assert strays == set()


def test_sql_stands_only_in_storage_modules() -> None:
    """Routes, commands, jobs and the like ask storage modules; a SELECT in them is a query in the wrong place."""
    outer: tuple[str, ...] = (
        "daemon/api/routes/",
        "daemon/pages/",
        "daemon/cli.py",
        "daemon/commands/",
        "daemon/service.py",
        "daemon/jobs.py",
        "daemon/watcher.py",
        "daemon/api/app.py",
        "daemon/api/server.py",
    )
    outer += (
        "cloud_api/routes/",
        "cloud_api/cli.py",
        "cloud_api/commands/",
        "cloud_api/app.py",
        "cloud_api/serve.py",
        "cloud_api/wsgi.py",
    )
    found = []
    for package in ("daemon", "cloud_api"):
        for file, tree in sources(package):
            if not file.startswith(outer):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and SQL.match(node.value):
                    found.append((file, node.lineno))
    assert found == []


def test_only_the_clock_module_asks_for_the_wall_clock() -> None:
    """Everything else takes a Clock, so that a simulation can hand in its own. The scheduler compares with the machine's own time."""
    found = [
        (file, node.lineno)
        for package in ("domain", "daemon", "cloud_api")
        for file, tree in sources(package)
        if file not in ("domain/clock.py", "daemon/jobs.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and (node.value.id, node.attr)
        in {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("date", "today")}
    ]
    assert found == []
