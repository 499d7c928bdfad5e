"""The learning app of docs/examples/practice, as a student meets it: its page in a browser, its program in a terminal."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.pages.conftest import PIN, Site
from tests.support.browsing import PHONE, visiting
from tests.support.device import ADA, APP_TOKEN
from tests.support.examples import example

PAGE, PROGRAM = "examples/practice/index.html", "examples/practice/practice.py"
STOP_MAX_S = 10


@contextmanager
def served(page: str) -> Iterator[str]:
    """The address at which this page is served, by another server than the daemon."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *parts: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join(STOP_MAX_S)


def attempts(site: Site) -> list[tuple[Any, ...]]:
    return site.device.rows("SELECT student_id, answer, correct FROM question_attempts")


def test_a_student_practises_on_the_page_from_the_launch_code_to_signing_out(browser: Any, site: Site) -> None:
    access = site.device.api.access
    with served(example(PAGE, {"http://127.0.0.1:8750": site.url})) as origin, visiting(browser, origin, viewport=PHONE) as visit:
        visit.expected += [f"asked {site.url}/v1/", "403"]
        app, _ = access.apps.add("Practice", [origin])
        visit.open(f"/#carrel={access.launch_codes.issue(app)}")
        page = visit.page
        page.get_by_label("Name").select_option("ada")
        page.get_by_label("PIN").fill("9999")
        page.get_by_role("button", name="Sign in").click()
        visit.wait_for("The name or the PIN is wrong.")
        page.get_by_label("PIN").fill(PIN)
        page.get_by_role("button", name="Sign in").click()
        page.locator("#stem").wait_for()
        assert visit.grave_findings() == [] and visit.overflow_px() == 0
        if page.get_by_label("Answer").is_visible():
            page.get_by_label("Answer").fill("no idea")
            page.get_by_role("button", name="Answer").click()
        else:
            page.locator("#choices button").first.click()
        visit.wait_for("Not at school yet: 1")
        assert [row[0] for row in attempts(site)] == [ADA]
        page.get_by_role("button", name="Sign out").click()
        page.get_by_label("PIN").wait_for()
        assert not page.locator("#stem").is_visible()
    assert site.device.rows("SELECT count(*) FROM student_sessions") == [(0,)]


def test_a_student_practises_in_a_terminal(site: Site, tmp_path: Path) -> None:
    program = tmp_path / "practice.py"
    program.write_text(example(PROGRAM, {"127.0.0.1:8750": site.url.removeprefix("http://")}), "utf-8")
    done = subprocess.run(
        [sys.executable, str(program), "ada"],
        input=f"{PIN}\nno idea\n",
        env={"APP": APP_TOKEN},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done
    assert "Not at school yet: 1 (pending)" in done.stdout
    assert attempts(site) == [(ADA, "no idea", 0)]
