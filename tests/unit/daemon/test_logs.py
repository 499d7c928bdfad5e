from __future__ import annotations

import json
import logging
import sys
import threading

import pytest

from daemon.process.logs import JournalFormat, JsonFormat, TextFormat, bound, bound_value, set_level, settings_in_force, start
from loglines.parts import fields


def _record(message: str, **values: object) -> logging.LogRecord:
    record = logging.LogRecord("daemon.jobs", logging.WARNING, "jobs.py", 1, message, None, None)
    record.created, record.msecs = 1_769_847_300.123, 123.0
    record.__dict__.update(fields(**values))
    return record


def test_a_line_of_text_has_time_level_name_sentence_and_fields() -> None:
    line = TextFormat().format(_record("round ended", pushed=3, state="offline"))
    assert line == "2026-01-31T08:15:00.123Z warning daemon.jobs round ended pushed=3 state=offline"


def test_values_that_could_be_misread_are_quoted() -> None:
    assert TextFormat().format(_record("x", error='a "b"\nc', empty="")).endswith(r'x error="a \"b\"\nc" empty=""')


def test_a_sentence_never_breaks_the_line() -> None:
    assert "\n" not in TextFormat().format(_record("one\ntwo\r"))


def test_a_line_of_json_is_one_object() -> None:
    line = JsonFormat().format(_record("round ended", pushed=3))
    assert "\n" not in line
    assert json.loads(line) == {
        "at": "2026-01-31T08:15:00.123Z", "level": "warning", "logger": "daemon.jobs", "message": "round ended", "pushed": 3,
    }  # fmt: skip


def test_an_unexpected_error_keeps_its_way_and_its_kind_in_both_forms_and_not_its_message() -> None:
    record = _record("job failed", job="sync")
    said = "the answer of Ada"
    try:
        try:
            raise OSError(28, said)
        except OSError as error:
            raise ValueError(said) from error
    except ValueError:
        record.exc_info = sys.exc_info()
    for traceback in (TextFormat().format(record), json.loads(JsonFormat().format(record))["traceback"]):
        assert "Traceback: ValueError\n" in traceback
        assert "caused by OSError 28\n" in traceback
        assert "test_logs.py" in traceback
        assert said not in traceback.replace(f'said = "{said}"', "")


def test_what_is_bound_stands_in_every_line_of_the_block_and_in_none_after_it() -> None:
    with bound(round="r1"):
        with bound(request="q1"):
            assert TextFormat().format(_record("x", pushed=1)).endswith(" x pushed=1 round=r1 request=q1")
        assert json.loads(JsonFormat().format(_record("x")))["round"] == "r1"
        assert bound_value("round") == "r1"
    assert TextFormat().format(_record("x")).endswith(" x")
    assert bound_value("round") is None


def test_what_one_thread_has_bound_is_in_no_line_of_another() -> None:
    lines = []
    with bound(request="q1"):
        other = threading.Thread(target=lambda: lines.append(TextFormat().format(_record("x"))))
        other.start()
        other.join()
    assert lines[0].endswith(" x")


def test_the_journal_gets_the_level_as_its_number_and_no_time() -> None:
    assert JournalFormat().format(_record("round ended", pushed=3)) == "<4>daemon.jobs round ended pushed=3"
    record = _record("job failed")
    record.levelno = logging.ERROR
    try:
        raise OSError(28, "x")
    except OSError:
        record.exc_info = sys.exc_info()
    lines = JournalFormat().format(record).splitlines()
    assert lines[0] == "<3>daemon.jobs job failed"
    assert lines[1] == "<3>Traceback: OSError 28"
    assert all(line.startswith("<3>") for line in lines)


@pytest.mark.parametrize("format_", ["text", "json", "journal"])
def test_a_process_that_is_started_can_write_to_the_same_log(format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", root.handlers[:])
    level = root.level
    try:
        start("warning", format_)
        assert settings_in_force() == ("warning", format_)
        set_level("debug")
        assert settings_in_force() == ("debug", format_)
    finally:
        root.setLevel(level)
