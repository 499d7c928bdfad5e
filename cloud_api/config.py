"""The server's configuration: the table `[cloud]` of config.toml, overridden by `CARREL_CLOUD_*`, and DATABASE_URL.

The database's address holds a password, so it is never a key of config.toml: it comes from the environment or from a command's option.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from domain import settings
from domain.errors import InvalidConfig, OperatorError, Problem
from domain.settings import setting

SECTION = "cloud"
DATABASE_URL_VARIABLE = "DATABASE_URL"
# The file's place for programs that take no option, such as a WSGI server.
CONFIG_VARIABLE = "CARREL_CONFIG"


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def networks(texts: Sequence[str]) -> list[Network]:
    """Addresses and networks as such. Raises ValueError."""
    return [ipaddress.ip_network(text.strip()) for text in texts]


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach a listener there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _networks_problem(texts: list[str]) -> str | None:
    try:
        networks(texts)
    except ValueError:
        return "must be addresses or networks like 10.0.0.5 or 10.0.0.0/24"
    return None


def _proxies_problem(texts: list[str]) -> str | None:
    try:
        found = networks(texts)
    except ValueError:
        return "must be addresses or networks like 10.0.0.5 or 10.0.0.0/24"
    return "must not be everybody" if any(network.prefixlen == 0 for network in found) else None


@dataclass(frozen=True)
class Server:
    """How the cloud API listens: processes of threads, since every request mostly waits for PostgreSQL."""

    host: str = setting("127.0.0.1", "Address to listen on; another than a loopback address needs [cloud.tls] or trusted_proxies.")
    port: int = setting(8751, "Port to listen on; 0 takes any free one.", minimum=0, maximum=65_535)
    workers: int = setting(2, "Processes.", minimum=1, maximum=64)
    threads: int = setting(16, "Threads of each process: requests that it answers at the same time.", minimum=1, maximum=64)
    arrives_max_s: float = setting(
        60.0, "How long a request may take to arrive; the slowest link must get a batch through in it.", unit="s", minimum=1, maximum=3600
    )
    graceful_stop_s: int = setting(30, "How long requests in flight may take to finish at a stop.", unit="s", minimum=1, maximum=600)
    poll_after_s: float = setting(30.0, "How often devices are asked to poll while they are few.", unit="s", minimum=1, maximum=3600)
    polls_per_s: float = setting(
        20.0, "Polls that all devices together shall make a second: with more devices each is asked to poll less often.",
        unit="1/s", minimum=0.1, maximum=10_000,
    )  # fmt: skip
    token_requests_per_s: float = setting(
        50.0, "Requests that one token may make of one process, ten seconds' worth of them at once; beyond it is answered 429.",
        unit="1/s", minimum=1, maximum=10_000,
    )  # fmt: skip
    first_syncs_max: int = setting(8, "Devices that may fetch everything for the first time at the same time.", minimum=1, maximum=1_000)
    trusted_hosts: tuple[str, ...] = setting(
        ("127.0.0.1", "localhost", "[::1]"), "Host names under which the server answers; a name with a leading dot includes its subdomains."
    )

    trusted_proxies: tuple[str, ...] = setting(
        (), "Addresses or networks of the TLS proxies in front; X-Forwarded-For and X-Forwarded-Proto are believed from these alone.",
        check=_proxies_problem,
    )  # fmt: skip
    metrics_from: tuple[str, ...] = setting(
        ("127.0.0.1", "::1"), "Addresses or networks that may read /metrics; never through a proxy.", check=_networks_problem
    )


@dataclass(frozen=True)
class Tls:
    """The server's own certificate."""

    certificate: str = setting("", "The certificate and those that lead to its issuer, PEM; empty: a TLS proxy stands in front.")
    key: str = setting("", "Its key, PEM, without a password; empty: in the file of the certificate.")


@dataclass(frozen=True)
class Database:
    """Connections to PostgreSQL. `server.workers` × `connections_max` must stay under the database server's own max_connections."""

    connections_max: int = setting(30, "Connections that one process opens at most.", minimum=1, maximum=500)
    connections_idle: int = setting(10, "Connections that one process keeps when they are not in use.", minimum=0, maximum=500)
    wait_s: float = setting(
        5.0, "How long a request waits for a free connection before it is answered 503.", unit="s", minimum=0.05, maximum=60
    )
    connect_timeout_s: int = setting(
        5, "How long opening a connection may take, for each host of the address.", unit="s", minimum=2, maximum=60
    )
    statement_timeout_s: int = setting(30, "How long one statement may take.", unit="s", minimum=1, maximum=3600)
    startup_options: bool = setting(
        True,
        "Send time zone and statement time-out when connecting. Turn off for a pgbouncer that refuses them, and set them with ALTER ROLE.",
    )


