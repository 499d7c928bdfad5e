"""Enrolment: a one-time code becomes a device of a school."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version

from daemon.gateway import CloudGateway
from daemon.identity.device import REVOKED_FILE, DeviceIdentity, Identity
from daemon.identity.keys import make_keys
from daemon.tls import with_key
from domain.errors import CloudUnreachable, Forbidden, InvalidConfig, InvalidInput, NotEnrolled, Problem
from domain.wire import EnrolAnswer, EnrolRequest

# The cloud API's code for a one-time code that it does not take.
ENROLMENT_REFUSED = "enrolment_refused"


class Enrolment:
    """Redeems codes. `on_enrolled` is called afterwards, so that the first sync does not wait for the next poll."""

    def __init__(
        self, identity: Identity, gateway_for: Callable[[str], CloudGateway], on_enrolled: Callable[[], None] = lambda: None
    ) -> None:
        self._identity = identity
        self._gateway_for = gateway_for
        self._on_enrolled = on_enrolled

    def current(self) -> DeviceIdentity | None:
        """The identity, or None on a device that was never enrolled."""
        return self._identity.current()

    def revoked_at_s(self) -> float | None:
        """When the order of a device that the school has revoked was noted, by the file system's clock; None on one that is not revoked."""
        with suppress(FileNotFoundError):
            return (self._identity.state_dir / REVOKED_FILE).stat().st_mtime
        return None

    def enrol(self, cloud_url: str, code: str, name: str) -> DeviceIdentity:
        """Enrols this device with the server at `cloud_url`. No lock and no transaction is held while the server is asked.

        A code may name the server's key, CODE#KEY: from then on nothing is sent to a server with another one. Raises InvalidInput for an address or key
        that may not be used, CloudUnreachable when the server cannot be reached, Forbidden
        (`enrolment_refused`) when it does not take the code, and Conflict for a device that holds data of another school.
        """
        cloud_url, code = with_key(cloud_url, code)
        try:
            gateway = self._gateway_for(cloud_url)
        except InvalidConfig as error:
            problems = [Problem(f"$.{p.path}", p.code, f"The server's address {p.message}.") for p in error.problems]
            raise InvalidInput(problems) from error
        keys = make_keys()
        asked = EnrolRequest(code, name, app_version(), keys.public_verify, keys.public_seal, self._present_token(cloud_url))
        identity = self._identity.adopt(_redeem(gateway, asked), cloud_url, keys)
        self._on_enrolled()
        return identity

    def _present_token(self, cloud_url: str) -> str:
        """The token of this device, by which its server knows what it was before; for that very server alone, empty where there is none."""
        present = self._identity.current()
        if present is None or present.cloud_url != cloud_url:
            return ""
        with suppress(NotEnrolled):  # the token's file is missing, which is why it is enrolled again
            return self._identity.token()
        return ""


def _redeem(gateway: CloudGateway, request: EnrolRequest) -> EnrolAnswer:
    try:
        return gateway.enrol(request)
    except CloudUnreachable as error:
        if error.remote_code == ENROLMENT_REFUSED:
            raise Forbidden(
                "The school's server does not take this code: it is wrong, used up or expired.", code=ENROLMENT_REFUSED
            ) from error
        raise


def app_version() -> str:
    try:
        return version("carrel")
    except PackageNotFoundError:
        return "unversioned"
