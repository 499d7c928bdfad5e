"""Where a request comes from is what a proxy of the school's own says, and what nobody else can write into it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cloud_api.config import CloudConfig, Server, Tls, load_config
from cloud_api.serving.forwarding import Forwarding
from domain.errors import InvalidConfig

PROXIES = ("10.0.0.0/24", "2001:db8::5")


def arrived(config: CloudConfig, peer: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """(status, what the application was told) of a request from `peer`."""
    told: dict[str, Any] = {}
    statuses: list[str] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        told.update(environ)
        start_response("200 OK", [])
        return [b""]

    environ = {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http"} | {
        f"HTTP_X_FORWARDED_{name.upper()}": value for name, value in headers.items()
    }
    body = b"".join(Forwarding(app, config)(environ, lambda status, _headers: statuses.append(status)))
    if body:
        assert json.loads(body)["code"] == "not_over_tls"
    return int(statuses[0][:3]), {name: told.get(name) for name in ("REMOTE_ADDR", "wsgi.url_scheme")} if told else {}


def behind(host: str = "0.0.0.0") -> CloudConfig:
    return CloudConfig(server=Server(host=host, trusted_proxies=PROXIES))


@pytest.mark.parametrize(
    ("peer", "said", "address"),
    [
        ("10.0.0.7", "203.0.113.9", "203.0.113.9"),
        ("::ffff:10.0.0.7", "203.0.113.9", "203.0.113.9"),
        ("2001:db8::5", "2001:db8:1::2", "2001:db8:1::2"),
        ("10.0.0.7", "127.0.0.1, 203.0.113.9, 10.0.0.8", "203.0.113.9"),
        ("10.0.0.7", "127.0.0.1, nonsense, 10.0.0.8", "10.0.0.7"),
        ("10.0.0.7", "", "10.0.0.7"),
    ],
)
def test_a_proxy_of_ours_is_believed_as_far_as_it_can_know(peer: str, said: str, address: str) -> None:
    assert arrived(behind(), peer, **{"for": said}, proto="https") == (200, {"REMOTE_ADDR": address, "wsgi.url_scheme": "https"})


def test_nobody_else_is_believed_and_on_a_network_nobody_else_is_answered() -> None:
    lies = {"for": "10.0.0.7", "proto": "https", "host": "evil.example"}
    assert arrived(behind(), "203.0.113.9", **lies) == (403, {})
    assert arrived(behind("127.0.0.1"), "127.0.0.1", **lies) == (200, {"REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http"})
    assert arrived(behind(), "10.0.0.7", **{"for": "203.0.113.9"}, proto="http") == (403, {}), "it came to the proxy in the clear"


def test_with_a_certificate_of_its_own_everybody_is_answered_and_it_is_tls() -> None:
    config = CloudConfig(server=Server(host="0.0.0.0"), tls=Tls("server.pem"))
    assert arrived(config, "203.0.113.9", **{"for": "10.0.0.7"}) == (200, {"REMOTE_ADDR": "203.0.113.9", "wsgi.url_scheme": "https"})


@pytest.mark.parametrize("proxies", ["0.0.0.0/0", "::/0", "proxy.example", "10.0.0.300"])
def test_everybody_is_no_proxy(proxies: str) -> None:
    with pytest.raises(InvalidConfig, match="TRUSTED_PROXIES"):
        load_config(None, {"CARREL_CLOUD_SERVER_TRUSTED_PROXIES": proxies})
