"""The way between device and server: who proves what to whom, and what happens when somebody cannot."""

from __future__ import annotations

import ast
import os
import secrets
import select
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import pytest
import urllib3
from click.testing import CliRunner

from cloud_api.cli import main
from cloud_api.config import CloudConfig, Server, Tls
from cloud_api.database import CloudDatabase
from cloud_api.serve import CloudServer
from cloud_api.serving.tls import own_key_name
from daemon import service
from daemon.config import load_config
from daemon.durable_file import replace_json
from daemon.gateway import HttpGateway
from daemon.identity import revocation
from daemon.identity.device import REVOKED_FILE
from daemon.tls import with_key
from domain.errors import CloudUnreachable, InvalidConfig, OperatorError
from domain.server_key import grouped, key_name, read_name
from domain.wire import EnrolRequest
from tests.support.certificates import Made, make
from tests.support.cloud import SchoolBuilder

ROOT = Path(__file__).parents[3]
START_TIMEOUT_S = 60
TIMEOUT_S = 20.0
TOKEN = "a-token-that-nobody-holds"


@contextmanager
def serving(database_url: str, *, certificate: Path | None = None, **settings: str) -> Iterator[tuple[str, int]]:
    """(scheme, port) of `carrel-cloud serve`."""
    environ = {"DATABASE_URL": database_url, "CARREL_CLOUD_SERVER_ARRIVES_MAX_S": "1", "CARREL_CLOUD_SERVER_THREADS": "2"}
    environ |= {"CARREL_CLOUD_TLS_CERTIFICATE": str(certificate)} if certificate else {}
    environ |= {f"CARREL_CLOUD_SERVER_{name.upper()}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "cloud_api.cli", "serve", "--port", "0", "--workers", "1"]
    with subprocess.Popen(command, env=os.environ | environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], START_TIMEOUT_S)[0], "the server never said where it listens"
            line = process.stdout.readline()
            yield line.split()[-1].partition(":")[0], int(line.rpartition(":")[2])
        finally:
            process.terminate()
            process.wait(START_TIMEOUT_S)


@pytest.fixture
def authority(tmp_path: Path) -> Made:
    return make(tmp_path / "authority.pem")


def reason(url: str, ca: Path | None = None) -> str:
    """What comes of asking a server: the reason that `status` would show."""
    with closing(HttpGateway(url, ca)) as gateway, pytest.raises(CloudUnreachable) as caught:
        gateway.head(TOKEN, None)
    return caught.value.reason


def test_a_device_and_a_server_with_a_certificate_understand_each_other(cloud_database: str, tmp_path: Path, authority: Made) -> None:
    server = make(tmp_path / "server.pem", issuer=authority)
    with serving(cloud_database, certificate=server.path) as (scheme, port):
        assert scheme == "https"
        url = f"https://127.0.0.1:{port}"
        assert reason(url) == "untrusted", "this machine does not know the authority"
        assert reason(url, authority.path) == "unauthorised", "it is reached, and does not know the token"
        assert reason(f"{url}#{server.key_name}") == "unauthorised"
        assert reason(f"{url}#{authority.key_name}") == "untrusted"
        assert reason(f"{url}#{authority.key_name},{grouped(server.key_name).lower()}") == "unauthorised", "the present key or the next"
        with urllib3.PoolManager(ca_certs=str(authority.path)) as http:
            large = http.request("POST", f"{url}/v1/devices/enrol", json={"code": "x" * 3_000_000}, timeout=TIMEOUT_S, retries=False)
            assert large.status in (403, 413, 422)
            assert http.request("GET", f"{url}/healthz", timeout=TIMEOUT_S, retries=False).status == 200


def test_nothing_older_than_tls_1_2_is_spoken_and_nothing_in_the_clear(cloud_database: str, tmp_path: Path) -> None:
    server = make(tmp_path / "server.pem")
    with serving(cloud_database, certificate=server.path) as (_, port):
        old = ssl.create_default_context(cafile=str(server.path))
        with pytest.warns(DeprecationWarning):
            old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
        with closing(socket.create_connection(("127.0.0.1", port), TIMEOUT_S)) as sock, pytest.raises((ssl.SSLError, OSError)):
            old.wrap_socket(sock, server_hostname="127.0.0.1")
        with closing(socket.create_connection(("127.0.0.1", port), TIMEOUT_S)) as sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            answer = b""
            with suppress(ConnectionResetError):
                while received := sock.recv(1000):
                    answer += received
            assert b"HTTP/1.1 2" not in answer


