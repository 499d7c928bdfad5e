"""pip-audit itself asks services of the two kinds that it knows, on this machine: whatever they answer but "no flaw, about every package" is a failure.

It asks the Package Index at a fixed address over TLS. A proxy on this machine takes every name for its own, with a certificate that an authority of this test
has signed.
"""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from devstack import audit
from devstack.audit import WITNESS, main
from devstack.dependencies import LOCK, pinned
from tests.support.certificates import Made, make

Kind = Literal["index", "osv"]
# An answer that comes too late, and after how long whoever waits for it goes; for all others there is time, however busy the machine is.
HELD_UP_S, SILENCE_S, ANSWER_TIMEOUT_S = 30, 1, 20
FLAW = "PYSEC-2026-77"
ALIAS = "CVE-2026-7777"


class Advisories(ThreadingHTTPServer):
    """A service that knows the flaws in `flawed` (package -> version that mends it), and fails as `failing` says (package -> status, or 0 for silence)."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.flawed = {WITNESS: "8.1.0"}
        self.failing: dict[str, int] = {}
        self.asked: list[str] = []
        self.over = threading.Event()
        self.folder = folder
        self.authority = make(folder / "authority.pem")
        self._made: dict[str, Made] = {}
        self._lock = threading.Lock()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def context(self, host: str) -> ssl.SSLContext:
        with self._lock:
            if host not in self._made:
                self._made[host] = make(self.folder / "host.pem", issuer=self.authority, host=host)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._made[host].path)
        return context


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Advisories
    rest: ClassVar = {"summary": "Runs what\na picture says.", "aliases": [ALIAS], "published": "2026-11-01T00:00:00Z"}

    def do_CONNECT(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.request = self.server.context(self.path.partition(":")[0]).wrap_socket(self.connection, server_side=True)
        self.setup()
        self.close_connection = False  # what comes through the tunnel is still to be answered, though CONNECT may be HTTP/1.0

    def do_GET(self) -> None:  # the Package Index's
        _, _, package, version, _ = self.path.split("/")
        known = [{"id": FLAW, "fixed_in": [mended], **self.rest} for mended in self._mended(package)]
        self._send(package, {"info": {"version": version}, "vulnerabilities": known})

    def do_POST(self) -> None:  # OSV's
        package = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["package"]["name"]
        affected = {"package": {"ecosystem": "PyPI", "name": package}}
        events = [{"introduced": "0"}]
        known = [
            {"id": FLAW, "affected": [{**affected, "ranges": [{"type": "ECOSYSTEM", "events": [*events, {"fixed": mended}]}]}], **self.rest}
            for mended in self._mended(package)
        ]
        self._send(package, {"vulns": known} if known else {})

    def _mended(self, package: str) -> list[str]:
        self.server.asked.append(package)
        return [self.server.flawed[package]] if package in self.server.flawed else []

    def _send(self, package: str, message: Any) -> None:
        status = self.server.failing.get(package, 200)
        if status == 0:
            self.server.over.wait(HELD_UP_S)
            self.close_connection = True
            return
        body = json.dumps(message).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def finish(self) -> None:
        super().finish()
        self.connection.close()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Advisories]:
    server = Advisories(tmp_path)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """Three of our packages: the whole list is asked for once, that is enough."""
    entries = re.findall(r"^(?:flask|jinja2|werkzeug)==.*(?:\n .*)*", LOCK.read_text(), re.MULTILINE)
    path = tmp_path / "three.lock"
    path.write_text("\n".join(entries) + "\n")
    assert set(pinned(path.read_text())) == {"flask", "jinja2", "werkzeug"}
    return path


Ask = Callable[[Path], tuple[int, str]]


@pytest.fixture(params=["index", "osv"])
def ask(request: pytest.FixtureRequest, service: Advisories, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Asks the service in one of the two ways: what the audit ended with, and what it said."""
    kind: Kind = request.param
    for name in ("no_proxy", "NO_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", service.address)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(service.authority.path))
    monkeypatch.setenv("CARREL_AUDIT_URL", f"{service.address}/v1/query" if kind == "osv" else "")

    def run(lock: Path) -> tuple[int, str]:
        code = main([str(lock), "--answer-timeout-s", str(SILENCE_S if 0 in service.failing.values() else ANSWER_TIMEOUT_S)])
        return code, capsys.readouterr().err

    return run


def test_it_passes_when_every_package_that_is_pinned_is_known_and_has_no_flaw(ask: Ask, service: Advisories) -> None:
    assert ask(LOCK) == (0, "")
    assert sorted(service.asked) == sorted([*pinned(LOCK.read_text()), WITNESS])


