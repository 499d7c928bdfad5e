"""The school's server behind nginx and behind Caddy, as docs/examples configures them: what passes, what does not, and who is believed."""

from __future__ import annotations

import http.client
import os
import re
import secrets
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import urllib3

from cloud_api.access import tries
from cloud_api.access.accounts import set_password
from cloud_api.access.doorkeeper import SECURE_COOKIE, csrf_token
from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import Grant
from cloud_api.embedded import DatabaseServer
from daemon.gateway import HttpGateway
from domain.bodies import BODY_BYTES_MAX
from domain.errors import CloudUnreachable
from domain.ids import Id
from domain.wire import EnrolRequest, PushRequest
from tests.chaos.processes import free_port, wait_until
from tests.support.certificates import Made, make
from tests.support.cloud import SchoolBuilder, migrated_template
from tests.support.fleet import Fleet, SyncedDevice, migrated_file, running_fleet
from tests.support.postgres import temporary_database
from tests.support.proxies import HOST, Proxy, proxy, why_not

START_MAX_S, END_MAX_S, TIMEOUT_S = 60.0, 60.0, 20.0
PASSWORD = "correct horse"
# Addresses of this machine: one that asks from outside, and what it pretends to be.
OUTSIDE, PRETENDED = "127.0.0.2", "203.0.113.9"
RELOADS = 3
KINDS = [pytest.param(kind, marks=pytest.mark.skipif(bool(why_not(kind)), reason=str(why_not(kind)))) for kind in ("nginx", "caddy")]


@dataclass(frozen=True)
class Site:
    """A server, its proxy, the school in it, and the certificate that the proxy shows."""

    server: Server
    proxy: Proxy
    school: SchoolBuilder
    fleet: Fleet
    authority: Made
    certificate: Made

    @property
    def pinned_url(self) -> str:
        return f"{self.proxy.url}#{self.certificate.key_name}"

    def http(self) -> urllib3.PoolManager:
        return urllib3.PoolManager(ca_certs=str(self.authority.path), retries=False, timeout=TIMEOUT_S)

    def ask_as_outsider(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
        """(status, headers) of a request from `OUTSIDE`."""
        context = ssl.create_default_context(cafile=str(self.authority.path))
        connection = http.client.HTTPSConnection(HOST, self.proxy.port, timeout=TIMEOUT_S, source_address=(OUTSIDE, 0), context=context)
        with closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}


class Server:
    """`carrel-cloud serve` at an address that stays the same."""

    def __init__(self, url: str, folder: Path) -> None:
        self.port, self.database_url, self._log = free_port(), url, folder / "cloud.log"
        self.start()

    def start(self) -> None:
        environ = {
            "DATABASE_URL": self.database_url,
            "CARREL_CLOUD_SERVER_TRUSTED_PROXIES": "127.0.0.1",
            "CARREL_CLOUD_SERVER_TRUSTED_HOSTS": f"{HOST},127.0.0.1",
        }
        command = [sys.executable, "-m", "cloud_api.cli", "serve", "--no-migrate", "--port", str(self.port), "--workers", "1"]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, env=os.environ | environ, stdout=subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], START_MAX_S)[0], "the server never said where it listens"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(END_MAX_S)
        assert self._process.stdout is not None
        self._process.stdout.close()


