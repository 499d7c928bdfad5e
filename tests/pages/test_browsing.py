"""What `visiting` watches for does show: without this, a page that does it would pass."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pages.conftest import Site
from tests.support.browsing import visiting


@pytest.mark.parametrize(
    ("misdeed", "complaint"),
    [
        ("new Image().src = 'https://school.invalid/pixel.png'", "POLICY img-src"),
        ("fetch('https://school.invalid/').catch(() => {})", "POLICY connect-src"),
        ("document.body.setAttribute('style', 'color: red')", "POLICY style-src-attr"),
        (
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))",
            "POLICY script-src-elem",
        ),
        ("setTimeout(() => { throw new Error('broken'); })", "error broken"),
    ],
)
def test_what_a_page_may_not_do_is_prevented_and_noticed(browser: Any, site: Site, misdeed: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint), visiting(browser, site.url) as visit:
        visit.open()
        noticed = "pageerror" if complaint.startswith("error") else "console"
        with visit.page.expect_event(noticed):
            visit.page.evaluate(f"() => {{ {misdeed}; }}")
        visit.page.evaluate("() => new Promise((done) => setTimeout(done))")  # what was noticed behind it has arrived too
        assert visit.page.evaluate("window.ran") is None, "the script did not run"


def test_an_element_that_screen_readers_cannot_name_is_found(browser: Any, site: Site) -> None:
    with visiting(browser, site.url) as visit:
        visit.open()
        visit.page.evaluate("document.querySelector('main').append(document.createElement('button'))")
        assert [finding.partition(":")[0] for finding in visit.grave_findings()] == ["button-name"]


def test_what_is_too_wide_is_found(browser: Any, site: Site) -> None:
    with visiting(browser, site.url) as visit:
        visit.open()
        visit.page.evaluate("document.querySelector('main').style.minWidth = '3000px'")
        assert visit.overflow_px() > 1000
