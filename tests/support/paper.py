"""What a browser prints, sheet by sheet."""

from __future__ import annotations

import re
import zlib
from itertools import takewhile
from typing import Any

# The room that an A4 sheet leaves between the stylesheet's margins, in CSS pixels: upright, and across.
UPRIGHT_PX, ACROSS_PX = 710, 1039
_STREAM = re.compile(rb"/Contents (\d+) 0 R")
_GLYPHS = re.compile(rb"<([0-9A-F]{4,})> Tj")


def sheets(page: Any) -> list[str]:
    """The glyphs on each sheet that playwright's `page` prints, in the order in which they are drawn, four digits each.

    Which glyph is which letter is the font's affair; but what reads the same and looks the same is equal here.
    """
    pdf = page.pdf(prefer_css_page_size=True, format="A4")
    return ["".join(glyphs.decode() for glyphs in _GLYPHS.findall(_content(pdf, number))) for number in _STREAM.findall(pdf)]


def heading_of(printed: list[str]) -> str:
    """The glyphs with which every one of several sheets begins."""
    same = takewhile(lambda column: len(set(column)) == 1, zip(*(_split(sheet) for sheet in printed), strict=False))
    return "".join(column[0] for column in same)


def cut_off(page: Any, width_px: int) -> list[str]:
    """What is wider than paper of this width, of the page's content as it is laid out for printing."""
    page.set_viewport_size({"width": width_px, "height": 1000})
    page.emulate_media(media="print")
    found = page.evaluate(
        "() => [...document.querySelectorAll('main *:not(.hidden-text *, svg *)')]"
        ".filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.matches('.hidden-text')).map((e) => e.outerHTML.slice(0, 90))"
    )
    return [str(element) for element in found]


def _content(pdf: bytes, number: bytes) -> bytes:
    """A stream of the file, unpacked."""
    found = re.search(rb"\n" + number + rb" 0 obj\n<<.*?/Length (\d+)>> stream\r?\n", pdf, re.DOTALL)
    assert found is not None
    return zlib.decompress(pdf[found.end() : found.end() + int(found[1])])


def _split(glyphs: str) -> list[str]:
    return [glyphs[at : at + 4] for at in range(0, len(glyphs), 4)]
