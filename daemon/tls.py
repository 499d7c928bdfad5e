"""How this device makes sure that it speaks with its school's server. There is no way to have it not make sure.

    https://carrel.school.example          the certificate leads to an issuer that this machine trusts, or to `device.ca_file`, and names the host
    https://carrel.school.example#KEY      the server has that very key, whoever issued its certificate: the name came with the enrolment code
    http://127.0.0.1:8751                  nothing leaves this machine

A known key needs no clock: a device whose battery died in the holidays and that believes to live in 1970 syncs all the same. Without one, a
certificate that is not yet or no longer valid by this device's clock is told apart from one that is somebody else's.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from domain.errors import CloudUnreachable, InvalidConfig, OperatorError, Problem
from domain.server_key import MARK, key_name, read_name

MINIMUM = ssl.TLSVersion.TLSv1_2
# Keys that one address may name: the present one and the next.
KEYS_MAX = 2
# What `carrel enrol --ca` has put into the state folder.
CA_FILE = "server-ca.pem"
# OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED (openssl-verification-options(1)).
_NOT_YET_VALID, _EXPIRED = 9, 10


class Trust(NamedTuple):
    """By what a server is known: names of keys, else a file of issuers, else those of this machine."""

    keys: tuple[str, ...] = ()
    ca_file: Path | None = None


def keys_of(url: str) -> tuple[str, ...]:
    """The names of keys that an address ends with, none mostly. Raises InvalidConfig for what is none."""
    fragment = urlsplit(url).fragment
    try:
        names = tuple(read_name(text) for text in fragment.split(",")) if fragment else ()
    except ValueError as error:
        raise InvalidConfig(
            "The cloud address", [Problem("cloud_url", "invalid", f"must have nothing but the name of a key behind {MARK}")]
        ) from error
    if len(names) > KEYS_MAX:
        raise InvalidConfig("The cloud address", [Problem("cloud_url", "invalid", f"must name at most {KEYS_MAX} keys")])
    return names


def with_key(url: str, code: str) -> tuple[str, str]:
    """(address, code): what a code names behind its mark, as CODE#KEY, belongs to the address."""
    plain, _, key = code.strip().partition(MARK)
    return (f"{url.partition(MARK)[0]}{MARK}{key.strip()}", plain.strip()) if key.strip() else (url, plain.strip())


def ca_file(configured: str, state_dir: Path) -> Path | None:
    """The issuers that this device is to trust instead of the machine's: those of the configuration, else those given when it was enrolled."""
    if configured:
        return Path(configured).expanduser().absolute()
    given = state_dir / CA_FILE
    return given if given.exists() else None


def context_for(trust: Trust) -> ssl.SSLContext:
    """The context for connections. Raises OperatorError when the file of issuers cannot be read."""
    if trust.keys:
        # The key is looked at as soon as there is a connection, before a byte is sent (`demand_key`): issuers, names and dates add nothing.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    else:
        try:
            context = ssl.create_default_context(cafile=str(trust.ca_file) if trust.ca_file else None)
        except (OSError, ValueError) as error:
            raise OperatorError(
                f"{trust.ca_file} is no file of certificates: {getattr(error, 'strerror', None) or 'it cannot be read'}."
            ) from error
    context.minimum_version = MINIMUM
    return context


def demand_key(sock: ssl.SSLSocket, keys: Sequence[str]) -> None:
    """Raises ssl.SSLError unless the server has proved to have one of the keys."""
    certificate = sock.getpeercert(binary_form=True)
    try:
        found = key_name(certificate or b"")
    except ValueError:
        found = ""
    if found not in keys:
        raise ssl.SSLError("the server has another key")


def unproved(error: BaseException) -> CloudUnreachable:
    """What `status` says of a server that has not proved who it is."""
    code = getattr(_verification(error), "verify_code", None)
    if code == _NOT_YET_VALID:
        return CloudUnreachable(
            "clock_wrong",
            "By this device's clock the certificate of the school's server is not valid yet: set the clock. Everything is kept until then.",
        )
    if code == _EXPIRED:
        return CloudUnreachable(
            "certificate_expired",
            "By this device's clock the certificate of the school's server has expired: the clock is wrong, or the school must renew it. Everything is"
            " kept until then.",
        )
    return CloudUnreachable("untrusted", "The school's server could not prove who it is. Everything is kept.")


def _verification(error: BaseException | None) -> BaseException | None:
    """The failed verification behind an error of the library's."""
    while error is not None and not isinstance(error, ssl.SSLCertVerificationError):
        inner = next((part for part in error.args if isinstance(part, BaseException)), None)
        error = inner or error.__cause__ or error.__context__
    return error
