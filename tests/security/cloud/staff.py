"""People of a school who sign in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flask import Flask
from flask.testing import FlaskClient

from cloud_api.access.accounts import set_password
from cloud_api.access.doorkeeper import CSRF_HEADER
from cloud_api.people import User
from tests.support.cloud import SchoolBuilder

PASSWORD = "correct horse"
# A browser keeps a cookie for this server, and says so of requests that the server's own pages make.
OWN_PAGE = {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"}


@dataclass(frozen=True)
class Staffroom:
    """A school's people and the ways in which they reach the server."""

    app: Flask
    school: SchoolBuilder

    @classmethod
    def of(cls, app: Flask, school: SchoolBuilder) -> Staffroom:
        room = cls(app, school)
        for username, role in (("grace", "teacher"), ("root", "admin"), ("ada", "student")):
            room.add(username, role)
        return room

    def add(self, username: str, role: str, password: str = PASSWORD, classes: tuple[str, ...] = ()) -> User:
        made = self.school.add_user(username, role, classes)
        set_password(self.school.database, self.school.clock, self.school.ids, self.school.id, username, password)
        return made

    def post(self, username: str, password: str = PASSWORD, **options: Any) -> Any:
        """The answer to an attempt to sign in."""
        sent = {"username": username, "password": password, "school": self.school.id} | options.pop("body", {})
        return self.app.test_client().post("/v1/sessions", json=sent, **options)

    def token(self, username: str, password: str = PASSWORD) -> dict[str, str]:
        """The headers of somebody signed in."""
        return {"Authorization": f"Bearer {self.post(username, password).get_json()['token']}"}

    def browser(self, username: str) -> tuple[FlaskClient, dict[str, str]]:
        """A browser with the session's cookie, and the headers by which this server's pages change something."""
        client = self.app.test_client()
        sent = {"username": username, "password": PASSWORD, "school": self.school.id, "cookie": True}
        started = client.post("/v1/sessions", json=sent, headers=OWN_PAGE)
        return client, OWN_PAGE | {CSRF_HEADER: started.get_json()["csrf_token"]}
