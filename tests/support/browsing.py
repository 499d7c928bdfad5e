"""A real browser for tests of pages: Debian's Chromium, driven by playwright, which looks at everything that a page does.

Where there is the build of it that has no windows at all, that one: the same engine for a third of the work.

A visit ends with what no page may have done: asked another address, broken its own content security policy, or written an error to the console.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"))), None)
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server"]
PHONE = {"width": 320, "height": 640}
DESK = {"width": 1100, "height": 800}
# A tablet upright, where tables are still tables; a common laptop at 200 %.
BETWEEN = ({"width": 780, "height": 1100}, {"width": 683, "height": 384})
WAIT_MAX_MS = 15_000
# What axe calls the consequence of a finding, the worst two.
GRAVE = ("serious", "critical")

_LISTEN = (
    "document.addEventListener('securitypolicyviolation', (e) => console.error('POLICY ' + e.violatedDirective + ' ' + e.blockedURI));"
)


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser without a window (playwright's `Browser`). Skips the test where Chromium or playwright is missing."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright (make installs it)")
    if CHROMIUM is None:
        pytest.skip("needs Chromium (Debian: apt-get install chromium-headless-shell)")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Visit:
    """A window on a site at `url`; `page` is playwright's. `complaints` is what no page may have done."""

    page: Any
    url: str
    complaints: list[str] = field(default_factory=list)
    # Console errors that a test causes itself contain one of these.
    expected: list[str] = field(default_factory=list)

    def open(self, path: str = "/") -> None:
        """Goes to a path of the site and waits until its scripts have run."""
        self.page.goto(self.url + path)

    def own_clock(self) -> None:
        """Gives pages that are opened from now on a clock that `pass_time` can put forward."""
        self.page.clock.install()

    def pass_time(self, ms: int) -> None:
        """The page's clock goes on by so much, and what was to happen meanwhile happens."""
        self.page.clock.run_for(ms)

    def text(self) -> str:
        """What a person can read."""
        return str(self.page.locator("body").inner_text())

    def wait_for(self, text: str) -> None:
        """Until the text can be seen."""
        self.page.get_by_text(text).first.wait_for(state="visible")

    def has_focus(self, role: str, name: str) -> None:
        """Waits until the element of this role and name has the focus."""
        from playwright.sync_api import expect

        expect(self.page.get_by_role(role, name=name)).to_be_focused(timeout=WAIT_MAX_MS)

    def is_announced(self, text: str) -> None:
        """Waits until a screen reader has been given this sentence."""
        from playwright.sync_api import expect

        expect(self.page.locator("[data-announce]")).to_have_text(text, timeout=WAIT_MAX_MS)

    def overflow_px(self) -> int:
        """By how much the page is wider than its window, or what stands in a panel wider than the panel."""
        wider = "Math.max(...[document.documentElement, ...document.querySelectorAll('.panel')].map((e) => e.scrollWidth - e.clientWidth))"
        return int(self.page.evaluate(wider))

    def resize(self, viewport: Mapping[str, int]) -> None:
        """The window has another size from now on."""
        self.page.set_viewport_size(viewport)

    def grave_findings(self) -> Sequence[str]:
        """What axe finds that is serious or critical: rule, and the elements."""
        from axe_playwright_python.sync_playwright import Axe

        violations = Axe().run(self.page).response["violations"]
        return [
            f"{found['id']}: {[node['html'] + ' ' + node.get('failureSummary', '') for node in found['nodes']]}"
            for found in violations
            if found["impact"] in GRAVE
        ]

    def unexpected(self) -> list[str]:
        """The complaints that no test has announced."""
        return [complaint for complaint in self.complaints if not any(part in complaint for part in self.expected)]


@contextmanager
def visiting(browser: Any, url: str, *, cookies: bool = False, **options: Any) -> Iterator[Visit]:
    """A fresh window (no storage, no cache) for a site; `options` are those of playwright's `new_context`.

    Fails in the end if there are complaints, or cookies on a site that should have none.
    """
    context = browser.new_context(**{"viewport": DESK, **options})
    context.set_default_timeout(WAIT_MAX_MS)
    context.add_init_script(_LISTEN)
    page = context.new_page()
    visit = Visit(page, url)
    host = urlsplit(url).netloc
    page.on("request", lambda request: _note_stranger(visit, host, request.url))
    page.on("pageerror", lambda error: visit.complaints.append(f"error {error}"))
    page.on("console", lambda message: visit.complaints.append(message.text) if message.type == "error" else None)
    try:
        yield visit
        kept = context.cookies()
    finally:
        context.close()
    assert not visit.unexpected(), f"the page did what it may not: {visit.unexpected()}"
    assert cookies or not kept, f"the page left cookies: {[cookie['name'] for cookie in kept]}"


def _note_stranger(visit: Visit, host: str, url: str) -> None:
    if urlsplit(url).netloc != host:
        visit.complaints.append(f"asked {url}")
