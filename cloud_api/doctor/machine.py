"""The programs and the process on this machine, the certificate, and the backups."""

from __future__ import annotations

import http.client
import importlib.metadata
import platform
import re
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

from cloud_api.backups.making import SUFFIX
from cloud_api.config import CloudConfig
from domain.clock import Clock
from domain.errors import OperatorError
from domain.findings import Finding, Severity
from migrations.backup import MB
from migrations.dump import Client
from migrations.engines import Limits, PostgresEngine

ANSWER_MAX_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024
DAY_MS = 24 * 3600 * 1000
# A night may be missed; after a week devices have let go of what only the last backup holds (docs/backup.md).
BACKUP_WARN_MS, BACKUP_ERROR_MS = int(1.5 * DAY_MS), 7 * DAY_MS
# PostgreSQL's machine, or whichever makes backups, may be ahead of this one by so much.
AHEAD_MAX_MS = 5 * 60 * 1000
CERTIFICATE_MIN_DAYS = 14
LOCAL_NAMES = ("127.0.0.1", "localhost", "[::1]")


def versions() -> Iterator[Finding]:
    try:
        version = importlib.metadata.version("carrel")
    except importlib.metadata.PackageNotFoundError:
        version = "unversioned"
    yield Finding("versions", Severity.OK, f"Carrel {version}, Python {platform.python_version()}")


def listener(config: CloudConfig, clock: Clock) -> Iterator[Finding]:
    """Whether the server answers on this machine, under a name that devices can use, with a certificate that is still valid."""
    server = config.server
    public = [name.lstrip(".") for name in server.trusted_hosts if name not in LOCAL_NAMES]
    local = [name for name in server.trusted_hosts if name in LOCAL_NAMES]
    try:
        with socket.create_connection((_reachable(server.host), server.port), ANSWER_MAX_S) as plain:
            if config.tls.certificate and public:
                with _trusting(config.tls.certificate).wrap_socket(plain, server_hostname=public[0]) as secured:
                    yield _certificate(secured, clock)
                    yield _answer(secured, config, public[0])
            elif config.tls.certificate:
                yield Finding("listener", Severity.OK, f"The server listens on {server.host}:{server.port}.")
            else:
                yield _answer(plain, config, next(iter(local or public), "localhost"))
    except ssl.SSLError as error:
        what = f"The server cannot prove who it is: {getattr(error, 'verify_message', None) or error.reason}."
        yield Finding("certificate", Severity.ERROR, what, "renew the certificate; a renewed one is taken up by itself")
    except (OSError, http.client.HTTPException) as error:
        what = f"Nothing answers on {server.host}:{server.port}: {getattr(error, 'strerror', None) or type(error).__name__}."
        yield Finding("listener", Severity.ERROR, what, "systemctl start carrel-cloud, as root, or `carrel-cloud serve`")
    if not public:
        what = "The server answers only under names of this machine (cloud.server.trusted_hosts)."
        yield Finding("listener", Severity.WARNING, what, "add the name that devices use, then restart the server")


def _trusting(certificate: str) -> ssl.SSLContext:
    """A context that knows the server by the very certificate it is configured with."""
    context = ssl.create_default_context(cafile=certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _certificate(secured: ssl.SSLSocket, clock: Clock) -> Finding:
    ends = str((secured.getpeercert() or {})["notAfter"])
    told = f"The certificate ends on {ends}."
    if (ssl.cert_time_to_seconds(ends) * 1000 - clock.now_ms()) / DAY_MS < CERTIFICATE_MIN_DAYS:
        return Finding("certificate", Severity.WARNING, told, "renew it; a renewed one is taken up by itself")
    return Finding("certificate", Severity.OK, told)


def _answer(sock: socket.socket, config: CloudConfig, host: str) -> Finding:
    """Asks whether the server is ready, over the open connection."""
    connection = http.client.HTTPConnection(host, config.server.port)
    connection.sock = sock
    connection.request("GET", "/readyz", headers={"Host": host, "Connection": "close"})
    answer = connection.getresponse()
    answer.read(ANSWER_BYTES_MAX)
    if answer.status == 200:
        return Finding("listener", Severity.OK, f"The server answers on {config.server.host}:{config.server.port}, and is ready.")
    return Finding("listener", Severity.ERROR, f"The server answers, and is not ready ({answer.status}).", "see what follows, and its log")


def tools(url: str) -> Iterator[Finding]:
    """Whether a pg_dump is here that can read the server."""
    engine = PostgresEngine(url, Limits())
    engine.connect()
    try:
        found = Client.of(engine)
    except OperatorError as error:
        yield Finding(
            "tools", Severity.ERROR, f"No backup can be made: {error.message}", "install postgresql-client of the server's version or newer"
        )
        return
    finally:
        engine.close()
    yield Finding("tools", Severity.OK, f"pg_dump and pg_restore are in {found.tools}.")


def backups(folder: Path, clock: Clock, make: Callable[[], object] | None = None) -> Iterator[Finding]:
    """Whether the newest backup in the folder is not too old; `make` makes one there."""
    if not folder.is_dir():
        what = f"There is no folder {folder}, so it cannot be told whether there are backups."
        yield Finding("backups", Severity.WARNING, what, "--backups names the folder; carrel-cloud-backup.timer makes them")
        return
    found = [(made_ms, file) for file in folder.iterdir() if (made_ms := _made_ms(file)) is not None]
    # One from the future, of a clock that ran ahead, says nothing of the last nights.
    made_ms, newest = max((one for one in found if one[0] <= clock.now_ms() + AHEAD_MAX_MS), default=(None, None))
    if made_ms is None or newest is None:
        yield Finding(
            "backups",
            Severity.ERROR,
            f"There is no backup in {folder}.",
            f"`carrel-cloud backup {folder}`, every night; --fix makes one",
            make,
        )
        return
    age_ms = clock.now_ms() - made_ms
    told = f"The newest backup is {newest.name}, {newest.stat().st_size / MB:.1f} MB, {age_ms / DAY_MS:.1f} days old."
    if age_ms > BACKUP_ERROR_MS:
        yield Finding(
            "backups",
            Severity.ERROR,
            told,
            "see why carrel-cloud-backup.service fails; devices keep what is in no backup for 60 days. --fix makes one",
            make,
        )
    elif age_ms > BACKUP_WARN_MS:
        yield Finding("backups", Severity.WARNING, told, "see why carrel-cloud-backup.service fails; --fix makes one", make)
    else:
        yield Finding("backups", Severity.OK, told)


def _made_ms(file: Path) -> int | None:
    match = re.fullmatch(rf".+\.(\d{{8}}T\d{{9}}Z){re.escape(SUFFIX)}", file.name)
    if not match:
        return None
    return int(datetime.strptime(match[1], "%Y%m%dT%H%M%S%fZ").replace(tzinfo=UTC).timestamp() * 1000)


def _reachable(host: str) -> str:
    """An address to ask, where the server listens on all."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}.get(host, host)
