"""What was answered long ago goes, at school and on every device; that it was answered stays, and nothing is worked out otherwise."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from click.testing import CliRunner

from cloud_api.analytics.keep_up import keep_up_school, recount
from cloud_api.backups.making import back_up
from cloud_api.backups.restoring import restore
from cloud_api.backups.since_backup import Registers
from cloud_api.cli import main
from cloud_api.commands import tidy as tidying
from cloud_api.devices.enrolment import Grant
from cloud_api.erasure import answers
from cloud_api.erasure.answers import DAY_MS, LetGo, let_answers_go
from cloud_api.erasure.rewriting import Rewritten
from cloud_api.learning import mastery as cloud_mastery
from cloud_api.sync import feed
from cloud_api.sync.letters import without_answer
from daemon import inbox
from daemon.erasure import answers as device_answers
from daemon.learning import mastery as device_mastery
from daemon.records import NewAttempt
from daemon.sync import agreement
from daemon.sync.pull import next_request
from daemon.sync.verify import Verifier
from daemon.sync.verify_round import VerifyRound
from domain.agreement import Result
from domain.errors import ImmutableRow
from domain.ids import Id
from domain.registry import TABLES
from domain.wire import AnswersLetGo
from tests.support.cloud import SchoolBuilder
from tests.support.fleet import Fleet, SyncedDevice, as_sqlite, running_fleet
from tests.support.stick import at_school, device_with_keys, taken_by, written_by

DAYS = 365
HELD = "answer IS NOT NULL OR confidence IS NOT NULL"


def pass_days(fleet: Fleet, days: int, *devices: SyncedDevice) -> None:
    """So many days go by for all that is at school now; on the first of them `carrel-cloud tidy` ran."""
    for column in ("noted_at_ms", "day_ms"):
        fleet.server(f"UPDATE feed_days SET {column} = {column} - %s", days * DAY_MS)
    now_ms = fleet.school.clock.now_ms()
    fleet.school.database.retrying(lambda cursor: feed.note_day(cursor, fleet.school.id, now_ms - (days - 1) * DAY_MS))
    fleet.server("UPDATE dead_letters SET received_at_ms = received_at_ms - %s", days * DAY_MS)
    fleet.server("UPDATE answers_let_go SET before_ms = before_ms - %s", days * DAY_MS)
    for device in devices:
        device.change("UPDATE sync_operations SET settled_at_ms = settled_at_ms - ?", days * DAY_MS)


def let_go(fleet: Fleet, days: int = DAYS) -> LetGo:
    school = fleet.school
    return let_answers_go(school.database, school.clock, school.ids, school.id, days)


def write(fleet: Fleet, device: SyncedDevice, student: Id, text: str, count: int = 3) -> list[str]:
    """Sure wrong answers, and right ones; their ids."""
    given = [NewAttempt(q, n % 2 == 0, "free", answer=text, confidence=4) for n, q in enumerate(fleet.questions[:count])]
    return [made.id for made in device.records.record_attempts(student, given)]


def held(device: SyncedDevice) -> int:
    return int(device.value(f"SELECT count(*) FROM question_attempts WHERE {HELD}"))


def held_at_school(fleet: Fleet) -> int:
    return int(fleet.server(f"SELECT count(*) FROM question_attempts WHERE {HELD}")[0][0])


def in_log(device: SyncedDevice, text: str) -> int:
    return int(device.value("SELECT count(*) FROM sync_operations WHERE instr(payload, ?) > 0", text))


def mastery(fleet: Fleet, student: str, *devices: SyncedDevice) -> list[Any]:
    now_ms = fleet.school.clock.now_ms() + 60_000

    class Standing:
        def now_ms(self) -> int:
            return now_ms

        def monotonic_ms(self) -> int:
            return 0

    columns = "concept_id, score, evidence, attempts, correct_attempts, last_attempt_at_ms, level, model_version"
    with fleet.school.database.transaction() as cursor:
        cursor.execute("DELETE FROM concept_mastery")
        cursor.execute("DELETE FROM mastery_folds")
        cloud_mastery.refresh(cursor, fleet.school.id, [student], now_ms)
    found = [fleet.server(f"SELECT {columns} FROM concept_mastery ORDER BY concept_id")]
    for device in devices:
        device.change("INSERT OR REPLACE INTO mastery_stale (student_id) VALUES (?)", student)
        device_mastery.refresh(device.database, student, Standing())  # type: ignore[arg-type]
        found.append(device.rows(f"SELECT {columns} FROM concept_mastery ORDER BY concept_id"))
    return found


def test_DERIVED_EQUAL_old_answers_go_everywhere_and_what_was_learnt_from_them_stays(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    write(fleet, laptop, ada, "old", 5)
    write(fleet, tablet, ada, "old")
    for device in (laptop, tablet, laptop):
        device.sync()
    before = mastery(fleet, ada, laptop, tablet)
    pass_days(fleet, DAYS + 1)
    write(fleet, laptop, ada, "young", 2)
    laptop.sync()
    assert let_go(fleet) == LetGo(attempts=8)
    after_letting_go = mastery(fleet, ada, laptop)
    for device in (tablet, laptop):
        assert device.sync().outcome == "done"
        assert device.rows("SELECT DISTINCT answer, confidence FROM question_attempts ORDER BY 1") == [(None, None), ("young", 4)]
    assert fleet.server(f"SELECT DISTINCT answer FROM question_attempts WHERE {HELD}") == [("young",)]
    assert (
        as_sqlite(fleet.server_rows("question_attempts"))
        == laptop.synced_rows("question_attempts")
        == tablet.synced_rows("question_attempts")
    )
    assert (in_log(laptop, "old"), in_log(tablet, "old"), in_log(laptop, "young")) == (0, 0, 2)
    assert before[0] == before[1] == before[2] != []
    now = mastery(fleet, ada, laptop, tablet)
    assert now == [after_letting_go[0]] * 3
    assert sum(row[3] for row in now[0]) == 10, "every attempt counts"
    ((actor, detail),) = fleet.server("SELECT actor, detail FROM audit_log WHERE action = 'answers.let_go'")
    assert (actor, detail["attempts"], detail["dead_letters"]) == ("operator", 8, 0)


def test_nothing_goes_before_its_time_nor_twice_and_then_nothing_is_written(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    write(fleet, laptop, ada, "here")
    laptop.sync()
    assert let_go(fleet) == LetGo()
    pass_days(fleet, DAYS - 1)
    assert let_go(fleet) == LetGo()
    assert fleet.server("SELECT count(*) FROM answers_let_go") == [(0,)]
    pass_days(fleet, 2)
    assert let_go(fleet) == LetGo(attempts=3)
    head = fleet.server("SELECT head FROM schools")
    write(fleet, laptop, ada, "next")
    pass_days(fleet, 20)
    assert let_go(fleet) == LetGo(), "devices write their files anew each time: it is done now and then"
    assert fleet.server("SELECT head FROM schools") == head


def test_a_run_is_bounded_and_the_next_goes_on(fleet: Fleet, ada: Id, laptop: SyncedDevice, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "STEP_ROWS_MAX", 2)
    monkeypatch.setattr(answers, "STEPS_MAX", 2)
    through = int(fleet.server("SELECT head FROM schools")[0][0])
    fleet.server("INSERT INTO answers_let_go SELECT id, %s, %s, 0, 0 FROM schools", through, through)
    write(fleet, laptop, ada, "old", 7)
    laptop.sync()
    pass_days(fleet, DAYS + 1)
    done = [let_go(fleet) for _ in range(3)]
    assert done[:2] == [LetGo(attempts=4, more=True), LetGo(attempts=3)]
    assert done[2] == LetGo()
    laptop.sync()
    assert held(laptop) == 0


def test_what_is_sent_again_with_its_answer_is_a_duplicate_and_fills_nothing_in(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    write(fleet, laptop, ada, "old")
    laptop.gateway.lose_answers = 1
    laptop.sync()
    pass_days(fleet, DAYS + 1)
    assert let_go(fleet).attempts == 3
    assert in_log(laptop, "old") == 3, "queued still, for all that the laptop knows"
    assert (laptop.sync().outcome, laptop.rounds.status().rejected) == ("done", 0)
    assert held_at_school(fleet) == held(laptop) == in_log(laptop, "old") == 0
    tablet.sync()
    assert tablet.synced_rows("question_attempts") == laptop.synced_rows("question_attempts")
    # A copy of the laptop's file of before sends its log under a new incarnation, the answers with it.
    laptop.change("UPDATE sync_operations SET payload = json_set(payload, '$.answer', 'old'), state = 'pending'")
    laptop.change("UPDATE question_attempts SET answer = 'old', feed_no = 0")
    laptop.database.write(lambda conn: laptop.identity.start_incarnation(conn, resend_all=False))
    assert (laptop.sync().outcome, laptop.rounds.status().rejected) == ("done", 0)
    assert held_at_school(fleet) == 0
    laptop.sync()
    assert held(laptop) == in_log(laptop, "old") == 0


def test_a_device_that_was_away_brings_what_it_has_and_lets_go_of_the_rest(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    write(fleet, laptop, ada, "old")
    laptop.sync()
    write(fleet, laptop, ada, "late")
    pass_days(fleet, DAYS + 1)
    let_go(fleet)
    assert laptop.sync().pushed == 3
    assert fleet.server(f"SELECT DISTINCT answer FROM question_attempts WHERE {HELD}") == [("late",)], "its time begins when it comes"
    assert laptop.rows(f"SELECT DISTINCT answer FROM question_attempts WHERE {HELD}") == [("late",)]
    pass_days(fleet, DAYS + 1)
    let_go(fleet)
    laptop.sync()
    assert held_at_school(fleet) == held(laptop) == 0


def test_new_devices_get_rows_without_answers_and_have_nothing_to_write_anew(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(fleet, laptop, ada, "old")
    laptop.sync()
    pass_days(fleet, DAYS + 1)
    let_go(fleet)
    fresh = fleet.device(Grant("student", ada))
    monkeypatch.setattr(fresh.database, "write_anew", lambda: pytest.fail("there is nothing to be rid of"))
    assert fresh.sync().outcome == "done"
    assert (held(fresh), fresh.value("SELECT count(*) FROM question_attempts")) == (0, 3)


def test_verifying_contents_finds_no_difference_before_and_after_and_says_nothing_in_between(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice
) -> None:
    verifying = VerifyRound(laptop.rounds, Verifier(laptop.database, laptop.identity, laptop.clock), laptop.database, laptop.clock)
    write(fleet, tablet, ada, "old")
    write(fleet, laptop, ada, "old")
    for device in (tablet, laptop):
        device.sync()
    assert verifying.run(content=True).result is Result.MATCH
    pass_days(fleet, DAYS + 1)
    ask, went = laptop.gateway.verify, list[LetGo]()

    def let_go_meanwhile(token: str, request: Any) -> Any:
        went.append(let_go(fleet))
        return ask(token, request)

    laptop.gateway.verify = let_go_meanwhile  # type: ignore[method-assign]
    assert verifying.run(content=True).result is Result.INCONCLUSIVE
    assert went[0] == LetGo(attempts=6)
    assert held(laptop) == 6, "nobody has fetched anything"
    assert verifying.run(content=True).result is Result.MATCH
    assert held(laptop) == 0


def test_a_server_restored_to_before_is_not_filled_again_and_lets_go_once_more(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice, tmp_path: Any
) -> None:
    write(fleet, laptop, ada, "old")
    laptop.sync()
    tablet.sync()
    url, clock, ids = fleet.school.database.url, fleet.school.clock, fleet.school.ids
    pass_days(fleet, DAYS + 1)
    made = back_up(url, tmp_path, clock)
    let_go(fleet)
    for device in (laptop, tablet):
        device.sync()
    kept = Registers(answers_days=DAYS)
    restore(url, made.path, clock, ids, registers=kept)
    assert held_at_school(fleet) == 3, "after a year in which nothing was done the clock may be wrong"
    for device in (laptop, tablet, laptop):
        assert (device.sync().outcome, device.rounds.status().rejected) == ("done", 0)
    assert let_go(fleet) == LetGo(attempts=3)
    for device in (laptop, tablet):
        device.sync()
        assert held(device) == in_log(device, "old") == 0
    for days_ago in range(DAYS, 0, -60):
        at_ms = clock.now_ms() - days_ago * DAY_MS
        fleet.school.database.retrying(partial(feed.note_day, school_id=fleet.school.id, now_ms=at_ms))
    restore(url, made.path, clock, ids, registers=kept)
    assert held_at_school(fleet) == 0, "at once, where it is known for how long answers are kept"


def test_answers_that_only_devices_have_left_come_back_without_what_was_let_go_of(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    write(fleet, laptop, ada, "old")
    laptop.sync()
    pass_days(fleet, DAYS + 1)
    let_go(fleet)
    laptop.sync()
    fleet.server("DELETE FROM question_attempts")
    fleet.server("DELETE FROM answers_let_go")
    fleet.server("UPDATE server_state SET epoch = gen_random_uuid()")
    for _ in range(2):
        laptop.sync()
    assert fleet.server("SELECT count(*), count(answer) FROM question_attempts") == [(3, 0)]
    assert laptop.rounds.status().rejected == 0


def refused(fleet: Fleet, device: SyncedDevice, student: Id) -> None:
    """An answer that the school refuses."""
    unknown = fleet.school.ids.new()
    device.change("INSERT INTO questions SELECT ?, topic_id, concept_ids, kind, stem, choices, answers, source, external_id, retired_at_ms, feed_no, _extra"
                  " FROM questions LIMIT 1", unknown)  # fmt: skip
    device.records.record_attempts(student, fleet.attempts(1, question_id=unknown, answer="refused", confidence=2))
    device.sync()


def test_refused_answers_go_in_their_time_at_school_and_on_the_device_and_are_one_letter_still(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    refused(fleet, laptop, ada)
    pass_days(fleet, DAYS + 1)
    assert let_go(fleet) == LetGo(letters=1)
    (letter,) = fleet.server("SELECT id, payload FROM dead_letters")
    assert letter[1]["answer"] is None
    assert letter[1]["confidence"] is None
    assert letter[1]["student_id"] == ada
    again = "UPDATE sync_operations SET state = 'pending' WHERE state = 'rejected'"
    for _ in ("with its answer", "without"):
        laptop.change(again)
        laptop.database.write(lambda conn: laptop.identity.start_incarnation(conn, resend_all=False))
        assert laptop.sync().rejected == 1
        assert fleet.server("SELECT id, payload FROM dead_letters") == [letter]
        pass_days(fleet, DAYS + 1, laptop)
        let_go(fleet)
        write(fleet, laptop, ada, "later", 1)
        laptop.sync()
    assert in_log(laptop, "refused") == 0
    assert laptop.value("SELECT count(*) FROM sync_operations WHERE state = 'rejected'") == 1


def test_refused_answers_of_copies_of_one_device_that_differ_in_nothing_else_are_one_letter_from_then_on(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    refused(fleet, laptop, ada)
    laptop.change("UPDATE sync_operations SET payload = json_set(payload, '$.answer', 'another') WHERE state = 'rejected'")
    laptop.change("UPDATE sync_operations SET state = 'pending' WHERE state = 'rejected'")
    laptop.database.write(lambda conn: laptop.identity.start_incarnation(conn, resend_all=False))
    laptop.sync()
    assert sorted(answer for (answer,) in fleet.server("SELECT payload ->> 'answer' FROM dead_letters")) == ["another", "refused"]
    pass_days(fleet, DAYS + 1)
    assert let_go(fleet) == LetGo(letters=2)
    assert fleet.server("SELECT payload ->> 'answer' FROM dead_letters") == [(None,)]
    laptop.sync()
    laptop.change("UPDATE sync_operations SET state = 'pending' WHERE state = 'rejected'")
    laptop.database.write(lambda conn: laptop.identity.start_incarnation(conn, resend_all=False))
    assert laptop.sync().rejected == 1
    assert fleet.server("SELECT count(*) FROM dead_letters") == [(1,)]


def test_refused_answers_of_more_than_one_run_go_run_by_run(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "STEP_ROWS_MAX", 1)
    monkeypatch.setattr(answers, "STEPS_MAX", 2)
    for _ in range(3):
        refused(fleet, laptop, ada)
        fleet.server("UPDATE dead_letters SET received_at_ms = received_at_ms - 10")
    pass_days(fleet, DAYS + 1)
    through = int(fleet.server("SELECT head FROM schools")[0][0])
    fleet.server("INSERT INTO answers_let_go SELECT id, %s, %s, 0, 0 FROM schools", through, through)
    assert [let_go(fleet) for _ in range(3)] == [LetGo(letters=2, more=True), LetGo(letters=1), LetGo()]
    assert fleet.server("SELECT count(*), count(payload ->> 'answer') FROM dead_letters") == [(3, 0)]


def test_answers_of_a_student_who_became_a_teacher_go_too(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    write(fleet, laptop, ada, "old")
    laptop.sync()
    fleet.server("UPDATE users SET role = 'teacher' WHERE id = %s", ada)
    pass_days(fleet, DAYS + 1)
    assert let_go(fleet) == LetGo(attempts=3)


@pytest.mark.parametrize("wrong_ms", [0, 10**13], ids=["started without a battery", "far ahead"])
def test_a_day_that_was_noted_by_a_clock_gone_wrong_neither_takes_young_answers_nor_keeps_old_ones(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, wrong_ms: int
) -> None:
    def note(at_ms: int) -> None:
        fleet.school.database.retrying(lambda cursor: feed.note_day(cursor, fleet.school.id, at_ms))

    now_ms = fleet.school.clock.now_ms()
    fleet.server("DELETE FROM feed_days")
    note(wrong_ms if wrong_ms > now_ms else now_ms - (DAYS + 30) * DAY_MS)
    write(fleet, laptop, ada, "old")
    laptop.sync()
    fleet.server("DELETE FROM feed_days WHERE noted_at_ms BETWEEN %s AND %s", now_ms - DAY_MS, now_ms + DAY_MS)
    note(now_ms - (DAYS + 3) * DAY_MS)
    note(now_ms - (DAYS - 3) * DAY_MS)
    write(fleet, laptop, ada, "young")
    laptop.sync()
    note(wrong_ms)
    assert let_go(fleet) == LetGo(attempts=3)
    assert fleet.server(f"SELECT DISTINCT answer FROM question_attempts WHERE {HELD}") == [("young",)]


def test_schools_of_one_server_let_go_each_for_itself(fleet: Fleet, ada: Id, laptop: SyncedDevice, tmp_path: Any) -> None:
    write(fleet, laptop, ada, "old")
    laptop.sync()
    other = SchoolBuilder.build(fleet.school.database)
    (tmp_path / "other").mkdir()
    with running_fleet(other, fleet.url, tmp_path / "other") as there:
        ben = other.add_user("ben").id
        device = there.device(Grant("student", ben))
        device.sync()
        write(there, device, ben, "theirs")
        device.sync()
        pass_days(fleet, DAYS + 1)
        assert let_go(there, DAYS * 9) == LetGo()
        assert let_go(fleet) == LetGo(attempts=3)
        for one in (device, laptop):
            one.sync()
        assert (held(device), held(laptop)) == (3, 0)
        assert fleet.server("SELECT count(*) FROM answers_let_go") == [(1,)]


def test_turned_off_and_on_with_another_number_what_went_stays_gone_and_the_rest_goes_by_the_new_one(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    write(fleet, laptop, ada, "old")
    laptop.sync()
    pass_days(fleet, 100)
    write(fleet, laptop, ada, "young")
    laptop.sync()
    pass_days(fleet, 50)
    assert let_go(fleet, 120) == LetGo(attempts=3)
    told = fleet.server("SELECT through_no, before_ms FROM answers_let_go")
    assert let_go(fleet, 3650) == LetGo()
    assert fleet.server("SELECT through_no, before_ms FROM answers_let_go") == told, "it never falls"
    assert let_go(fleet, 40) == LetGo(attempts=3)
    laptop.sync()
    assert held_at_school(fleet) == held(laptop) == 0


def test_a_device_restored_from_a_copy_of_before_lets_go_again(fleet: Fleet, ada: Id, laptop: SyncedDevice, tmp_path: Any) -> None:
    write(fleet, laptop, ada, "old")
    laptop.sync()
    with closing(sqlite3.connect(laptop.folder / "device.sqlite3")) as conn:
        conn.execute("VACUUM INTO ?", (str(tmp_path / "copy.sqlite3"),))
    pass_days(fleet, DAYS + 1)
    let_go(fleet)
    laptop.sync()
    assert held(laptop) == 0
    laptop.database.close()
    for path in laptop.folder.glob("device.sqlite3*"):
        path.unlink()
    shutil.copyfile(tmp_path / "copy.sqlite3", laptop.folder / "device.sqlite3")
    again = fleet.open(laptop.folder)
    assert held(again) == 3
    assert again.sync().outcome == "done"
    assert held(again) == in_log(again, "old") == held_at_school(fleet) == 0


def test_a_stick_written_before_brings_no_answer_back(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    device = device_with_keys(fleet, Grant("student", ada))
    write(fleet, laptop, ada, "old")
    laptop.sync()
    before = at_school(fleet).take(written_by(device), with_feed=True).answer
    pass_days(fleet, DAYS + 1)
    let_go(fleet)
    after = at_school(fleet).take(written_by(device), with_feed=True).answer
    assert before is not None
    assert after is not None
    taken_by(device, before.data)
    assert held(device) == 3
    taken_by(device, after.data)
    device.rounds._eraser.carry_out()  # a round without a network begins so
    assert (held(device), device.value("SELECT count(*) FROM question_attempts")) == (0, 3)


def test_rows_that_come_as_they_were_before_are_let_go_of_too(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    write(fleet, laptop, ada, "old")
    laptop.sync()
    other = fleet.device(Grant("student", ada))
    asked = next_request(other.database, other.identity, 0)
    assert asked is not None
    tables = other.gateway.pull(other.identity.token(), asked).tables
    pass_days(fleet, DAYS + 1)
    let_go(fleet)
    laptop.sync()
    assert held(laptop) == 0
    laptop.change("DELETE FROM question_attempts")
    laptop.database.write(lambda conn: inbox.apply_tables(conn, tables))
    assert held(laptop) == 3
    laptop.sync()
    assert (held(laptop), laptop.value("SELECT count(*) FROM question_attempts")) == (0, 3)


def test_what_is_queued_keeps_its_answer_and_nothing_is_compared_or_done_before_its_turn(
    fleet: Fleet, ada: Id, laptop: SyncedDevice
) -> None:
    write(fleet, laptop, ada, "old")
    laptop.gateway.lose_answers = 1
    laptop.sync()
    pass_days(fleet, DAYS + 1)
    let_go(fleet)
    (through_no,) = fleet.server("SELECT through_no FROM answers_let_go")[0]
    # By stick, perhaps: the row has its number, and the word of the school is here, before the push was answered.
    laptop.change("UPDATE question_attempts SET feed_no = ?", through_no)
    laptop.database.write(lambda conn: device_answers.note(conn, AnswersLetGo(through_no, 1)))
    laptop.change("UPDATE sync_progress SET rebaselining = 'server_rows'")
    with laptop.database.read() as conn:
        assert device_answers.due(conn) is None, "rows that are pulled anew have no numbers yet"
    laptop.change("UPDATE sync_progress SET rebaselining = 'no'")
    laptop.rounds._eraser.carry_out()
    assert (held(laptop), in_log(laptop, "old")) == (3, 3)
    with laptop.database.read() as conn:
        assert device_answers.due(conn) is None
    laptop.sync()
    assert (held(laptop), in_log(laptop, "old")) == (0, 0)
    laptop.database.write(lambda conn: device_answers.note(conn, AnswersLetGo(through_no + 1, 1)))
    with laptop.database.read() as conn:
        assert not agreement.is_settled(conn)


def test_what_a_newer_app_says_of_an_answer_goes_with_it(fleet: Fleet, ada: Id, laptop: SyncedDevice, tablet: SyncedDevice) -> None:
    write(fleet, laptop, ada, "old")
    laptop.sync()
    fleet.server('UPDATE question_attempts SET _extra = \'{"working": "old"}\', answer = NULL, confidence = NULL')
    tablet.sync()
    assert tablet.value("SELECT count(*) FROM question_attempts WHERE _extra IS NOT NULL") == 3
    pass_days(fleet, DAYS + 1)
    assert let_go(fleet) == LetGo(attempts=3)
    tablet.sync()
    assert tablet.value("SELECT count(*) FROM question_attempts WHERE _extra IS NOT NULL") == 0
    assert fleet.server("SELECT count(*) FROM question_attempts WHERE _extra IS NOT NULL") == [(0,)]
    letter = without_answer(
        TABLES["question_attempts"], "0" * 32, "1" * 32, "2" * 32, "insert", '{"answer":"old","correct":true,"working":"old"}'
    )
    assert letter[1] == '{"answer":null,"correct":true,"working":null}'


def test_an_app_may_send_an_answer_again_that_was_let_go_of(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    (attempt,) = fleet.attempts(1, answer="old", id=fleet.school.ids.new(), correct=True)
    laptop.records.record_attempts(ada, [attempt])
    laptop.sync()
    pass_days(fleet, DAYS + 1)
    let_go(fleet)
    laptop.sync()
    (known,) = laptop.records.record_attempts(ada, [attempt])
    assert not known.created
    laptop.database.write(lambda conn: inbox.start_over(conn))
    assert not laptop.records.record_attempts(ada, [attempt])[0].created, "nor does it matter that the server was restored meanwhile"
    assert held(laptop) == 0
    (other,) = fleet.attempts(1, answer="old", id=attempt.id, correct=False)
    with pytest.raises(ImmutableRow):
        laptop.records.record_attempts(ada, [other])


def test_figures_of_classes_are_counted_anew_without_the_texts(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    write(fleet, laptop, ada, "old")
    laptop.sync()
    keep_up_school(fleet.school.database, fleet.school.id)
    figures = "SELECT answers, strpos(questions::text, 'old') > 0 FROM student_figures"
    assert fleet.server(figures) == [(3, True)]
    pass_days(fleet, DAYS + 1)
    environ = {"DATABASE_URL": fleet.school.database.url, "CARREL_CLOUD_RETENTION_ANSWERS_DAYS": str(DAYS)}
    told = CliRunner().invoke(main, ["tidy", "--clock-is-right", "--json"], env=environ, catch_exceptions=False)
    assert json.loads(told.stdout)["answers"] == 3
    assert fleet.server(figures) == [(3, False)]
    assert fleet.server("SELECT questions -> 'first' -> 3, questions -> 'wrong' -> 0 FROM student_figures") == [([None] * 3, "000")]
    write(fleet, laptop, ada, "new", 1)
    laptop.sync()
    keep_up_school(fleet.school.database, fleet.school.id)
    kept_up = fleet.server("SELECT questions::text FROM student_figures")
    recount(fleet.school.database, fleet.school.id)
    assert fleet.server("SELECT questions::text FROM student_figures") == kept_up
    assert "3 answers let go of" not in CliRunner().invoke(main, ["tidy", "--clock-is-right"], env=environ, catch_exceptions=False).stdout


def test_tables_are_written_anew_also_after_a_run_that_was_killed_before(
    fleet: Fleet, ada: Id, laptop: SyncedDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(fleet, laptop, ada, "old")
    laptop.sync()
    pass_days(fleet, DAYS + 1)
    let_go(fleet)  # and no more
    written = list[Any]()

    def rewrite(url: str, tables: Any, activity: Any) -> Rewritten:
        written.append(tables)
        return Rewritten(len(tables), False, ("carrel_replaced_1",))

    monkeypatch.setattr(tidying, "rewrite", rewrite)
    environ = {"DATABASE_URL": fleet.school.database.url}
    told = [CliRunner().invoke(main, ["tidy", "--clock-is-right"], env=environ, catch_exceptions=False).stderr for _ in range(2)]
    assert written == [answers.TABLES_WRITTEN]
    assert "carrel_replaced_1, a copy of before, still holds old answers" in told[0]
    assert "write-ahead logs" in told[0]
    assert told[1] == ""


def test_days_of_the_feed_are_noted_by_pushes_and_forgotten_when_they_are_of_no_use(fleet: Fleet, ada: Id, laptop: SyncedDevice) -> None:
    for _ in range(3):
        write(fleet, laptop, ada, "old")
        laptop.sync()
        fleet.server("DELETE FROM sync_hours")  # another hour
        pass_days(fleet, 200)
    assert fleet.server("SELECT count(DISTINCT head) FROM feed_days") == [(3,)]
    environ = {"DATABASE_URL": fleet.school.database.url, "CARREL_CLOUD_RETENTION_ANSWERS_DAYS": str(DAYS)}
    CliRunner().invoke(main, ["tidy", "--clock-is-right"], env=environ, catch_exceptions=False)
    assert held_at_school(fleet) == 3
    kept = fleet.server("SELECT DISTINCT d.head - g.through_no FROM feed_days d, answers_let_go g ORDER BY 1")
    assert kept == [(0,), (3,)], "the last of which the answers went, and those of which they did not"
