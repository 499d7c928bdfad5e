"""A class for the teachers' pages: its answers, who teaches it, and a browser signed in as one of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from cloud_api.app import create_app
from cloud_api.config import CloudConfig
from domain.ids import dashed
from tests.security.cloud.staff import Staffroom
from tests.support.browsing import Visit, visiting
from tests.support.classroom import DAY_MS, NOW_MS, Classroom, Given
from tests.support.cloud import SchoolBuilder, serving

STUDENTS = ("ada", "ben", "cem", "dora", "emil", "fay")
CONCEPTS = ("halves", "thirds", "sums", "products")


@dataclass
class ClassSite:
    """The server's pages over class 7b, which Grace teaches; Hal teaches 8a, Root is an administrator."""

    room: Classroom
    staff: Staffroom
    url: str

    @property
    def path(self) -> str:
        """Where the pages of the class begin."""
        return f"/pages/classes/{dashed(self.room.class_id)}"

    def student_path(self, student: str) -> str:
        return f"{self.path}/students/{dashed(self.room.ids[student])}"

    @contextmanager
    def visit(self, browser: Any, username: str = "grace", **options: Any) -> Iterator[Visit]:
        """A window of somebody who has signed in."""
        token = self.staff.post(username).get_json()["token"]
        with visiting(browser, self.url, cookies=True, **options) as visit:
            visit.page.context.add_cookies([{"name": "carrel", "value": token, "url": self.url}])
            yield visit

    def get(self, path: str, username: str = "grace") -> Any:
        """The answer to somebody's request for a page, without a browser."""
        return self.staff.app.test_client().get(path, headers=self.staff.token(username))

    def audit(self) -> list[tuple[str, str]]:
        """(action, subject) of every read of a student."""
        with self.room.school.database.transaction(read_only=True, school=self.room.school.id) as cursor:
            cursor.execute("SELECT action, replace(subject::text, '-', '') FROM audit_log WHERE action = 'student.read'")
            return [(action, subject) for action, subject in cursor.fetchall()]

    def fill(self) -> None:
        """Answers of a plausible month: Ada knows everything, Ben is stuck, Fay has not begun, all others do so-so."""
        answers = []
        for place, student in enumerate(STUDENTS[:-1]):
            for number, concept in enumerate(CONCEPTS):
                for n in range(12):
                    right = student == "ada" or (student != "ben" and (n * 7 + place + number) % (3 + place) > 0)
                    days_ago = 25 - 2 * n + number * 0.01 + place * 0.1
                    given, sure = ("42", 2) if right else ("41", 4)
                    answers.append(Given(student, f"{concept}-{n % 3}", max(days_ago, 0.1), right, given, 20_000 + n * 1_000, sure))
        self.room.answer(sorted(answers, key=lambda given: -given.days_ago))
        self.room.plan("ben", [(days, 30, "planned") for days in (*range(1, 11), 0, -2)])
        self.room.plan("ada", [(days, 10, "done") for days in range(1, 11)], learnt_share=0.9)
        with self.room.school.database.transaction(school=self.room.school.id) as cursor:
            cursor.execute("UPDATE devices SET last_seen_ms = %s WHERE school_id = %s", (NOW_MS - 9 * DAY_MS, self.room.school.id))


@contextmanager
def class_site(school: SchoolBuilder) -> Iterator[ClassSite]:
    """The pages of a class nobody of which has answered yet."""
    room = Classroom.of(school, STUDENTS)
    app = create_app(CloudConfig(), school.database, room.clock)
    staff = Staffroom(app, replace(school, clock=room.clock))
    room.other_class("8a")
    room.ids["laptop"] = room.school.enrol(room.grant("ada")).id
    for username, role, classes in (("grace", "teacher", ("7b",)), ("hal", "teacher", ("8a",)), ("root", "admin", ())):
        staff.add(username, role, classes=classes)
    with serving(app) as url:
        yield ClassSite(room, staff, url)
