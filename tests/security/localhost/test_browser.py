"""A real browser against the real listener: pages of foreign origins try whatever pages can do, a page of a registered origin does its work.

Names of hosts are made up and lead to this machine by an option of the browser, which is what an attacker's name server does when it rebinds one.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from daemon.api.server import LocalServer
from tests.support.device import ADA, APP_TOKEN, QUESTIONS, DeviceUnderTest, open_device

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
NAMES = ("evil.test", "app.test", "rebound.test")
PIN = "4711"
REPORT_MAX_S = 60.0
STOP_MAX_S = 10.0

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (Debian: apt-get install chromium)")

# What every page can use: `tries` is run one by one, and what came of each is reported to the page's own server.
SCRIPT = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script type="module">
const CONFIG = %s;
const loaded = (element) => new Promise((done) => {
  element.onload = () => done("loaded");
  element.onerror = () => done("failed");
  setTimeout(() => done("nothing"), 5000);
  document.body.append(element);
});
const asked = async (url, options) => {
  const answer = await fetch(url, options);
  return answer.type === "opaque" ? "opaque" : `${answer.ok ? "READ" : "refused"} ${answer.status}`;
};
const json = { "Content-Type": "application/json" };
%s
const outcomes = {};
for (const [name, attempt] of Object.entries(tries)) {
  try { outcomes[name] = String(await attempt()); } catch (error) { outcomes[name] = `blocked ${error}`; }
}
await fetch("/report", { method: "POST", body: JSON.stringify(outcomes) });
</script><body></body>
"""

ATTACKS = """
const tries = {};
const { port, stolen, attempt } = CONFIG;
for (const host of ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "rebound.test"]) {
  const url = `http://${host}:${port}/v1`;
  for (const path of ["health", "students", "me", "status"]) {
    tries[`cors ${host} ${path}`] = () => asked(`${url}/${path}`);
    tries[`no-cors ${host} ${path}`] = () => asked(`${url}/${path}`, { mode: "no-cors", credentials: "include" });
    for (const [kind, token] of Object.entries(stolen))
      tries[`with ${kind} ${host} ${path}`] = () => asked(`${url}/${path}`, { headers: { Authorization: `Bearer ${token}` } });
  }
  for (const [kind, token] of Object.entries(stolen))
    tries[`json ${kind} ${host}`] = () =>
      asked(`${url}/attempts`, { method: "POST", headers: { ...json, Authorization: `Bearer ${token}` }, body: attempt });
  for (const path of ["attempts", "sessions", "sync", "launches/redeem", "apps"])
    tries[`simple ${host} ${path}`] = () => asked(`${url}/${path}`, { method: "POST", mode: "no-cors", body: attempt });
  tries[`beacon ${host}`] = () => navigator.sendBeacon(`${url}/attempts`, new Blob([attempt], { type: "text/plain" }));
  tries[`form ${host}`] = async () => {
    const frame = Object.assign(document.createElement("iframe"), { name: `frame ${host}` });
    document.body.append(frame);
    const form = Object.assign(document.createElement("form"), { method: "POST", enctype: "text/plain", action: `${url}/attempts`, target: frame.name });
    form.innerHTML = `<input name='{"question_id": "${CONFIG.question}", "correct": true, "answer": "' value='"}'>`;
    document.body.append(form);
    const done = new Promise((resolve) => { frame.onload = () => resolve("loaded"); setTimeout(() => resolve("nothing"), 3000); });
    form.submit();
    return done;
  };
  tries[`image ${host}`] = () => loaded(Object.assign(new Image(), { src: `${url}/status` }));
  tries[`script ${host}`] = () => loaded(Object.assign(document.createElement("script"), { src: `${url}/status` }));
  tries[`frame ${host}`] = async () => {
    const frame = Object.assign(document.createElement("iframe"), { src: `${url}/students` });
    const outcome = await loaded(frame);
    try { return `READ ${frame.contentWindow.document.body.innerText}`; } catch { return outcome; }
  };
  tries[`socket ${host}`] = () => new Promise((done) => {
    const socket = new WebSocket(`ws://${host}:${port}/v1/status`);
    socket.onopen = () => done("READ");
    socket.onerror = () => done("failed");
    setTimeout(() => done("nothing"), 3000);
  });
}
"""

LESSON = """
const url = `http://127.0.0.1:${CONFIG.port}/v1`;
let token;
const carrel = async (method, path, body) => {
  const headers = { ...json, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(url + path, { method, headers, body: body && JSON.stringify(body) });
  const text = await answer.text();
  if (!answer.ok) throw new Error(text);
  return text && JSON.parse(text);
};
const tries = {
  redeem: async () => {
    const code = new URLSearchParams(location.hash.slice(1)).get("carrel");
    history.replaceState(null, "", location.pathname);
    return ({ token } = await carrel("POST", "/launches/redeem", { code })) && "token";
  },
  students: async () => (await carrel("GET", "/students")).items.map((s) => s.username),
  "sign in": async () => ({ token } = await carrel("POST", "/sessions", { username: "ada", pin: CONFIG.pin })) && "session",
  record: async () => (await carrel("POST", "/attempts", JSON.parse(CONFIG.attempt))).created,
  "sign out": async () => await carrel("DELETE", "/sessions"),
};
"""


