"""The school's server as this machine sees it: whether it is reached, proves who it is, and has the same time.

Besides daemon/gateway.py the only module that leaves the machine; it sends no token and no answer of anybody.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import SplitResult, urlsplit

from daemon import tls
from daemon.config import DeviceConfig
from daemon.doctor.contents import reading
from daemon.gateway import check_url
from daemon.identity.instance import identity_row
from daemon.sentences import span
from domain.clock import Clock
from domain.errors import CloudUnreachable, InvalidConfig
from domain.findings import Finding, Severity

CONNECT_MAX_S = 10.0
DAY_S = 24 * 3600
# A certificate that ends sooner than this should have been renewed; those of Let's Encrypt are, with thirty days left.
CERTIFICATE_MIN_DAYS = 14
# Answers get their right time anyway; beyond this somebody should set the clock.
CLOCK_OFFSET_MAX_S = 120
ANSWER_BYTES_MAX = 64 * 1024


def server(config: DeviceConfig, clock: Clock) -> Iterator[Finding]:
    """Connects once, as a sync round would, and asks whether the server is well."""
    with reading(config) as conn:
        identity = identity_row(conn) if conn else None
    url = str(identity["cloud_url"]) if identity else config.cloud_url
    if not url:
        yield Finding("server", Severity.NOTE, "No school's server is known here yet.")
        return
    try:
        check_url(url)
    except InvalidConfig as error:
        yield Finding("server", Severity.ERROR, error.message, "enrol the device again with the right address")
        return
    try:
        yield from _looked_at(config, url, clock)
    except CloudUnreachable as error:
        remedy = "set the clock" if error.reason == "clock_wrong" else 'see docs/errors.md, "Reasons"; do not work around it'
        yield Finding("certificate", Severity.ERROR, error.message, remedy)
    except (OSError, http.client.HTTPException, ValueError) as error:
        what = f"{url} is not reached: {getattr(error, 'strerror', None) or error}."
        yield Finding("server", Severity.WARNING, what, "nothing, without a network: everything is kept; otherwise check the address")


def _looked_at(config: DeviceConfig, url: str, clock: Clock) -> Iterator[Finding]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)
    with socket.create_connection((host, port), CONNECT_MAX_S) as plain:
        if parts.scheme == "http":
            yield from _asked(plain, parts, clock)
            return
        keys = tls.keys_of(url)
        context = tls.context_for(tls.Trust(keys, tls.ca_file(config.settings.ca_file, config.state_dir)))
        try:
            with context.wrap_socket(plain, server_hostname=host) as secured:
                if keys:
                    tls.demand_key(secured, keys)
                yield _certificate(secured, clock, known_key=bool(keys))
                yield from _asked(secured, parts, clock)
        except ssl.SSLError as error:
            raise tls.unproved(error) from error


def _certificate(secured: ssl.SSLSocket, clock: Clock, *, known_key: bool) -> Finding:
    found = secured.getpeercert() or {}
    ends = found.get("notAfter")
    if known_key or not isinstance(ends, str):
        return Finding("certificate", Severity.OK, "The server has the key that came with the enrolment code.")
    left_s = ssl.cert_time_to_seconds(ends) - clock.now_ms() / 1000
    if left_s < CERTIFICATE_MIN_DAYS * DAY_S:
        told = f"The server's certificate ends in {span(left_s)}: devices stop syncing then."
        return Finding("certificate", Severity.WARNING, told, "the school renews it")
    return Finding("certificate", Severity.OK, f"The server's certificate is valid for {span(left_s)} more.")


def _asked(sock: socket.socket, url: SplitResult, clock: Clock) -> Iterator[Finding]:
    """Asks over the open connection."""
    host = url.netloc.rpartition("@")[2]
    sock.settimeout(CONNECT_MAX_S)
    sock.sendall(
        f"GET {url.path.rstrip('/')}/readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nAccept: application/json\r\n\r\n".encode()
    )
    response = http.client.HTTPResponse(sock)
    try:
        response.begin()
        response.read(ANSWER_BYTES_MAX)
        status, date = response.status, response.getheader("Date", "")
    finally:
        response.close()
    if status == 200:
        yield Finding("server", Severity.OK, f"{host} answers, and is ready.")
    else:
        what = f"{host} answers, and is not ready ({status})."
        yield Finding("server", Severity.WARNING, what, "its administrator looks at `carrel-cloud doctor`; everything is kept here")
    if date:
        offset_s = clock.now_ms() / 1000 - parsedate_to_datetime(date).timestamp()
        if abs(offset_s) > CLOCK_OFFSET_MAX_S:
            told = f"This machine's clock is {span(abs(offset_s))} {'ahead of' if offset_s > 0 else 'behind'} the server's."
            yield Finding("clock", Severity.WARNING, told, "set the clock (timedatectl set-ntp true)")
        else:
            yield Finding("clock", Severity.OK, "This machine and the server have the same time.")
