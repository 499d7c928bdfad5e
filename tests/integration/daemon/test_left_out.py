"""The daemon's process has nothing in it that it does not need at rest, and gets what was left out when somebody asks for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# What would be 10 MB together.
HEAVY = (
    "argon2", "asyncio", "cryptography", "difflib", "flask.cli", "html.entities", "itsdangerous", "jinja2", "more_itertools", "multiprocessing",
    "prometheus_client", "psycopg2.extensions", "rich", "segno", "socketserver", "tzlocal", "unittest", "webpages.rendering", "werkzeug.serving",
    "werkzeug.test", "xml", "zoneinfo",
)  # fmt: skip


def told(code: str) -> str:
    """What code says that begins as `carrel run` begins."""
    begin = (
        "import sys\nimport daemon.cli\nfrom daemon.process.left_out import left_out\nwith left_out():\n    from daemon import service\n"
    )
    done = subprocess.run([sys.executable, "-c", begin + code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_nothing_heavy_is_imported_that_a_daemon_at_rest_does_not_need() -> None:
    found = told("print(*(name for name, module in sys.modules.items() if module is not None))").split()
    assert [name for name in HEAVY if name in found] == []
    assert {"flask", "apscheduler.schedulers.background", "cheroot.server", "peewee", "urllib3", "watchdog.observers"} <= set(found)


def test_templates_are_there_for_the_device_page_when_it_is_opened() -> None:
    assert told("from webpages.rendering import Templates\nprint(sys.modules['jinja2'].Environment.__module__)") == "jinja2.environment"


def test_what_was_there_before_stays_what_it_is_and_what_stood_in_for_something_is_gone() -> None:
    code = "import jinja2, pprint, zoneinfo\nprint(zoneinfo.ZoneInfo('UTC'), hasattr(jinja2, 'Undefined'), pprint.pformat([1]))"
    assert told(code) == "UTC True [1]"
    again = "kept = sys.modules['flask']\nwith left_out():\n    import flask\nprint(flask is kept)"
    assert told(again) == "True"


def test_a_library_that_wants_more_of_a_module_than_stands_in_for_it_gets_the_module() -> None:
    assert told("with left_out():\n    from itsdangerous import Signer\nprint(Signer('a').sign(b'b')[:2])") == "b'b.'"
    late = "with left_out():\n    import jinja2 as kept\nimport jinja2\nprint(kept.Undefined is jinja2.Undefined, sys.modules['jinja2'] is jinja2)"
    assert told(late) == "True True"
