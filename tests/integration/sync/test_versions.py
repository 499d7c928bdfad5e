"""Older and newer peers: what was written under an older schema is brought up, what only a newer one knows is kept until it has a place."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from domain import upcast
from domain.ids import Id
from domain.upcast import Fields, Upcast
from migrations.extras import adopt_extra_on_cloud, adopt_extra_on_device
from tests.support.fleet import Fleet, SyncedDevice

Rewrite = Callable[[dict[str, Any]], dict[str, Any]]


def rewrite_queued(device: SyncedDevice, rewrite: Rewrite, schema: int) -> None:
    """Has the queued operations written as by another version of the program."""
    for op_no, payload in device.rows("SELECT op_no, payload FROM sync_operations WHERE state = 'pending'"):
        text = json.dumps(rewrite(json.loads(payload)), separators=(",", ":"), ensure_ascii=False)
        device.change("UPDATE sync_operations SET payload = ?, schema_version = ? WHERE op_no = ?", text, schema, op_no)


def plant(monkeypatch: pytest.MonkeyPatch, *steps: Upcast) -> None:
    monkeypatch.setattr(upcast, "UPCASTS", steps)


def _renamed(fields: Fields) -> Fields:
    return {{"mode": "purpose"}.get(name, name): values for name, values in fields.items()}


def _split(fields: Fields) -> Fields:
    given = fields["answer_and_confidence"]
    rest = {name: values for name, values in fields.items() if name != "answer_and_confidence"}
    return {**rest, "answer": [text.rpartition("/")[0] for text in given], "confidence": [int(text.rpartition("/")[2]) for text in given]}


def _older_still(payload: dict[str, Any]) -> dict[str, Any]:
    older = {"mode" if name == "purpose" else name: value for name, value in payload.items() if name not in ("answer", "confidence")}
    return older | {"answer_and_confidence": f"{payload['answer']}/{payload['confidence']}"}


def test_operations_of_older_schemas_are_brought_up_step_by_step(
    fleet: Fleet, ada: str, laptop: SyncedDevice, tablet: SyncedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(
        monkeypatch,
        Upcast(-1, "question_attempts", "insert", _split),
        Upcast(0, "question_attempts", "insert", _renamed),
    )  # fmt: skip
    laptop.records.record_attempts(Id(ada), fleet.attempts(3, answer="a/b", confidence=2))
    rewrite_queued(laptop, _older_still, schema=-1)
    laptop.records.record_attempts(Id(ada), fleet.attempts(2, answer="new"))
    assert laptop.sync().rejected == 0
    assert sorted(fleet.server("SELECT answer, confidence, purpose FROM question_attempts")) == [
        *[("a/b", 2, "free")] * 3,
        *[("new", None, "free")] * 2,
    ]
    tablet.sync()
    assert tablet.synced_rows("question_attempts") == laptop.synced_rows("question_attempts")


def test_a_step_that_yields_a_wrong_type_makes_a_dead_letter_with_the_payload_as_it_came(
    fleet: Fleet, ada: str, laptop: SyncedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch, Upcast(0, "question_attempts", "insert", lambda fields: {**fields, "confidence": ["high"] * len(fields["purpose"])}))
    laptop.records.record_attempts(Id(ada), fleet.attempts(1, confidence=2))
    rewrite_queued(laptop, dict, schema=0)
    assert laptop.sync().rejected == 1
    ((code, payload),) = fleet.server("SELECT code, payload FROM dead_letters")
    assert (code, payload["confidence"]) == ("invalid_value", 2)


def test_fields_of_a_newer_device_reach_other_devices_and_wait_for_a_column(
    fleet: Fleet, ada: str, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    laptop.records.record_attempts(Id(ada), fleet.attempts(2))
    rewrite_queued(laptop, lambda payload: payload | {"mood": "calm", "hints": [1, 2]}, schema=9)
    laptop.records.record_attempts(Id(ada), fleet.attempts(1))
    assert laptop.sync().rejected == 0
    tablet.sync()
    kept = sorted(str(extra) for (extra,) in tablet.rows("SELECT _extra FROM question_attempts"))
    assert kept == ["None", '{"hints":[1,2],"mood":"calm"}', '{"hints":[1,2],"mood":"calm"}']
    numbers = fleet.server("SELECT id, feed_no FROM question_attempts ORDER BY id")

    _give_a_place_on_device(tablet)
    fleet.server("ALTER TABLE question_attempts ADD COLUMN mood text, ADD COLUMN hints jsonb")
    migrator = _Running(lambda sql: fleet.server(sql))
    adopt_extra_on_cloud(migrator, "question_attempts", "mood", "text")
    adopt_extra_on_cloud(migrator, "question_attempts", "hints", "jsonb")

    moods = "SELECT mood, hints, _extra FROM question_attempts ORDER BY mood IS NULL"
    assert tablet.rows(moods) == [("calm", "[1,2]", None), ("calm", "[1,2]", None), (None, None, None)]
    assert fleet.server(moods) == [("calm", [1, 2], None), ("calm", [1, 2], None), (None, None, None)]
    assert fleet.server("SELECT id, feed_no FROM question_attempts ORDER BY id") == numbers


def test_a_newer_devices_field_of_a_profile_is_kept_through_an_older_ones_change(
    fleet: Fleet, ada: str, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    laptop.records.update_profile(Id(ada), {"grade": "7"})
    rewrite_queued(laptop, lambda payload: payload | {"nickname": "Ace"}, schema=9)
    laptop.sync()
    tablet.sync()
    tablet.records.update_profile(Id(ada), {"exam_on": "2027-05-04"})
    for device in (tablet, laptop):
        device.sync()
    assert fleet.server("SELECT grade, exam_on, _extra FROM student_profiles") == [("7", "2027-05-04", {"nickname": "Ace"})]
    assert [json.loads(extra) for (extra,) in tablet.rows("SELECT _extra FROM student_profiles")] == [{"nickname": "Ace"}]


def test_a_device_newer_than_its_server_waits_with_everything_queued_and_says_so(
    fleet: Fleet, ada: str, laptop: SyncedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    laptop.records.record_attempts(Id(ada), fleet.attempts(4))
    with monkeypatch.context() as newer:
        newer.setattr("daemon.sync.push.PROTOCOL_VERSION", 99)
        newer.setattr("daemon.sync.pull.PROTOCOL_VERSION", 99)
        assert laptop.sync().outcome == "other_version"
        status = laptop.rounds.status()
        assert (status.state, status.reason, status.pending, status.rejected) == ("waiting", "other_version", 4, 0)
    assert laptop.sync().outcome == "done"
    assert laptop.rounds.status().state == "synced"


class _Running:
    """What a migration is given, as far as these need it."""

    def __init__(self, run: Callable[[str], object]) -> None:
        self.sql = run


def _give_a_place_on_device(device: SyncedDevice) -> None:
    with closing(sqlite3.connect(device.folder / "device.sqlite3", isolation_level=None)) as conn:
        conn.execute("ALTER TABLE question_attempts ADD COLUMN mood TEXT")
        conn.execute("ALTER TABLE question_attempts ADD COLUMN hints TEXT")
        for column in ("mood", "hints"):
            adopt_extra_on_device(_Running(conn.execute), "question_attempts", column)
