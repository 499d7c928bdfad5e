"""The server's own certificate: TLS 1.2 and newer, read again when its files change, and the name that devices know its key by.

A certificate that is renewed is taken up by the next connection, without a restart; files that do not fit together are reported, and the certificate of
before goes on.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from pathlib import Path

from cloud_api.config import Tls
from domain.errors import OperatorError
from domain.server_key import key_name

log = logging.getLogger("carrel.cloud")

MINIMUM = ssl.TLSVersion.TLSv1_2


class Certificate:
    """The context for new connections. Raises OperatorError when there is none to begin with."""

    def __init__(self, settings: Tls) -> None:
        self._settings = settings
        self._reading = threading.Lock()
        self._seen = self._stamp()
        self._context = _load(settings)

    def context(self) -> ssl.SSLContext:
        """The context of the files as they are now."""
        with self._reading:
            if (now := self._stamp()) != self._seen:
                self._seen = now
                try:
                    self._context = _load(self._settings)
                    log.info("the certificate was read again")
                except OperatorError as error:
                    log.error("the certificate of before goes on: %s", error.message)  # the sentence says it all
            return self._context

    def _stamp(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_identity(path) for path in (self._settings.certificate, self._settings.key or self._settings.certificate))


def own_key_name(settings: Tls) -> str | None:
    """The name of the server's key, for devices to know it by; None where the server has no certificate of its own. Raises OperatorError."""
    if not settings.certificate:
        return None
    _load(settings)
    try:
        text = Path(settings.certificate).read_text("ascii")
        first = text[text.index(_BEGIN) : text.index(_END) + len(_END)]
        return key_name(ssl.PEM_cert_to_DER_cert(first))
    except (OSError, ValueError) as error:
        raise OperatorError(f"The certificate {settings.certificate} cannot be read.") from error


_BEGIN, _END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def _load(settings: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = MINIMUM
    try:
        context.load_cert_chain(settings.certificate, settings.key or None, password=_no_password)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        what = getattr(error, "reason", None) or getattr(error, "strerror", None) or "it is none"
        raise OperatorError(f"The certificate {settings.certificate} cannot be used with its key: {what}.") from error
    return context


def _no_password() -> str:
    raise ValueError("the key is locked with a password")


def _identity(path: str) -> tuple[int, int, int] | None:
    """What tells a file from the one of before, also when it was put in its place in the same moment."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
