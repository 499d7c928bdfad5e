"""The device page, as the people at the device meet it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.pages.conftest import PIN, Site
from tests.support.browsing import PHONE, Visit, visiting
from tests.support.device import ADA, BEN, DAY_MS, QUESTIONS, START_MS, attempt

WAITS = "answers not at school yet"


def answer(site: Site, count: int = 3) -> None:
    """Ada answers so many questions."""
    ada = site.device.signed_in(ADA)
    for number in range(count):
        body = attempt(QUESTIONS[number % 4], correct=number != 1, answered_at_ms=START_MS - number * DAY_MS)
        assert ada.post("/attempts", json=body).status_code == 201


def sign_in(visit: Visit, pin: str = PIN, name: str = "ada") -> None:
    visit.page.get_by_label("Name").fill(name)
    visit.page.get_by_label("PIN").fill(pin)
    visit.page.get_by_role("button", name="Sign in").click()


def number(visit: Visit) -> str:
    """The one number of the page, with what it counts."""
    return str(visit.page.locator(".figure.large p").first.inner_text())


def test_whoever_opens_the_page_reads_whether_the_work_is_safe_and_how_many_answers_are_not_at_school(browser: Any, site: Site) -> None:
    answer(site)
    site.device.rounds.run()
    with visiting(browser, site.url) as visit:
        visit.open()
        assert visit.page.get_by_role("heading", level=1).inner_text() == "Your work is safe on this device. It goes to school by itself."
        assert number(visit) == f"3 {WAITS}"
        assert "The school cannot be reached." in visit.text()
        assert "Glasswork school" in visit.text()


def test_the_sentence_and_the_number_are_there_without_javascript(browser: Any, site: Site) -> None:
    answer(site)
    with visiting(browser, site.url, java_script_enabled=False) as visit:
        visit.open()
        assert "Your work is safe on this device, and on its way to school." in visit.text()
        assert number(visit) == f"3 {WAITS}"
        assert visit.page.get_by_role("button", name="Sign in").count() == 0, "a form that could not be sent is not shown"


def test_nothing_that_a_student_answered_or_is_called_is_shown_before_signing_in(browser: Any, site: Site) -> None:
    answer(site)
    with visiting(browser, site.url) as visit:
        visit.open()
        source = visit.page.content()
        for private in ("Ada", "ada", "Ben", "scoring", "Glass 7b"):
            assert private not in source


def test_the_page_keeps_itself_current(browser: Any, site: Site) -> None:
    with visiting(browser, site.url) as visit:
        visit.own_clock()
        visit.open()
        assert number(visit) == f"0 {WAITS}"
        answer(site)
        visit.pass_time(6_000)
        visit.wait_for("Your work is safe on this device, and on its way to school.")
        assert number(visit) == f"3 {WAITS}"


def test_a_page_that_nobody_looks_at_asks_nothing(browser: Any, site: Site) -> None:
    with visiting(browser, site.url) as visit:
        visit.own_clock()
        visit.open()
        asked: list[str] = []
        visit.page.on("request", lambda request: asked.append(request.url) if "status" in request.url else None)
        hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true}); document.dispatchEvent(new Event('visibilitychange'))"
        visit.page.evaluate(hide % "true")
        visit.pass_time(120_000)
        assert asked == []
        with visit.page.expect_request("**/pages/status"):
            visit.page.evaluate(hide % "false")


def test_a_daemon_that_is_gone_is_said_and_asked_less_and_less(browser: Any, site: Site) -> None:
    with visiting(browser, site.url) as visit:
        visit.expected += ["ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"]
        visit.own_clock()
        visit.open()
        visit.page.wait_for_load_state("networkidle")
        site.stop()
        failed: list[str] = []
        visit.page.on("requestfailed", lambda request: failed.append(request.url))
        visit.pass_time(6_000)
        visit.wait_for("Nothing answers at this address any more.")
        assert number(visit) == f"0 {WAITS}", "what was shown stays"
        for _ in range(5):
            visit.pass_time(30_000)
            visit.page.evaluate("() => new Promise((done) => requestAnimationFrame(done))")
        assert 1 <= len(failed) <= 8


def test_a_student_signs_in_with_name_and_pin_and_sees_plan_and_mastery(browser: Any, site: Site) -> None:
    answer(site, 5)
    assert site.device.signed_in().post("/plan").status_code == 201
    with visiting(browser, site.url) as visit:
        visit.open()
        sign_in(visit)
        visit.wait_for("Ada Ørsted")
        seen = visit.text()
        for words in ("Glass 7b", "Where you stand", "scoring", "5 answers", "min to go", "Latest changes", "waiting"):
            assert words in seen
        bars = visit.page.get_by_role("img", name="scoring: ")
        assert bars.count() == 1
        days = visit.page.get_by_role("img", name="Answers a day").get_attribute("aria-label")
        assert days is not None and days.endswith("yesterday: 1; today: 1")


def test_signing_out_takes_everything_of_the_student_out_of_the_page_and_ends_the_session(browser: Any, site: Site) -> None:
    answer(site)
    with visiting(browser, site.url) as visit:
        visit.expected.append("401")
        visit.open()
        sign_in(visit)
        visit.wait_for("Ada Ørsted")
        token = visit.page.evaluate("JSON.parse(sessionStorage.getItem('carrel-session')).token")
        visit.page.get_by_role("button", name="Sign out").click()
        visit.page.get_by_role("button", name="Sign in").wait_for()
        assert "scoring" not in visit.page.content()
        assert "Ørsted" not in visit.page.content()
        assert visit.page.evaluate("sessionStorage.length + localStorage.length") == 0
        refused = site.device.client.get("/v1/me", headers={"Authorization": f"Bearer {token}"})
        assert refused.status_code == 401


def test_a_reload_keeps_the_student_signed_in_and_a_new_window_does_not(browser: Any, site: Site) -> None:
    with visiting(browser, site.url) as visit:
        visit.open()
        sign_in(visit)
        visit.wait_for("Ada Ørsted")
        visit.page.reload()
        visit.wait_for("Ada Ørsted")
    with visiting(browser, site.url) as other:
        other.open()
        other.page.get_by_role("button", name="Sign in").wait_for()
        assert "Ørsted" not in other.page.content()


def test_whoever_leaves_the_machine_is_signed_out_though_the_page_stays_open(browser: Any, site: Site) -> None:
    with visiting(browser, site.url) as visit:
        visit.own_clock()
        visit.open()
        sign_in(visit)
        visit.wait_for("Ada Ørsted")
        asked: list[str] = []
        visit.page.on("request", lambda request: asked.append(request.url))
        visit.page.clock.fast_forward("14:00")
        assert not [url for url in asked if url.endswith("/pages/student")], "the page does not use a session that nobody uses"
        visit.page.clock.fast_forward("01:10")
        visit.wait_for("You were signed out, because this page was not used for a while.")
        assert "Ørsted" not in visit.page.content()


def test_a_wrong_pin_is_said_in_words_and_after_three_the_page_says_how_long_to_wait(browser: Any, site: Site) -> None:
    with visiting(browser, site.url) as visit:
        visit.expected += ["403", "429"]
        visit.open()
        for _ in range(3):
            with visit.page.expect_response("**/v1/sessions"):
                sign_in(visit, pin="0000")
            visit.wait_for("The name or the PIN is wrong.")
        with visit.page.expect_response("**/v1/sessions") as answered:
            sign_in(visit)
        assert answered.value.status == 429
        assert visit.page.get_by_role("alert").inner_text() == answered.value.json()["detail"]
        assert "Ørsted" not in visit.page.content()


def test_a_student_without_a_pin_is_sent_to_a_teacher_even_where_apps_may_do_without(browser: Any, site: Site) -> None:
    with visiting(browser, site.url) as visit:
        visit.expected.append("403")
        visit.open()
        sign_in(visit, pin="4711", name="ben")
        visit.wait_for("No PIN is set for this student on this device: a teacher sets one.")
    assert site.device.rows("SELECT 1 FROM student_sessions WHERE student_id = ?", BEN) == []


def test_sync_now_says_what_came_of_it(browser: Any, site: Site) -> None:
    answer(site)
    with visiting(browser, site.url) as visit:
        visit.open()
        sign_in(visit)
        visit.page.get_by_role("button", name="Sync now").click()
        visit.wait_for("The school cannot be reached. Everything is kept here.")
        visit.wait_for("The next attempt comes")


def test_an_answer_that_the_school_did_not_take_is_shown_to_its_student_in_plain_words(browser: Any, site: Site) -> None:
    answer(site)
    site.device.execute(
        "UPDATE sync_operations SET state = 'rejected', code = 'unknown_reference', message = 'The question is not known at school.',"
        " settled_at_ms = ? WHERE op_no = 1",
        START_MS,
    )
    with visiting(browser, site.url) as visit:
        visit.open()
        sign_in(visit)
        visit.wait_for("Not taken by the school")
        refused = visit.page.get_by_role("region", name="Not taken by the school").inner_text()
        assert "An answer, just now" in refused
        assert "The question is not known at school." in refused
        assert "unknown_reference" not in refused
        assert visit.grave_findings() == []


@pytest.mark.parametrize(
    ("viewport", "scheme"), [(PHONE, "dark"), ({"width": 1100, "height": 800}, "light")], ids=["phone, dark", "desk, light"]
)
def test_axe_finds_nothing_grave_and_nothing_is_wider_than_the_window(
    browser: Any, site: Site, viewport: dict[str, int], scheme: str
) -> None:
    answer(site, 6)
    site.device.signed_in().post("/plan")
    with visiting(browser, site.url, viewport=viewport, color_scheme=scheme, reduced_motion="reduce") as visit:
        visit.open()
        assert visit.grave_findings() == []
        assert visit.overflow_px() <= 0
        sign_in(visit)
        visit.wait_for("Where you stand")
        assert visit.grave_findings() == []
        assert visit.overflow_px() <= 0


def test_dark_is_dark(browser: Any, site: Site) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        with visiting(browser, site.url, color_scheme=scheme) as visit:
            visit.open()
            rgb = visit.page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
            grounds.append(sum(rgb))
    assert grounds[0] > 600
    assert grounds[1] < 150


def test_everything_can_be_done_by_keyboard_and_the_focus_is_always_seen(browser: Any, site: Site) -> None:
    answer(site)
    with visiting(browser, site.url) as visit:
        visit.open()
        visit.page.get_by_role("button", name="Sign in").wait_for()
        keyboard = visit.page.keyboard

        def focused() -> tuple[str, bool]:
            """What has the focus, and whether it has an outline."""
            name, style = visit.page.evaluate(
                "() => { const e = document.activeElement; return [(e.name || e.textContent).trim(), getComputedStyle(e).outlineStyle]; }"
            )
            return str(name), style != "none"

        stops = []
        for _ in range(5):
            keyboard.press("Tab")
            stops.append(focused())
        assert stops == [("Skip to the content", True), ("Carrel", True), ("username", True), ("pin", True), ("Sign in", True)]
        keyboard.press("Shift+Tab")
        keyboard.press("Shift+Tab")
        keyboard.type("ada")
        keyboard.press("Tab")
        keyboard.type(PIN)
        keyboard.press("Enter")
        visit.wait_for("Ada Ørsted")
        visit.has_focus("button", "Sync now")
        keyboard.press("Tab")
        assert focused() == ("Sign out", True)
        keyboard.press("Enter")
        visit.has_focus("textbox", "Name")


def test_a_change_of_the_sentence_is_read_out_and_nothing_else(browser: Any, site: Site) -> None:
    with visiting(browser, site.url) as visit:
        visit.own_clock()
        visit.open()
        site.device.execute("UPDATE sync_progress SET last_contact_ms = ?", START_MS - DAY_MS)
        with visit.page.expect_response("**/pages/status"):
            visit.pass_time(6_000)
        visit.wait_for("24 h ago")
        assert visit.page.locator("[data-announce]").inner_text() == ""
        answer(site)
        visit.pass_time(6_000)
        visit.is_announced("Your work is safe on this device, and on its way to school.")


def test_names_that_look_like_html_stay_names(browser: Any, site: Site) -> None:
    hostile = "<img src=x onerror=alert(1)><b>Ada</b>"
    site.device.execute("UPDATE users SET display_name = ? WHERE id = ?", hostile, ADA)
    site.device.execute("UPDATE concepts SET title = ?", "<script>alert(2)</script>")
    answer(site)
    with visiting(browser, site.url) as visit:
        visit.open()
        sign_in(visit)
        visit.wait_for(hostile)
        assert "<script>alert(2)</script>" in visit.text()
        assert visit.page.locator("main img, main script").count() == 0