def test_clients_that_never_shake_hands_do_not_keep_the_threads(cloud_database: str, tmp_path: Path) -> None:
    server = make(tmp_path / "server.pem")
    with serving(cloud_database, certificate=server.path) as (_, port):
        stuck = [socket.create_connection(("127.0.0.1", port), TIMEOUT_S) for _ in range(4)]
        for sock in stuck:
            sock.sendall(b"\x16\x03\x01")  # the beginning of a handshake
        try:
            assert reason(f"https://127.0.0.1:{port}#{server.key_name}") == "unauthorised"
        finally:
            for sock in stuck:
                sock.close()


def test_a_renewed_certificate_is_taken_up_without_a_stop_and_its_key_keeps_its_name(cloud_database: str, tmp_path: Path) -> None:
    path = tmp_path / "server.pem"
    first = make(path)
    with serving(cloud_database, certificate=path) as (_, port):
        url = f"https://127.0.0.1:{port}"
        assert reason(f"{url}#{first.key_name}") == "unauthorised"
        renewed = make(path, key=first.key)
        assert reason(url, renewed.path) == "unauthorised", "the new certificate is in use"
        assert reason(f"{url}#{first.key_name}") == "unauthorised"
        other = make(path)
        assert reason(f"{url}#{first.key_name}") == "untrusted"
        path.write_text("nonsense")
        assert reason(f"{url}#{other.key_name}") == "unauthorised", "files that are none leave the one of before"


@contextmanager
def pretending(made: Made) -> Iterator[tuple[str, list[bytes]]]:
    """A TLS server that says nothing, and the bytes that it was sent inside the connection."""
    context, heard = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), list[bytes]()
    context.load_cert_chain(made.path)
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    sock, _ = listening.accept()
                    with sock, suppress(OSError), context.wrap_socket(sock, server_side=True) as secured:
                        secured.settimeout(TIMEOUT_S)
                        heard.append(secured.recv(1000))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"https://127.0.0.1:{listening.getsockname()[1]}", heard
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_not_a_byte_is_sent_to_a_server_that_is_not_the_one(tmp_path: Path, authority: Made) -> None:
    server = make(tmp_path / "server.pem", issuer=authority)
    other = make(tmp_path / "other.pem", issuer=authority)
    elsewhere = make(tmp_path / "elsewhere.pem", issuer=authority, host="127.0.0.2")
    with pretending(other) as (url, heard):
        assert reason(f"{url}#{server.key_name}", authority.path) == "untrusted", "an authority does not make up for the key"
        assert reason(url) == "untrusted"
    with pretending(elsewhere) as (url, also_heard):
        assert reason(url, authority.path) == "untrusted"
    assert b"".join([*heard, *also_heard]) == b""


def test_a_wiped_device_tells_the_school_whose_issuer_its_configuration_names(tmp_path: Path, authority: Made) -> None:
    server = make(tmp_path / "server.pem", issuer=authority)
    settings = {"CARREL_DEVICE_STATE_DIR": str(tmp_path), "CARREL_DEVICE_CA_FILE": str(authority.path)}
    with pretending(server) as (url, heard):
        replace_json(tmp_path / REVOKED_FILE, asdict(revocation.Order(revocation.WIPE, url, TOKEN, wiped=True)))
        service._wipe_if_ordered(load_config(None, settings))
        assert any(b"/v1/devices/obeyed" in said for said in heard)
        service._wipe_if_ordered(load_config(None, settings | {"CARREL_DEVICE_CA_FILE": str(tmp_path / "gone.pem")}))
    assert revocation.noted(tmp_path) is not None


def test_a_server_that_hangs_up_in_the_middle_of_a_body_is_still_known(tmp_path: Path) -> None:
    """As proxies do with a body that is too large: the device must not say that somebody else is there."""
    server = make(tmp_path / "server.pem")
    with (
        pretending(server) as (url, _),
        closing(HttpGateway(f"{url}#{server.key_name}")) as gateway,
        pytest.raises(CloudUnreachable) as caught,
    ):
        gateway.enrol(EnrolRequest(secrets.token_hex(4_000_000)))
    assert caught.value.reason == "bad_answer"


