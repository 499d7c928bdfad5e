"""Compressed pages: smaller, and of a length that says nothing about the page's secret."""

from __future__ import annotations

import gzip
import random

from flask import Flask, Response

from cloud_api.pages.compression import COMPRESS_FROM_BYTES, compressed, gzipped

SECRET = "0f3a9c5577d1e2b84a6c0d9f1b2e3a4c5d6e7f8091a2b3c4d5e6f708192a3b4c"
PAGE = f'<input name="csrf_token" value="{SECRET}">' + "<p>twelve answers about fractions</p>" * 100


def asked(accepts: str | None, text: str = PAGE, secret: str = "") -> Response:
    headers = {} if accepts is None else {"Accept-Encoding": accepts}
    with Flask("test").test_request_context("/", headers=headers):
        return compressed(Response(text), secret)


def test_whoever_takes_gzip_gets_it_and_nobody_else() -> None:
    small = asked("br, gzip;q=0.8", secret=SECRET)
    assert small.content_encoding == "gzip"
    assert gzip.decompress(small.get_data()).decode() == PAGE
    assert len(small.get_data()) < len(PAGE) / 5
    for accepts in (None, "br", "gzip;q=0", "identity"):
        plain = asked(accepts)
        assert plain.content_encoding is None, accepts
        assert plain.get_data(as_text=True) == PAGE, accepts
        assert "Accept-Encoding" in plain.headers["Vary"]


def test_what_fits_into_a_packet_is_sent_as_it_is() -> None:
    assert asked("gzip", "x" * (COMPRESS_FROM_BYTES - 1)).content_encoding is None


def test_a_guess_of_the_secret_beside_it_makes_the_page_no_shorter_than_any_other_guess() -> None:
    draw = random.Random(3)
    right, wrong = SECRET[:32], "".join(draw.choice("0123456789abcdef") for _ in range(32))

    def lengths(secret: bytes) -> tuple[int, int]:
        pages = [f"<i>{guess}</i>{PAGE}<b>{guess}</b>".encode() for guess in (right, wrong)]
        sizes = [len(gzipped(page, secret)) for page in pages]
        return sizes[0], sizes[1]

    leaking, kept = lengths(b""), lengths(SECRET.encode())
    assert leaking[1] - leaking[0] >= 10, "the guess that is right is told by the length, or this test shows nothing"
    assert abs(kept[1] - kept[0]) <= 2, "but for how well the guesses themselves compress"


def test_a_secret_that_stands_at_the_ends_twice_or_nowhere_comes_out_whole() -> None:
    for text in (SECRET, SECRET + PAGE + SECRET, PAGE.replace(SECRET, ""), ""):
        assert gzip.decompress(gzipped(text.encode(), SECRET.encode())).decode() == text
