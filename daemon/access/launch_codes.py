"""How a web page comes to a token without having one in its address, its files or its storage.

Whoever may speak for the app asks for a launch code and opens the page with it. The page exchanges the code for a token, once, and keeps that in
memory. Both live in this process only: a restart ends them, and the page is opened anew.
"""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass

from daemon.access.apps import OWN_APP, TOKEN_BYTES, App, Apps, token_hash
from domain.clock import Clock
from domain.errors import Forbidden, RateLimited

# From the command to the page's first script.
CODE_LIFE_MS = 60_000
CODES_MAX = 32
# A school day.
PAGE_TOKEN_LIFE_MS = 12 * 3_600_000
PAGE_TOKENS_MAX = 128
_NO_PAGES = "This app has no web pages: it was added without an origin."
_NO_OWN_PAGES = "This account has no web pages: say which app to launch (`carrel app list` names them), or set device.api.allowed_origins."


@dataclass(frozen=True, slots=True)
class _Issued:
    app_id: str
    expires_at_mono_ms: int


class LaunchCodes:
    """One-time codes, and the tokens that pages have got for them. For any thread."""

    def __init__(self, apps: Apps, clock: Clock) -> None:
        self._apps, self._clock = apps, clock
        self._lock = threading.Lock()
        self._codes: dict[str, _Issued] = {}
        self._tokens: dict[str, _Issued] = {}

    def issue(self, app: App) -> str:
        """A code with which one page of this app can get a token. Raises Forbidden for an app without pages, RateLimited beyond CODES_MAX."""
        if not app.origins:
            raise Forbidden(_NO_OWN_PAGES if app.id == OWN_APP else _NO_PAGES)
        code = secrets.token_urlsafe(TOKEN_BYTES)
        with self._lock:
            _forget_old(self._codes, self._clock.monotonic_ms())
            if len(self._codes) >= CODES_MAX:
                raise RateLimited("Too many launch codes are waiting to be used.", CODE_LIFE_MS / 1000)
            self._codes[token_hash(code)] = _Issued(app.id, self._clock.monotonic_ms() + CODE_LIFE_MS)
        return code

    def redeem(self, code: str, origin: str | None) -> tuple[App, str]:
        """The app and a token for the page of this origin. The code is used up, also by a page that it was not meant for.

        Raises Forbidden, without saying whether the code was unknown, old, used, or another origin's.
        """
        with self._lock:
            now_ms = self._clock.monotonic_ms()
            issued = self._codes.pop(token_hash(code), None)
            app = self._apps.get(issued.app_id) if issued and issued.expires_at_mono_ms > now_ms else None
            if app is None or origin not in app.origins:
                raise Forbidden("This launch code is not valid: open the app anew.", "launch_refused")
            _forget_old(self._tokens, now_ms)
            while len(self._tokens) >= PAGE_TOKENS_MAX:
                self._tokens.pop(next(iter(self._tokens)))  # the oldest
            token = secrets.token_urlsafe(TOKEN_BYTES)
            self._tokens[token_hash(token)] = _Issued(app.id, now_ms + PAGE_TOKEN_LIFE_MS)
        return app, token

    def app_of(self, hash_: str) -> App | None:
        """The app for which a page got the token with this hash."""
        issued = self._tokens.get(hash_)
        return self._apps.get(issued.app_id) if issued and issued.expires_at_mono_ms > self._clock.monotonic_ms() else None


def _forget_old(issued: dict[str, _Issued], now_ms: int) -> None:
    for hash_ in [h for h, i in issued.items() if i.expires_at_mono_ms <= now_ms]:
        del issued[hash_]
