"""The device page of a whole daemon with a real school behind it: what a student reads while answers go there, and when the school is gone."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from cloud_api.devices.enrolment import Grant
from daemon.config import load_config, prepare_folders
from daemon.control import find
from daemon.process.state_folder import RunningDaemon, locked, read_app_token
from daemon.readiness import make_ready
from daemon.service import Service
from domain.ids import dashed
from tests.pages.conftest import PIN
from tests.support.browsing import visiting
from tests.support.cloud import SchoolBuilder, serving
from tests.support.fleet import running_fleet

WAIT_S = 30.0


@dataclass
class Home:
    """A student's laptop at home: its daemon, and the school's server, which `lose_school` takes away."""

    running: RunningDaemon
    app_token: str
    questions: list[Any]
    school: ExitStack

    def lose_school(self) -> None:
        self.school.close()

    def ask(self, method: str, path: str, body: Any, token: str) -> Any:
        with closing(http.client.HTTPConnection(self.running.host, self.running.port, timeout=WAIT_S)) as connection:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
            connection.request(method, path, json.dumps(body), headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
            assert response.status < 300, answer
            return answer

    def answer(self, number: int) -> None:
        """Ada answers a question in a learning app."""
        token = self.ask("POST", "/v1/sessions", {"username": "ada", "pin": PIN}, self.app_token)["token"]
        self.ask("POST", "/v1/attempts", {"question_id": dashed(self.questions[number]), "correct": True}, token)


@pytest.fixture
def home(cloud_school: SchoolBuilder, flask_cloud: Flask, tmp_path: Path) -> Iterator[Home]:
    state = tmp_path / "state"
    environ = {"CARREL_DEVICE_STATE_DIR": str(state), "CARREL_DEVICE_API_PORT": "0"}
    config = load_config(None, environ)
    prepare_folders(config)
    with ExitStack() as stack, ExitStack() as school:
        url = school.enter_context(serving(flask_cloud))
        fleet = school.enter_context(running_fleet(cloud_school, url, tmp_path))
        ada = cloud_school.add_user("ada")
        stack.enter_context(locked(state))
        make_ready(config)
        service = Service(config, environ)
        running = service.start()
        stack.callback(service.stop)
        control = find(state, WAIT_S)
        assert control is not None
        control.post("/v1/enrol", {"cloud_url": url, "code": cloud_school.code(Grant("student", ada.id)), "name": "laptop"})
        assert control.post("/v1/sync")["outcome"] == "done"
        control.post(f"/v1/students/{ada.id}/pin", {"pin": PIN})
        yield Home(running, read_app_token(state), fleet.questions, school)


def test_a_student_sees_answers_go_to_school_and_stay_safe_when_the_school_is_gone(browser: Any, home: Home) -> None:
    with visiting(browser, home.running.url) as visit:
        visit.open()
        visit.wait_for("All your work is safe at school.")
        home.answer(0)
        visit.page.get_by_label("Name").fill("ada")
        visit.page.get_by_label("PIN").fill(PIN)
        visit.page.get_by_role("button", name="Sign in").click()
        sync_now = visit.page.get_by_role("button", name="Sync now")
        sync_now.click()
        visit.wait_for("Synced:")
        visit.wait_for("All your work is safe at school.")
        assert visit.page.locator(".figure.large p").inner_text() == "0 answers not at school yet"
        visit.wait_for("at school")
        home.lose_school()
        home.answer(1)
        sync_now.click()
        visit.wait_for("Everything is kept here.")
        visit.wait_for("Your work is safe on this device. It goes to school by itself.")
        assert visit.page.locator(".figure.large p").inner_text() == "1 answer not at school yet"
        assert visit.grave_findings() == []