@pytest.fixture(scope="module", params=KINDS)
def site(request: pytest.FixtureRequest, postgres: DatabaseServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp(request.param)
    authority = make(folder / "authority.pem")
    certificate = make(folder / "server.pem", issuer=authority, host=HOST)
    with (
        migrated_template(postgres) as template,
        temporary_database(postgres, template) as url,
        closing(CloudDatabase(url)) as database,
        _served(url, folder) as server,
        proxy(request.param, server.port, certificate.path, folder) as in_front,
    ):
        school = SchoolBuilder.build(database)
        with running_fleet(school, f"{in_front.url}#{certificate.key_name}", folder) as fleet:
            yield Site(server, in_front, school, fleet, authority, certificate)


@contextmanager
def _served(url: str, folder: Path) -> Iterator[Server]:
    server = Server(url, folder)
    try:
        yield server
    finally:
        server.stop()


def test_a_device_enrols_sends_and_fetches_through_it_by_the_key_of_its_code_and_by_an_issuer(site: Site, tmp_path: Path) -> None:
    ada = site.school.add_user(f"ada-{secrets.token_hex(4)}").id
    for url, ca_file in ((site.pinned_url, None), (site.proxy.url, site.authority.path)):
        with closing(HttpGateway(url, ca_file)) as gateway:
            enrolled = gateway.enrol(EnrolRequest(site.school.code(Grant("student", ada)), "lab 2"))
            assert enrolled.school_id == site.school.id
    folder = tmp_path / "device"
    folder.mkdir()
    shutil.copyfile(migrated_file(), folder / "device.sqlite3")
    device = site.fleet.open(folder, enrolled)
    assert device.sync().outcome == "done"
    device.records.record_attempts(ada, site.fleet.attempts(500))
    result = device.sync()
    assert (result.outcome, result.pushed) == ("done", 500)
    other = site.fleet.device(Grant("student", ada))
    assert other.sync().outcome == "done"
    assert other.value("SELECT count(*) FROM question_attempts") == 500


def _device_of(site: Site, student: Id) -> SyncedDevice:
    """One that has the course."""
    device = site.fleet.device(Grant("student", student))
    assert device.sync().outcome == "done"
    return device


def test_without_the_issuer_and_with_another_key_it_is_not_trusted(site: Site) -> None:
    for url in (site.proxy.url, f"{site.proxy.url}#{site.authority.key_name}"):
        with closing(HttpGateway(url)) as gateway, pytest.raises(CloudUnreachable) as caught:
            gateway.head("no token", None)
        assert caught.value.reason == "untrusted"


def test_the_largest_batch_passes_and_a_larger_one_does_not(site: Site) -> None:
    token = site.school.enrol(Grant("student", site.school.add_user(f"ada-{secrets.token_hex(4)}").id)).token
    with closing(HttpGateway(site.pinned_url)) as gateway:
        answers = []
        for size in (BODY_BYTES_MAX, BODY_BYTES_MAX + 1_000):
            with pytest.raises(CloudUnreachable) as caught:
                _send_raw(gateway, token, secrets.token_bytes(size))
            answers.append((caught.value.http_status, caught.value.reason))
    assert answers[0] == (400, "refused"), "the server has read it, and it is no batch"
    # The server hangs up on what is too large, and Caddy may find that before it finds the answer. No device sends so much.
    assert answers[1] in [(413, "too_large"), *([(502, "server_error")] if site.proxy.kind == "caddy" else [])]


def _send_raw(gateway: HttpGateway, token: str, body: bytes) -> None:
    """Sends bytes as they are in the place of a push."""
    headers = {"Content-Type": "application/json", "Content-Encoding": "zstd", "Authorization": f"Bearer {token}"}
    gateway._read(gateway._request("POST", "/v1/sync/push", body, headers, urllib3.Timeout(30)), PushRequest)


def test_behind_a_proxy_with_a_small_limit_batches_become_small_enough(site: Site, tmp_path: Path) -> None:
    if site.proxy.kind != "nginx":
        pytest.skip("docs/examples/Caddyfile sets no limit")
    ada = site.school.add_user(f"ada-{secrets.token_hex(4)}").id
    with proxy(site.proxy.kind, site.server.port, site.certificate.path, tmp_path, body_bytes_max="4k") as narrow:
        fleet = replace(site.fleet, url=f"{narrow.url}#{site.certificate.key_name}", tmp_path=tmp_path)
        device = fleet.device(Grant("student", ada))
        assert device.sync().outcome == "done"
        device.records.record_attempts(ada, fleet.attempts(500))
        result = device.sync()
        assert (result.outcome, result.pushed, result.rejected) == ("done", 500, 0)
    with proxy(site.proxy.kind, site.server.port, site.certificate.path, tmp_path, body_bytes_max="10") as hopeless:
        device.records.record_attempts(ada, fleet.attempts(3))
        device.database.close()
        again = replace(fleet, url=f"{hopeless.url}#{site.certificate.key_name}").open(device.folder)
        assert again.sync().outcome == "too_large"
        status = again.rounds.status()
        assert (status.state, status.pending, status.rejected) == ("waiting", 3, 0)
    again.database.close()
    raised = site.fleet.open(device.folder).sync()
    assert (raised.outcome, raised.pushed, raised.rejected) == ("done", 3, 0), "nothing was set aside for a proxy's limit"


def test_a_body_that_comes_slowly_passes(site: Site) -> None:
    context = ssl.create_default_context(cafile=str(site.authority.path))
    with (
        closing(socket.create_connection((HOST, site.proxy.port), TIMEOUT_S)) as plain,
        context.wrap_socket(plain, server_hostname=HOST) as sock,
    ):
        body = b'{"code": "0000-0000-0000"}'
        head = f"POST /v1/devices/enrol HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode())
        for byte in body:
            sock.sendall(bytes([byte]))
            time.sleep(0.05)
        assert sock.recv(100).startswith(b"HTTP/1.1 403 ")


def test_wrong_passwords_count_for_the_address_that_the_proxy_sees_and_the_wait_is_told(site: Site) -> None:
    grace = _staff(site, "teacher")
    pretence = {
        "X-Forwarded-For": PRETENDED,
        "X-Real-IP": PRETENDED,
        "Forwarded": f"for={PRETENDED}",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "evil.example",
    }
    form = urlencode({"school": site.school.id, "username": grace, "password": "wrong"}).encode()
    sent = pretence | {"Content-Type": "application/x-www-form-urlencoded"}
    statuses = {site.ask_as_outsider("POST", "/pages/sign-in", form, sent)[0] for _ in range(5)}
    assert statuses == {403}
    counted = {address for address in (OUTSIDE, PRETENDED, "127.0.0.1") if _tries_of(site, address)}
    assert counted == {OUTSIDE}
    body = f'{{"school": "{site.school.id}", "username": "{grace}", "password": "wrong"}}'.encode()
    for _ in range(2):
        status, headers = site.ask_as_outsider("POST", "/v1/sessions", body, pretence | {"Content-Type": "application/json"})
    assert (status, headers["retry-after"].isdigit()) == (429, True)


def _tries_of(site: Site, address: str) -> bool:
    return site.school.value("SELECT failures FROM wrong_tries WHERE key = %s", tries.by_address(address).key) is not None


def _staff(site: Site, role: str) -> str:
    username = f"{role}-{secrets.token_hex(4)}"
    site.school.add_user(username, role)
    set_password(site.school.database, site.school.clock, site.school.ids, site.school.id, username, PASSWORD)
    return username


def test_nobody_but_the_proxy_is_believed(site: Site) -> None:
    """From another address of this machine the server's own port takes a client's word for nothing."""
    grace = _staff(site, "teacher")
    connection = http.client.HTTPConnection("127.0.0.1", site.server.port, timeout=TIMEOUT_S, source_address=("127.0.0.3", 0))
    with closing(connection):
        body = f'{{"school": "{site.school.id}", "username": "{grace}", "password": "wrong"}}'
        sent = {"Content-Type": "application/json", "X-Forwarded-For": "203.0.113.10", "X-Forwarded-Proto": "https"}
        connection.request("POST", "/v1/sessions", body, sent)
        assert connection.getresponse().status == 403
    assert {address for address in ("127.0.0.3", "203.0.113.10") if _tries_of(site, address)} == {"127.0.0.3"}


def test_pages_keep_their_session_in_a_cookie_of_this_host_alone_and_refuse_other_sites(site: Site) -> None:
    admin = _staff(site, "admin")
    url = site.proxy.url
    with site.http() as http:
        page = http.request("GET", f"{url}/pages/sign-in")
        assert (page.status, page.headers["X-Frame-Options"]) == (200, "DENY")
        assert "default-src" in page.headers["Content-Security-Policy"]
        assert "max-age" in page.headers["Strict-Transport-Security"]
        form = {"school": site.school.id, "username": admin, "password": PASSWORD}
        assert _submit(http, f"{url}/pages/sign-in", form, {"Origin": "https://evil.example"}).status == 403
        own = {"Origin": url, "Sec-Fetch-Site": "same-origin"}
        started = _submit(http, f"{url}/pages/sign-in", form, own)
        assert started.status == 303
        [cookie] = [text for text in started.headers.getlist("Set-Cookie") if text.startswith(f"{SECURE_COOKIE}=")]
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= {part.strip() for part in cookie.split(";")}
        token = re.split("[=;]", cookie)[1]
        carried = own | {"Cookie": f"{SECURE_COOKIE}={token}"}
        assert http.request("GET", f"{url}/pages/fleet", headers=carried).status == 200
        assert _submit(http, f"{url}/pages/sign-out", {}, carried).status == 403
        assert _submit(http, f"{url}/pages/sign-out", {"csrf_token": csrf_token(token)}, carried).status == 303


def _submit(http: urllib3.PoolManager, url: str, form: dict[str, str], headers: dict[str, str]) -> urllib3.BaseHTTPResponse:
    sent = headers | {"Content-Type": "application/x-www-form-urlencoded"}
    return http.request("POST", url, body=urlencode(form), headers=sent, redirect=False)


def test_figures_are_for_this_machine_and_not_for_those_who_come_through_the_proxy(site: Site) -> None:
    with site.http() as http:
        for headers in ({}, {"X-Forwarded-For": "127.0.0.1"}):
            refused = http.request("GET", f"{site.proxy.url}/metrics", headers=headers)
            assert (refused.status, b"carrel_cloud_" in refused.data) == (403, False)
        assert b"carrel_cloud_" in http.request("GET", f"http://127.0.0.1:{site.server.port}/metrics").data


def test_whoever_comes_without_tls_is_sent_on_to_it(site: Site) -> None:
    with site.http() as http:
        sent_on = http.request("GET", f"http://127.0.0.1:{site.proxy.plain_port}/pages/sign-in", headers={"Host": HOST}, redirect=False)
    assert sent_on.status in (301, 308)
    assert sent_on.headers["Location"].startswith(f"https://{HOST}")


def test_a_renewed_certificate_is_taken_up_and_no_request_is_dropped(site: Site) -> None:
    ada = site.school.add_user(f"ada-{secrets.token_hex(4)}").id
    device = _device_of(site, ada)
    sent, failures = [0], list[str]()

    def study() -> None:
        device.records.record_attempts(ada, site.fleet.attempts(5))
        result = device.sync()
        sent[0] += result.pushed
        if result.outcome != "done":
            failures.append(f"{result.outcome}: {result.message}")

    def look() -> None:
        with closing(HttpGateway(site.pinned_url)) as gateway, pytest.raises(CloudUnreachable) as caught:
            gateway.head("no token", None)
        if caught.value.reason != "unauthorised":
            failures.append(str(caught.value))

    seen = {_serial(site)}
    with _repeating(study, failures), _repeating(look, failures):
        for _ in range(RELOADS):
            make(site.certificate.path, issuer=site.authority, key=site.certificate.key, host=HOST)
            site.proxy.reload()
            wait_until(lambda: _serial(site) not in seen, "the new certificate is shown")
            seen.add(_serial(site))
    assert failures == []
    assert sent[0] > 0
    assert site.school.value("SELECT count(*) FROM question_attempts WHERE student_id = %s", ada) == sent[0]


def _serial(site: Site) -> bytes:
    """The certificate that is shown now, as bytes."""
    return ssl.get_server_certificate((HOST, site.proxy.port), timeout=TIMEOUT_S).encode()


@contextmanager
def _repeating(act: Callable[[], Any], failures: list[str]) -> Iterator[None]:
    """Does it again and again in a thread of its own, until the block ends; at least once after it began."""
    ended = threading.Event()

    def run() -> None:
        try:
            while not ended.is_set():
                act()
        except Exception as error:  # a thread's failure is the test's  # noqa: BLE001
            failures.append(repr(error))

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(END_MAX_S)


def test_while_the_server_is_away_devices_wait_and_then_go_on(site: Site) -> None:
    ada = site.school.add_user(f"ada-{secrets.token_hex(4)}").id
    device = _device_of(site, ada)
    device.records.record_attempts(ada, site.fleet.attempts(10))
    site.server.stop()
    try:
        assert device.sync().outcome == "server_error"
        status = device.rounds.status()
        assert (status.state, status.pending) == ("waiting", 10)
    finally:
        site.server.start()
    assert device.sync().outcome == "done"


def test_of_several_servers_one_may_be_away(site: Site, tmp_path: Path) -> None:
    """Each is stopped in turn, as when all get a new version. What it was about to answer at that moment may have to be sent again."""
    if site.proxy.kind != "nginx":
        pytest.skip("docs/examples/Caddyfile names one server")
    ada = site.school.add_user(f"ada-{secrets.token_hex(4)}").id
    with (
        _served(site.server.database_url, tmp_path) as other,
        proxy("nginx", site.server.port, site.certificate.path, tmp_path, other_port=str(other.port)) as in_front,
    ):
        fleet = replace(site.fleet, url=f"{in_front.url}#{site.certificate.key_name}", tmp_path=tmp_path)
        device = fleet.device(Grant("student", ada))
        assert device.sync().outcome == "done"
        outcomes: list[str] = []
        turns = [act for server in (other, site.server) for act in (server.stop, server.start)]
        with _repeating(lambda: outcomes.append(_sent_one(device, ada, fleet)), outcomes):
            for act in turns:
                act()
        assert len([outcome for outcome in outcomes if outcome != "done"]) <= len(turns) // 2, outcomes
        assert device.sync().outcome == "done"
    answers = site.school.value("SELECT count(*) FROM question_attempts WHERE student_id = %s", ada)
    assert answers == len(outcomes) == device.value("SELECT count(*) FROM question_attempts")


def _sent_one(device: SyncedDevice, student: Id, fleet: Fleet) -> str:
    """What became of a round with one answer more."""
    device.records.record_attempts(student, fleet.attempts(1))
    return str(device.sync().outcome)