def test_a_flaw_in_one_package_fails_it_and_is_told_with_the_version_that_mends_it(ask: Ask, service: Advisories, lock: Path) -> None:
    service.flawed["jinja2"] = "99.1"
    version = pinned(lock.read_text())["jinja2"]
    assert ask(lock) == (1, f"jinja2 {version} has a known flaw, {FLAW} = {ALIAS}, mended in 99.1: Runs what a picture says.\n")


@pytest.mark.parametrize("status", [404, 500, 0])
def test_a_package_that_the_service_does_not_know_or_keeps_quiet_about_fails_it(
    ask: Ask, service: Advisories, lock: Path, status: int
) -> None:
    service.failing["werkzeug"] = status
    code, said = ask(lock)
    assert code == 1
    assert said.startswith("The packages were not all looked up, which counts as a flaw: ")
    # What the Package Index does not know, pip-audit names; of other accidents it tells only what came back.
    assert any(word in said for word in {404: ("werkzeug", "404"), 0: ("timed out",)}.get(status, (str(status),)))


def test_a_service_that_knows_nothing_at_all_does_not_pass_for_one_that_has_found_nothing(
    ask: Ask, service: Advisories, lock: Path
) -> None:
    del service.flawed[WITNESS]
    code, said = ask(lock)
    assert (code, said.partition(",")[0]) == (1, "The service knows no flaw of pillow 8.0.0")


def test_a_service_that_cannot_be_reached_fails_it_with_what_to_do(ask: Ask, service: Advisories, lock: Path) -> None:
    service.shutdown()
    service.server_close()
    code, said = ask(lock)
    assert code == 1
    assert "`make check-offline`" in said and "Traceback" not in said and said.count("\n") == 1


@pytest.mark.parametrize("ask", ["osv"], indirect=True)
def test_a_flaw_in_a_form_that_is_not_understood_fails_it(
    ask: Ask, service: Advisories, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip-audit passes over an entry of a later schema, and warns."""
    service.flawed["jinja2"] = "99.1"
    monkeypatch.setattr(_Answer, "rest", {**_Answer.rest, "schema_version": "2.0.0"})
    code, said = ask(lock)
    assert (code, "Unsupported OSV schema version" in said) == (1, True)


@pytest.mark.parametrize("ask", ["index"], indirect=True)
def test_an_audit_that_takes_too_long_is_ended(ask: Ask, service: Advisories, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "AUDIT_TIMEOUT_S", 0.1)
    code, said = ask(lock)
    assert (code, "it took longer than 0.1 s" in said) == (1, True)


@pytest.mark.parametrize("ask", ["index"], indirect=True)
def test_a_package_without_a_hash_fails_it(ask: Ask, lock: Path) -> None:
    lock.write_text(lock.read_text() + "six==1.17.0\n")
    code, said = ask(lock)
    assert (code, "six" in said and "hash" in said) == (1, True)


@pytest.mark.parametrize("address", ["http://osv.example/v1/query", "file:///etc/passwd", "osv"])
def test_a_service_that_anybody_on_the_way_could_speak_for_is_not_asked(
    address: str, lock: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(lock), "--service", address]) == 1
    assert "https://" in capsys.readouterr().err


def report(*entries: Mapping[str, Any]) -> dict[str, Any]:
    witness = {"name": "Pillow", "version": "8.0.0", "vulns": [{"id": "PYSEC-2021-1"}]}
    return {"dependencies": [witness, *entries], "fixes": []}


CLEAN = {"name": "flask", "version": "3.1.3", "vulns": []}
FLAWED = {**CLEAN, "vulns": [{"id": FLAW, "aliases": [ALIAS], "fix_versions": [], "description": "Bad."}]}


@pytest.mark.parametrize(
    ("told", "accepted", "said"),
    [
        (report(CLEAN), {}, []),
        (report(), {}, ["flask 3.1.3 was not looked up."]),
        (report({**CLEAN, "version": "3.1.2"}), {}, ["flask 3.1.3 was not looked up."]),
        (report({"name": "flask", "skip_reason": "no idea"}), {}, ["flask 3.1.3 was not looked up."]),
        (report(FLAWED), {}, [f"flask 3.1.3 has a known flaw, {FLAW} = {ALIAS}, mended in no version yet: Bad."]),
        (report(FLAWED), {ALIAS: "we do not call it"}, []),
        (report(CLEAN), {ALIAS: "we do not call it"}, [f"{ALIAS} is accepted in devstack/audit.py, and no package has it any more."]),
    ],
)
def test_what_was_told_is_held_against_what_is_pinned_and_what_is_accepted(told: Any, accepted: dict[str, str], said: list[str]) -> None:
    assert list(audit.problems(told, {"flask": "3.1.3"}, accepted)) == said