@pytest.mark.parametrize(("from_days", "to_days", "state"), [(2, 30, "clock_wrong"), (-30, -2, "certificate_expired")])
def test_a_wrong_clock_is_told_from_a_stranger_and_does_not_matter_where_the_key_is_known(
    tmp_path: Path, authority: Made, from_days: int, to_days: int, state: str
) -> None:
    server = make(tmp_path / "server.pem", issuer=authority, from_days=from_days, to_days=to_days)
    with pretending(server) as (url, heard):
        assert reason(url, authority.path) == state
        assert heard in ([], [b""])
        assert reason(f"{url}#{server.key_name}") == "bad_answer", "it was spoken with"
    assert any(TOKEN.encode() in said for said in heard)


def test_a_code_brings_the_name_of_the_key_to_the_address() -> None:
    name = "0123456789ABCDEFGHJKMNPQRS"
    assert with_key("https://school.example", f" KQ4M-7TXD-2PFH#{grouped(name)} ") == (
        f"https://school.example#{grouped(name)}",
        "KQ4M-7TXD-2PFH",
    )
    assert with_key("https://school.example", "KQ4M") == ("https://school.example", "KQ4M")
    assert read_name(grouped(name).lower().replace("0", "o")) == name
    for wrong in ("https://school.example#nonsense", "https://school.example#" + ",".join([name] * 3)):
        with pytest.raises(InvalidConfig):
            HttpGateway(wrong)


@pytest.mark.parametrize("damage", [b"", b"\x30", b"\x30\x82\xff\xff", b"\x30\x03\x30\x01\x00", bytes(500)])
def test_what_is_no_certificate_has_no_key(damage: bytes) -> None:
    with pytest.raises(ValueError, match="certificate"):
        key_name(damage)


def test_the_name_of_the_key_is_that_of_rfc_7469(tmp_path: Path) -> None:
    import hashlib

    from cryptography.hazmat.primitives import serialization

    made = make(tmp_path / "server.pem")
    info = made.key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    expected = f"{int.from_bytes(hashlib.sha256(info).digest(), 'big'):0256b}"[:130]
    assert "".join(f"{'0123456789ABCDEFGHJKMNPQRSTVWXYZ'.index(c):05b}" for c in made.key_name) == expected
    assert own_key_name(Tls(str(made.path))) == made.key_name
    assert own_key_name(Tls()) is None


def test_the_codes_of_a_server_with_a_certificate_end_with_the_name_of_its_key(cloud_database: str, tmp_path: Path) -> None:
    made = make(tmp_path / "server.pem")
    database = CloudDatabase(cloud_database)
    try:
        school = SchoolBuilder.build(database)
        school.add_user("ada")
    finally:
        database.close()
    arguments = ["enrol-code", "create", "--school", school.id, "--student", "ada"]
    environ = {"DATABASE_URL": cloud_database}
    with_key_ = CliRunner().invoke(main, arguments, env=environ | {"CARREL_CLOUD_TLS_CERTIFICATE": str(made.path)}, catch_exceptions=False)
    without = CliRunner().invoke(main, arguments, env=environ, catch_exceptions=False)
    assert with_key_.output.strip().partition("#")[2] == grouped(made.key_name)
    assert "#" not in without.output


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "school.example"])
def test_the_server_does_not_listen_to_a_network_in_the_clear(host: str, tmp_path: Path) -> None:
    with pytest.raises(OperatorError, match="TLS"):
        CloudServer(CloudConfig(server=Server(host=host)), "postgresql://nowhere/none")
    CloudServer(CloudConfig(server=Server(host=host, trusted_proxies=("10.0.0.5",))), "postgresql://nowhere/none")
    CloudServer(CloudConfig(server=Server(host=host), tls=Tls(str(make(tmp_path / "server.pem").path))), "postgresql://nowhere/none")


def test_there_is_no_switch_that_turns_the_proof_off() -> None:
    """The one context without a chain is that for known keys, in daemon/tls.py, which are looked at before anything is sent."""
    found = []
    for package in ("domain", "daemon", "cloud_api", "devstack"):
        for path in sorted((ROOT / package).rglob("*.py")):
            source = path.read_text("utf-8")
            words = (
                "CERT_NONE",
                "CERT_OPTIONAL",
                "check_hostname",
                "assert_hostname",
                "cert_reqs",
                "verify_mode",
                "_create_unverified_context",
            )
            names = {node.attr for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Attribute)}
            names |= {node.arg or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.keyword)}
            found += [(path.relative_to(ROOT).as_posix(), word) for word in words if word in names]
    assert found == [("daemon/tls.py", "CERT_NONE"), ("daemon/tls.py", "check_hostname"), ("daemon/tls.py", "verify_mode")]
    config = (ROOT / "config.toml").read_text("utf-8").lower()
    assert not any(word in config for word in ("insecure", "skip_verify", "verify ="))