@dataclass(frozen=True)
class SignIn:
    """Sessions of teachers and administrators."""

    idle_min: int = setting(30, "How long a session lasts without being used.", unit="min", minimum=5, maximum=240)
    absolute_h: int = setting(12, "How long a session lasts in any case.", unit="h", minimum=1, maximum=24)


@dataclass(frozen=True)
class Devices:
    """What devices hold."""

    token_days: int = setting(
        90, "How old a device's token may be before the device is asked to renew it.", unit="days", minimum=1, maximum=36_500
    )


@dataclass(frozen=True)
class Figures:
    """Class figures, which are kept up after pushes."""

    after_push_s: float = setting(3.0, "How long no push must come before what has come is counted.", unit="s", minimum=0.1, maximum=600)


@dataclass(frozen=True)
class Retention:
    """How long what `carrel-cloud tidy` lets go of is kept."""

    tombstones_days: int = setting(
        180, "How long deletions are remembered; a device that was away for longer fetches everything again.",
        unit="days", minimum=90, maximum=36_500,
    )  # fmt: skip
    codes_days: int = setting(30, "How long an enrolment code is kept after it has expired.", unit="days", minimum=0, maximum=36_500)
    incarnations_kept: int = setting(20, "Lives of its log that are kept of each device.", minimum=2, maximum=10_000)
    audit_days: int = setting(1_095, "How long entries of the audit log are kept.", unit="days", minimum=90, maximum=36_500)
    retired_students_days: int = setting(
        0,
        "A student who left the school so long ago is erased, here and on every device; 0: never.",
        unit="days",
        minimum=0,
        maximum=36_500,
    )
    answers_days: int = setting(
        0,
        "What was answered so long ago is let go of, here and on every device; 0: never. That it was answered, and whether rightly, stays.",
        unit="days",
        minimum=0,
        maximum=36_500,
    )
    devices_silent_days: int = setting(730, "A device that was not seen for so long is revoked.", unit="days", minimum=30, maximum=36_500)


@dataclass(frozen=True)
class CloudConfig:
    """Everything that can be set on the server."""

    server: Server = field(default_factory=Server)
    tls: Tls = field(default_factory=Tls)
    database: Database = field(default_factory=Database)
    sign_in: SignIn = field(default_factory=SignIn)
    devices: Devices = field(default_factory=Devices)
    figures: Figures = field(default_factory=Figures)
    retention: Retention = field(default_factory=Retention)
    embedded_dir: str = setting("", "Folder of the embedded PostgreSQL's data for --embedded; empty: the user's data folder.")
    erasures_file: str = setting(
        "",
        "The register of erasures, outside the database; keep it where the backups are. Empty: erasures.jsonl in the user's data folder.",
    )
    log_level: str = setting("info", "How much is logged.", choices=("debug", "info", "warning", "error"))
    log_format: str = setting("text", "text: time level name message key=value; json: one object a line.", choices=("text", "json"))


def load_config(toml_path: Path | None, environ: Mapping[str, str]) -> CloudConfig:
    """The configuration from the file (None: the file that CARREL_CONFIG names, or none) and the environment, which wins.

    Raises InvalidConfig with every problem found.
    """
    if toml_path is None and (named := environ.get(CONFIG_VARIABLE)):
        toml_path = Path(named)
    return settings.load(CloudConfig, section=SECTION, toml_path=toml_path, environ=environ)


def demand_protected(config: CloudConfig) -> None:
    """Raises OperatorError for a server that would carry tokens and answers over a network in the clear."""
    if is_loopback(config.server.host) or config.tls.certificate or config.server.trusted_proxies:
        return
    raise OperatorError(
        f"The server does not listen on {config.server.host} without TLS: name a certificate in [cloud.tls], or the TLS proxies in front of it in"
        " cloud.server.trusted_proxies."
    )


def erasures_path(config: CloudConfig) -> Path:
    """Where the register of erasures lies."""
    if config.erasures_file:
        return Path(config.erasures_file).expanduser().absolute()
    from platformdirs import user_data_path  # here, because a server is told its place

    return user_data_path("carrel", appauthor=False) / "erasures.jsonl"


def withdrawals_path(config: CloudConfig) -> Path:
    """Where the register of withdrawals lies: beside that of erasures."""
    return erasures_path(config).with_name("withdrawals.jsonl")


def database_url(environ: Mapping[str, str]) -> str:
    """The address of the school's database. Raises InvalidConfig when DATABASE_URL is not set."""
    url = environ.get(DATABASE_URL_VARIABLE, "")
    if not url:
        problem = Problem(
            DATABASE_URL_VARIABLE, "missing_field", "is not set: give the address of a PostgreSQL database, or use --embedded"
        )
        raise InvalidConfig("The environment", [problem])
    return url
