"""The school of a world: a small course, a class, students, and what teachers and administrators change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from cloud_api.devices.enrolled import revoke
from cloud_api.devices.enrolment import EnrolledDevice, Grant
from cloud_api.people import create_user, end_memberships
from cloud_api.publication import Publication
from cloud_api.schools import create_school
from daemon.identity.keys import DeviceKeys
from domain.clock import Clock
from domain.ids import Id, IdSource, derived_id
from domain.sealing import PublicKeys
from tests.simulation.cloud import SimulatedCloud
from tests.support.cloud import SchoolBuilder

CLASS_NAME = "Knots 1"
QUESTIONS, CONCEPTS = 5, 2
_NOTHING = {"external_id": None, "retired_at_ms": None}


@dataclass
class School:
    """A school founded in a server's database. `students` are in the class at first, `outsider` never is; devices are granted no outsider."""

    database: SimulatedCloud
    clock: Clock
    ids: IdSource
    name: str
    questions: list[Id] = field(default_factory=list)
    concepts: list[Id] = field(default_factory=list)

    def __post_init__(self) -> None:
        with self.database.transaction() as cursor:
            self.id = create_school(cursor, derived_id(self.name), self.name, self.clock.now_ms()).id
        self.builder = SchoolBuilder(self.database, self.clock, self.ids, self.id)
        self.class_id, self.topic, self.other_topic = self.ids.new(), self.ids.new(), self.ids.new()
        self.concepts = [self.ids.new() for _ in range(CONCEPTS)]
        self.questions = [self.ids.new() for _ in range(QUESTIONS)]
        self._publish(self._put_course)
        self.students = [self._student(name) for name in ("ada", "ben")]
        self.outsider = self._student("cleo", in_class=False)

    def close(self) -> None:
        """Leaves nothing that other schools of the server would notice: places in the queue of first syncs, devices that were seen lately."""
        with self.database.transaction() as cursor:
            cursor.execute("UPDATE devices SET first_sync_until_ms = NULL, last_seen_ms = NULL WHERE school_id = %s", (self.id,))

    def _put_course(self, publication: Publication) -> None:
        publication.put("classes", {"id": self.class_id, "name": CLASS_NAME, **_NOTHING})
        for place, topic in enumerate((self.topic, self.other_topic)):
            row: dict[str, Any] = {
                "id": topic,
                "parent_id": None,
                "title": "Knots",
                "level": "lesson",
                "position": place,
                "weightage": None,
            }
            publication.put("topics", row | _NOTHING)
        for concept in self.concepts:
            row = {"id": concept, "topic_ids": [self.topic], "title": "c", "mastery_threshold": 0.85}
            publication.put("concepts", row | _NOTHING)
        for question in self.questions:
            publication.put("questions", self._question(question, "Why?", None))

    def _question(self, question: Id, stem: str, retired_at_ms: int | None) -> dict[str, Any]:
        concepts = [self.concepts[self.questions.index(question) % CONCEPTS]]
        row = {"id": question, "topic_id": self.topic, "concept_ids": concepts, "kind": "short_text", "stem": stem}
        return row | {"choices": None, "answers": ["yes"], "source": None, "external_id": None, "retired_at_ms": retired_at_ms}

    def _publish(self, change: Callable[[Publication], None]) -> None:
        publication = Publication(self.id)
        change(publication)
        with self.database.transaction() as cursor:
            publication.write(cursor, self.clock.now_ms())

    def _student(self, name: str, *, in_class: bool = True) -> Id:
        with self.database.transaction() as cursor:
            classes = [CLASS_NAME] if in_class else []
            return create_user(cursor, self.ids, self.id, name, name, "student", classes, self.clock.now_ms()).id

    @property
    def epoch(self) -> str:
        return str(self.builder.value("SELECT epoch FROM server_state"))

    def enrol(self, grant: Grant, keys: DeviceKeys) -> EnrolledDevice:
        """A new device of the school."""
        return self.builder.enrol(grant, keys=PublicKeys(bytes.fromhex(keys.public_verify), bytes.fromhex(keys.public_seal)))

    def edit_question(self, question: Id, stem: str, *, retire: bool) -> None:
        """A teacher changes the course."""
        retired_at_ms = self.clock.now_ms() if retire else None
        self._publish(lambda p: p.put("questions", self._question(question, stem, retired_at_ms)))

    def toggle_prerequisite(self) -> None:
        """A row that comes and goes: deleted where it is, made where it is not."""
        found = self.builder.value("SELECT id FROM topic_prerequisites WHERE school_id = %s", self.id)
        if found:
            self._publish(lambda p: p.delete("topic_prerequisites", found))
            return
        row = {"id": self.ids.new(), "topic_id": self.other_topic, "prerequisite_topic_id": self.topic, "reason": None}
        self._publish(lambda p: p.put("topic_prerequisites", row))

    def toggle_membership(self, student: Id) -> None:
        """The student leaves the class, or comes back."""
        with self.database.transaction() as cursor:
            cursor.execute(
                "SELECT id FROM class_members WHERE school_id = %s AND class_id = %s AND user_id = %s", (self.id, self.class_id, student)
            )
            found = cursor.fetchone()
            publication = Publication(self.id)
            member = {"id": found[0] if found else self.ids.new(), "class_id": self.class_id, "user_id": student, "role": "student"}
            if found:
                end_memberships(cursor, publication, self.id, [member], self.clock.now_ms())
            else:
                publication.put("class_members", member)
            publication.write(cursor, self.clock.now_ms())

    def toggle_grant(self, device_id: Id, student: Id) -> None:
        """The device may hold the student from now on, or no longer."""
        now_ms = self.clock.now_ms()
        with self.database.transaction() as cursor:
            cursor.execute(
                "UPDATE device_grants SET ended_at_ms = %s WHERE school_id = %s AND device_id = %s AND subject_id = %s AND ended_at_ms IS NULL"
                " RETURNING id",
                (now_ms, self.id, device_id, student),
            )
            if cursor.fetchone() is None:
                cursor.execute(
                    "INSERT INTO device_grants (school_id, id, device_id, kind, subject_id, granted_at_ms)"
                    " SELECT school_id, %s, id, 'student', %s, %s FROM devices WHERE school_id = %s AND id = %s",
                    (self.ids.new(), student, now_ms, self.id, device_id),
                )

    def revoke(self, device_id: Id) -> None:
        """A device that was lost or stolen."""
        with self.database.transaction() as cursor:
            revoke(cursor, self.ids, self.id, device_id, self.clock.now_ms())

    def knows(self, device_id: Id) -> bool:
        """Whether the device is enrolled: a restored server has lost those enrolled since its backup."""
        return bool(self.builder.value("SELECT 1 FROM devices WHERE school_id = %s AND id = %s", self.id, device_id))

    def granted_scopes(self, device_id: Id) -> set[str]:
        """What the device may hold now, worked out from the tables."""
        with self.database.transaction(read_only=True) as cursor:
            cursor.execute(
                "SELECT kind, subject_id FROM device_grants WHERE school_id = %s AND device_id = %s AND ended_at_ms IS NULL",
                (self.id, device_id),
            )
            granted = cursor.fetchall()
            cursor.execute("SELECT class_id, user_id FROM class_members WHERE school_id = %s AND role = 'student'", (self.id,))
            members = cursor.fetchall()
        classes = {subject for kind, subject in granted if kind == "class"}
        scopes = {f"{kind}:{subject}" for kind, subject in granted}
        return scopes | {f"student:{user}" for class_id, user in members if class_id in classes} | {"school"}
