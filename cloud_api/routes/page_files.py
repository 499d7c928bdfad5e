"""GET /pages/assets/…: the files that pages load, a route for each."""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response

from cloud_api.pages.serving import ASSETS
from webpages.assets import COMMON, Assets, media_of

# A browser asks again after so long; a new version of the server is on every screen within it.
MAX_AGE_S = 300


def page_files_blueprint(*own: Assets) -> Blueprint:
    """The common files and those of `own`."""
    blueprint = Blueprint("page_files", __name__)
    for assets in (COMMON, *own):
        for name in assets.names:
            blueprint.add_url_rule(f"{ASSETS}{name}", name.replace(".", "_"), _given(assets, name), methods=["GET"])
    return blueprint


def _given(assets: Assets, name: str) -> Callable[[], Response]:
    headers = {"Cache-Control": f"max-age={MAX_AGE_S}", "Cross-Origin-Resource-Policy": "same-origin"}
    return lambda: Response(assets.get(name), content_type=f"{media_of(name)}; charset=utf-8", headers=headers)
