"""The teachers' pages on paper: what a class of forty fills, and what every sheet says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.pages.classrooms import ClassSite, class_site
from tests.support.classroom import Given
from tests.support.cloud import SchoolBuilder
from tests.support.paper import ACROSS_PX, UPRIGHT_PX, cut_off, heading_of, sheets

# The head of a table, as many glyphs of it as no row of students begins with.
HEAD_GLYPHS = 20


@pytest.fixture
def forty(cloud_school: SchoolBuilder) -> Iterator[ClassSite]:
    """Forty students, twenty topics, 27 concepts."""
    with class_site(cloud_school) as site:
        site.fill()
        room = site.room
        room.publish_topics([f"topic {n}" for n in range(18)])
        room.publish_concepts("fractions", [f"part {n} of a whole that is not one" for n in range(5)])
        answers = []
        for n in range(34):
            room.ids[f"s{n}"] = room.school.add_user(f"s{n}", "student", ["7b"]).id
            answers += [Given(f"s{n}", f"topic {(n + k) % 18}-0", 1 + k / 10, k > 1, "41") for k in range(4)]
            answers += [Given(f"s{n}", "halves-0", 0.9 - k / 10, False, "41") for k in range(4)]
        room.answer(answers)
        yield site


def test_a_class_of_forty_is_printed_with_class_date_and_headings_on_every_sheet_and_nothing_cut_off(
    browser: Any, forty: ClassSite
) -> None:
    with forty.visit(browser, color_scheme="dark") as visit:
        page = visit.page
        visit.open(forty.path)
        assert "40 students, 20 topics." in visit.text()
        assert len(sheets(page)) == 1, "the heat map is looked at as a whole"
        assert cut_off(page, UPRIGHT_PX) == []
        assert not page.get_by_role("link", name="By name").is_visible()
        assert page.get_by_role("heading", name="7b").is_visible()
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert colour == "rgb(255, 255, 255)", "paper is light, whatever the screen"

        visit.open(forty.path + "/practice")
        printed = sheets(page)
        assert len(printed) > 1
        heading = heading_of(printed)
        assert len(heading) // 4 == len("7b · 5 Jan 2026, 12:00 UTC" + "Page ")
        below = len(heading) // 4 + len(f"2 of {len(printed)}")
        assert printed[1][below * 4 : (below + HEAD_GLYPHS) * 4] in printed[0], "the second sheet begins with the head of the table"
        assert cut_off(page, UPRIGHT_PX) == []

        visit.open(forty.path + "?as=table")
        assert cut_off(page, ACROSS_PX) == []
        visit.open(forty.path + "?as=table&by=concepts")
        assert cut_off(page, UPRIGHT_PX) == []
        assert page.get_by_text("27 concepts are more columns than fit on paper").is_visible()
        for path in ("?by=concepts", "/help", "/questions", forty.student_path("ben").removeprefix(forty.path)):
            visit.open(forty.path + path)
            assert cut_off(page, UPRIGHT_PX) == [], path
        assert heading_of([*sheets(page), *printed]).startswith(heading), "of one student too"
