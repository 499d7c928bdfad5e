"""The thread that keeps figures up after pushes, and the commands."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from typing import Any

import pytest
from click.testing import CliRunner

from cloud_api.analytics import keeper as keeping
from cloud_api.analytics.keeper import Keeper
from cloud_api.app import create_app, keep_figures_up
from cloud_api.cli import main
from cloud_api.config import CloudConfig, Figures
from cloud_api.learning.mastery import of_class
from domain.errors import Unavailable
from tests.support.classroom import Classroom, Given

WAIT_S = 60


def pushed(room: Classroom) -> None:
    room.answer([Given(s, f"halves-{n}", 3 - n / 10, n != 1) for s in ("ada", "ben") for n in range(3)])


def test_after_a_push_the_students_rows_are_there_without_anybody_asking(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = threading.Event()
    look = Keeper.look

    def noted(self: Keeper) -> None:
        look(self)
        looked.set()

    monkeypatch.setattr(Keeper, "look", noted)
    keeper = Keeper(room.school.database, Figures(after_push_s=0.1))
    keeper.start()
    try:
        pushed(room)
        assert room.rows() == []
        keeper.push_came()
        assert looked.wait(WAIT_S)
        assert [row[1] for row in room.rows()] == [3, 3]
    finally:
        keeper.close()


def test_a_server_tells_its_keeper_of_pushes_and_of_nothing_else(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(Keeper, "start", lambda self: told.append("started"))
    monkeypatch.setattr(Keeper, "push_came", lambda self: told.append("push"))
    app = create_app(CloudConfig(), room.school.database)
    app.view_functions["sync.push"] = lambda: "stored"  # what a push does is tested elsewhere
    keep_figures_up(app, Keeper(room.school.database, Figures()))
    client = app.test_client()
    client.get("/v1/sync/head")
    assert told == ["started"]
    client.post("/v1/sync/push")
    assert told == ["started", "push"]


def test_a_school_in_which_nothing_changed_is_not_looked_at_again(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper = Keeper(room.school.database, Figures())
    pushed(room)
    keeper.look()
    monkeypatch.setattr(keeping, "keep_up_school", lambda *_: pytest.fail("looked at again"))
    keeper.look()


def test_a_keeper_survives_a_database_that_is_away(room: Classroom, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    twice = threading.Event()

    def failing(self: Keeper) -> None:
        looks.append("look")
        if len(looks) == 2:
            twice.set()
            return
        self.push_came()
        raise Unavailable("The database cannot be reached.")

    monkeypatch.setattr(Keeper, "look", failing)
    keeper = Keeper(room.school.database, Figures(after_push_s=0.1))
    keeper.start()
    keeper.push_came()
    assert twice.wait(WAIT_S)
    keeper.close()


def test_levels_and_scores_are_those_of_the_mastery_table(room: Classroom) -> None:
    pushed(room)
    database, school_id, now_ms = room.school.database, room.school.id, room.clock.now_ms()
    stored = database.retrying(lambda cursor: of_class(cursor, school_id, room.class_id, now_ms), school=school_id)
    overview = room.figures.overview(school_id, room.class_id)
    cells = [(s.student_id, c, cell.score, cell.level.value, cell.answers) for s in overview.students for c, cell in s.cells.items()]
    assert cells == [(m.student_id, m.concept_id, m.score, m.level, m.attempts) for m in stored]
    assert len(cells) == 2


def run(room: Classroom, *arguments: str) -> str:
    result = CliRunner().invoke(main, ["class", *arguments, "--database-url", room.school.database.url, "--school", room.school.id])
    assert result.exit_code == 0, result.output
    return result.output


def test_the_report_shows_mastery_and_every_table(room: Classroom) -> None:
    pushed(room)
    room.answer([Given("cem", "sums-0", 1 - n / 100, False) for n in range(4)])
    text = run(room, "report", "--class", "7b")
    assert "7b: 3 students" in text
    assert re.search(r"Ada +1 \w+ \(last sync: never\)", text)
    report: dict[str, Any] = json.loads(run(room, "report", "--class", "7b", "--json"))
    assert report["mastery"]["name"] == "7b"
    assert {"needs-help", "items", "wrong-answers", "time", "curves", "groups", "off-plan"} < report.keys()
    table = list(csv.reader(io.StringIO(run(room, "report", "--class", "7b", "--csv").removeprefix("\ufeff"))))
    assert [line[1] for line in table] == ["student", "Ada", "Ben", "Cem"]
    assert "question_id" in run(room, "report", "--class", "7b", "--csv", "--table", "items")


def test_recounting_puts_damaged_figures_right(room: Classroom) -> None:
    pushed(room)
    room.figures.overview(room.school.id, room.class_id)
    before = room.rows()
    with room.school.database.transaction(school=room.school.id) as cursor:
        cursor.execute("UPDATE student_figures SET mastery = '[0,0,0,null,0,{}]', answers = 0 WHERE school_id = %s", (room.school.id,))
    assert room.rows() != before
    assert json.loads(run(room, "recount", "--json")) == {"students": 2}
    assert room.rows() == before
