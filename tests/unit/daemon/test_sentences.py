from __future__ import annotations

from typing import Any

import pytest

from daemon.sentences import ago, round_sentence, span, state_sentence, status_lines, verify_sentence
from domain.agreement import Result

NOW_MS = 1_769_847_300_000
STATUS: dict[str, Any] = {
    "address": "http://127.0.0.1:8750", "pid": 7, "school_name": "Hill School", "state": "synced", "reason": None, "message": None,
    "pending": 0, "rejected": 0, "last_contact_ms": NOW_MS - 40_000, "next_attempt_in_s": None, "notices": [],
}  # fmt: skip
ROUND: dict[str, Any] = {"finished": True, "outcome": "done", "message": None, "pushed": 3, "pulled": 5, "rejected": 0}


def test_a_device_that_is_up_to_date_says_so_in_three_facts() -> None:
    assert status_lines(STATUS, NOW_MS).splitlines() == [
        "Carrel runs at http://127.0.0.1:8750 (process 7).",
        "This is a device of Hill School.",
        "Everything is at school, and everything from school is here.",
        "The school's server was last reached 40 s ago.",
    ]


@pytest.mark.parametrize("state", ["not_enrolled", "waiting", "unknown", "pending", "rejected", "differs"])
def test_no_other_state_is_called_everything_at_school(state: str) -> None:
    assert "Everything is at school" not in state_sentence(STATUS | {"state": state, "pending": 2, "rejected": 1})


def test_waiting_says_why_how_much_and_until_when() -> None:
    answer = STATUS | {"state": "waiting", "message": "The school's server cannot be reached.", "pending": 12, "next_attempt_in_s": 95.0}
    assert state_sentence(answer) == ("Waiting: The school's server cannot be reached. 12 changes are waiting here. Next attempt in 2 min.")


def test_refused_changes_are_named_in_every_state() -> None:
    for state in ("synced", "pending", "rejected", "waiting"):
        assert status_lines(STATUS | {"state": state, "rejected": 2}, NOW_MS).count("The school refused 2 changes") == 1


@pytest.mark.parametrize("result", list(Result))
def test_the_last_comparison_is_told_with_its_result(result: Result) -> None:
    lines = status_lines(STATUS | {"last_verify_ms": NOW_MS - 7_200_000, "last_verify_result": result.value}, NOW_MS).splitlines()
    (line,) = [line for line in lines if line.startswith("Both sides were last compared 2 h ago:")]
    assert ("agree" in line) == (result in (Result.MATCH, Result.REPAIRED))


def test_a_comparison_says_what_it_came_to() -> None:
    answer = {"finished": True, "result": "match", "message": None, "places": 12, "differed": 0, "repaired": 0, "kept": 0}
    assert verify_sentence(answer) == "This device and the school agree: 12 tables and scopes compared."
    assert "agree again: 12 tables and scopes compared, 3 rows put right" in verify_sentence(answer | {"result": "repaired", "repaired": 3})
    assert "2 rows are here and not at school; they are kept." in verify_sentence(answer | {"result": "mismatch", "kept": 2})
    one = verify_sentence(answer | {"result": "mismatch", "places": 1, "repaired": 1, "kept": 1})
    assert "1 table and scope compared, 1 row put right. 1 row is here and not at school; it is kept." in one
    assert verify_sentence(answer | {"result": "inconclusive", "message": "No way."}) == "Nothing can be said: No way."
    assert "background" in verify_sentence(answer | {"finished": False, "result": None})


def test_what_a_person_should_know_stands_at_the_end() -> None:
    assert status_lines(STATUS | {"notices": ["A restart is needed."]}, NOW_MS).endswith("\nNote: A restart is needed.")


def test_a_round_says_what_it_moved() -> None:
    assert round_sentence(ROUND) == "Synced: 3 sent, 5 received."
    assert "refused one change" in round_sentence(ROUND | {"rejected": 1})


def test_a_round_that_failed_says_that_everything_stays_queued() -> None:
    sentence = round_sentence(ROUND | {"outcome": "offline", "message": "The school's server cannot be reached."})
    assert "The school's server cannot be reached. Everything stays queued here." in sentence


def test_a_round_that_goes_on_says_so() -> None:
    assert "goes on in the background" in round_sentence(ROUND | {"finished": False, "outcome": None})


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 s"), (59, "59 s"), (60, "1 min"), (3599, "60 min"), (7200, "2 h"), (5 * 86_400, "5 days")]
)
def test_spans_are_told_in_the_unit_that_fits(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_a_clock_that_went_back_makes_the_last_contact_just_now() -> None:
    assert ago(-3_600_000) == "just now"
