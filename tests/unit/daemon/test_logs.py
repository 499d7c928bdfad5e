from __future__ import annotations

import json
import logging
import sys

from daemon.logs import JsonFormat, TextFormat, fields


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
