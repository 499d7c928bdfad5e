"""Behind a proxy: who a request really comes from, and whether it came over TLS, as the proxy says, and nobody else.

`X-Forwarded-For` and `X-Forwarded-Proto` are believed from the addresses in `cloud.server.trusted_proxies` and dropped from all others. A server that listens
to a network without a certificate of its own answers nobody but these proxies, and what came to them without TLS it refuses.
"""

from __future__ import annotations

import ipaddress
import logging
import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from cloud_api.config import CloudConfig, is_loopback, networks
from cloud_api.problems import CONTENT_TYPE, problem_body
from domain.errors import Forbidden

log = logging.getLogger("carrel.cloud")

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
# In the WSGI environment: whether a proxy says that it only hands the request on.
THROUGH_PROXY = "carrel.through_proxy"
_TRACES = ("HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO", "HTTP_X_FORWARDED_HOST", "HTTP_X_REAL_IP", "HTTP_FORWARDED", "HTTP_VIA")
_FOR, _PROTO = "HTTP_X_FORWARDED_FOR", "HTTP_X_FORWARDED_PROTO"
_REFUSED = Forbidden("This server is reached over TLS only.", code="not_over_tls")


class Forwarding:
    """An application that hears the truth about where a request comes from."""

    def __init__(self, app: Wsgi, config: CloudConfig) -> None:
        self._app = app
        self._proxies = networks(config.server.trusted_proxies)
        self._has_tls = bool(config.tls.certificate)
        self._open = self._has_tls or is_loopback(config.server.host)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ[THROUGH_PROXY] = any(name in environ for name in _TRACES)
        for name in [name for name in environ if name.startswith("HTTP_X_FORWARDED_") and name not in (_FOR, _PROTO)]:
            del environ[name]
        forwarded_for, proto = environ.pop(_FOR, ""), environ.pop(_PROTO, "")
        if self._has_tls:
            environ["wsgi.url_scheme"] = "https"
        if self._is_proxy(environ.get("REMOTE_ADDR", "")):
            environ["REMOTE_ADDR"] = self._client(forwarded_for) or environ["REMOTE_ADDR"]
            scheme = proto.rpartition(",")[2].strip().lower()
            environ["wsgi.url_scheme"] = scheme if scheme in ("http", "https") else environ["wsgi.url_scheme"]
            if not self._open and scheme != "https":
                return _refuse(start_response)
        elif not self._open:
            return _refuse(start_response)
        return self._app(environ, start_response)

    def _is_proxy(self, address: str) -> bool:
        return is_within(address, self._proxies)

    def _client(self, forwarded_for: str) -> str | None:
        """The last address that no proxy of ours has: what stands before it anybody may have written."""
        for text in reversed(forwarded_for.split(",")):
            address = text.strip()
            try:
                ipaddress.ip_address(address)
            except ValueError:
                return None
            if not self._is_proxy(address):
                return address
        return None


def is_within(address: str, among: Sequence[ipaddress.IPv4Network | ipaddress.IPv6Network]) -> bool:
    """Whether an address is one of these, in either form of an IPv4 address."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in network for network in among if network.version == found.version)


def _refuse(start_response: Callable[..., Any]) -> Iterable[bytes]:
    log.info("a request without TLS was refused")
    body = problem_body(_REFUSED.status, _REFUSED.code, "This is not allowed here.", _REFUSED.message, secrets.token_hex(8))
    start_response("403 Forbidden", [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(body))), ("Cache-Control", "no-store")])
    return [body]
