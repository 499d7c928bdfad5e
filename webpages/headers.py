"""The headers of a page: it runs, shows and asks for what its own address serves, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; frame-ancestors 'none'"
)


def page_headers(*, forms: bool = False) -> Mapping[str, str]:
    """Headers for every answer that is HTML. No script or style stands in the page itself; `forms`: it may send forms to its own address.

    A browser that may tell no referrer does not tell a form's origin either, which the server asks for: so pages with forms tell their own site.
    """
    targets = "'self'" if forms else "'none'"
    return {
        "Content-Security-Policy": f"{_POLICY}; form-action {targets}",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "same-origin" if forms else "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
    }


# What a person is told who asks for a page that is not there.
NO_PAGE = "There is no such page here."


def asks_for_page(path: str, accept: str) -> bool:
    """Whether a request for something that is not there is a browser's, which shows what it gets to a person; below /v1/ programs ask."""
    return not path.startswith("/v1/") and "text/html" in accept.lower()