class Pages(BaseHTTPRequestHandler):
    """Serves one page, and takes its report."""

    page: ClassVar[bytes] = b""
    reports: ClassVar[queue.Queue[dict[str, str]]]

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(self.page)))
        self.end_headers()
        self.wfile.write(self.page)

    def do_POST(self) -> None:
        self.reports.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing."""


class Stage:
    """A device behind its listener, a server of pages, and what the daemon answered: (method, path, status)."""

    def __init__(self, device: DeviceUnderTest, folder: Path) -> None:
        self.device, self._folder = device, folder
        self.answered: list[tuple[str, str, int]] = []
        inner = device.app.wsgi_app

        def recording(environ: dict[str, Any], start_response: Any) -> Any:
            def started(status: str, *rest: Any) -> Any:
                self.answered.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], int(status[:3])))
                return start_response(status, *rest)

            return inner(environ, started)

        device.app.wsgi_app = recording  # type: ignore[method-assign]  # how Flask wants it done
        self.daemon = LocalServer(device.app, "127.0.0.1", 0, threads=4)
        self.pages = ThreadingHTTPServer(("127.0.0.1", 0), Pages)

    def origin(self, name: str) -> str:
        return f"http://{name}:{self.pages.server_port}"

    def report(self, name: str, script: str, config: dict[str, Any], fragment: str = "") -> dict[str, str]:
        """What came of each thing that a page of this host tried."""
        config |= {
            "port": self.daemon.port,
            "question": QUESTIONS[0],
            "attempt": json.dumps({"question_id": QUESTIONS[0], "correct": True}),
        }
        Pages.page = (SCRIPT % (json.dumps(config), script)).encode()
        Pages.reports = queue.Queue()
        with browser(f"{self.origin(name)}/{fragment}", self._folder / "profile"):
            return Pages.reports.get(timeout=REPORT_MAX_S)


@contextmanager
def browser(url: str, profile: Path) -> Iterator[None]:
    """A browser without a window that has this page open."""
    rules = ", ".join(f"MAP {name} 127.0.0.1" for name in NAMES)
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server"]
    options += ["--disable-background-networking", "--disable-component-update", "--remote-debugging-port=0"]
    process = subprocess.Popen(
        [str(CHROMIUM), *options, f"--user-data-dir={profile}", f"--host-resolver-rules={rules}", url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(STOP_MAX_S)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_device(tmp_path) as device:
        made = Stage(device, tmp_path)
        made.daemon.start()
        thread = threading.Thread(target=made.pages.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            made.pages.shutdown()
            thread.join(STOP_MAX_S)
            made.pages.server_close()
            made.daemon.stop()


def counts(device: DeviceUnderTest) -> list[tuple[Any, ...]]:
    tables = ("question_attempts", "sync_operations", "student_sessions", "apps", "sign_in_tries", "student_pins")
    return [device.rows(f"SELECT count(*) FROM {table}")[0] for table in tables]


def test_pages_of_a_foreign_origin_reach_nothing(stage: Stage) -> None:
    device = stage.device
    device.api.access.apps.add("Fractions", [stage.origin("app.test")])
    stolen = {"app": APP_TOKEN, "session": device.signed_in().token, "control": device.controlling().token}
    before = counts(device)
    outcomes = stage.report("evil.test", ATTACKS, {"stolen": stolen})
    assert len(outcomes) > 100
    assert {name: outcome for name, outcome in outcomes.items() if "READ" in outcome} == {}
    assert {answer for answer in stage.answered if answer[2] < 400} == set()
    assert len(stage.answered) > 50, "they did reach the daemon"
    assert counts(device) == before


def test_a_page_of_a_registered_origin_does_its_work_from_the_launch_code_to_signing_out(stage: Stage) -> None:
    device = stage.device
    app, _ = device.api.access.apps.add("Fractions", [stage.origin("app.test")])
    device.api.access.sign_in.set_pin(ADA, PIN)
    code = device.api.access.launch_codes.issue(app)
    outcomes = stage.report("app.test", LESSON, {"pin": PIN}, f"#carrel={code}")
    assert outcomes == {"redeem": "token", "students": "ada,ben", "sign in": "session", "record": "true", "sign out": ""}
    assert device.rows("SELECT student_id FROM question_attempts") == [(ADA,)]


def test_a_foreign_page_can_do_nothing_with_a_launch_code_it_has_seen(stage: Stage) -> None:
    app, _ = stage.device.api.access.apps.add("Fractions", [stage.origin("app.test")])
    code = stage.device.api.access.launch_codes.issue(app)
    outcomes = stage.report("evil.test", LESSON, {"pin": PIN}, f"#carrel={code}")
    assert all(outcome.startswith("blocked") for outcome in outcomes.values())
