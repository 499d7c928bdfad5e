"""The line protocol of the mastery engine: every question is answered, whatever the lines hold."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.attempt_log import answer, log_of, read_log
from benchmarks.line_protocol import listen
from benchmarks.mastery_lines import Listener
from benchmarks.mastery_stream import CHANCE_MAX, LATE_BY_MAX, MasteryStream
from domain.learning.attempts import FoldedAttempt, QuestionRef, in_order
from domain.learning.features import StudentState
from domain.learning.mastery import Rates, fold, predict

ROOT = Path(__file__).parents[3]
RUN_MAX_S = 60


def asked(op: str = "predict", **other: Any) -> dict[str, Any]:
    return {"op": op, "student": "s", "question": "q", "skills": ["k"], "timestamp": None, "order": 1, **other}


def answers_to(*messages: Any, stream: MasteryStream | None = None) -> list[float]:
    """The chances given in answer to these messages, or raw lines."""
    lines = [m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages]
    out = io.StringIO()
    listen(lines, out, Listener(stream or MasteryStream()).answer)
    return [json.loads(line)["p"] for line in out.getvalue().splitlines()]


def test_the_first_chance_is_that_of_the_models_empty_state() -> None:
    assert answers_to(asked()) == [pytest.approx(predict(StudentState(Rates.empty()), QuestionRef("q", ("k",)), None))]


def test_answers_are_folded_by_the_model_itself() -> None:
    """Without the school's own table and weights, what is left is the plain fold."""
    history = [(n, n % 3 > 0, 1000 + 90_000 * n) for n in range(12)]
    observed = [asked("observe", order=n, correct=int(right), timestamp=at) for n, right, at in history]
    found = answers_to(*observed, asked(order=13, timestamp=2_000_000), stream=MasteryStream(refits=False, counts=False))
    folded = [FoldedAttempt(f"{n:03}", at * 1000, "d", "q", ("k",), right) for n, right, at in history]
    assert found == [pytest.approx(predict(fold(folded, Rates.empty()), QuestionRef("q", ("k",)), 2_000_000_000))]


def test_an_attempt_that_comes_late_is_put_in_its_place() -> None:
    observed = [asked("observe", order=n, correct=int(n > 4)) for n in range(9)]
    shuffled = random.Random(1).sample(observed, 9)
    plain = {"refits": False, "counts": False}
    assert answers_to(*observed, asked(), stream=MasteryStream(**plain)) == answers_to(*shuffled, asked(), stream=MasteryStream(**plain))


def test_other_students_answers_make_a_question_hard_before_one_has_met_it() -> None:
    others = [asked("observe", student=f"s{n}", correct=0) for n in range(150)]
    before, after = answers_to(asked(student="new"), *others, asked(student="new"))
    assert after < before - 0.3


def test_nothing_is_known_of_an_answer_before_it_is_given() -> None:
    """Asking changes nothing, however often."""
    steps = [asked("observe", order=n, correct=n % 2) for n in range(20)]
    once = answers_to(*steps, asked(order=20))
    often = answers_to(*(m for step in steps for m in (asked(student="other", order=step["order"]), asked(), step)), asked(order=20))
    assert often[-1] == once[0]


HOSTILE: list[Any] = [
    b"", b"\n", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 200_000, b'{"op":"predict","order":' + b"9" * 5_000 + b"}",
    {}, {"op": "observe"}, {"op": "other"}, asked("observe", correct=None), asked("observe", correct="x"), {"op": ["predict"]},
]  # fmt: skip
STRANGE = [
    {"op": "predict"}, asked(skills=None), asked(skills=[]), asked(skills="a;b"), asked(skills=[None, 3, ["x"]]), asked(skills=7),
    asked(skills=[f"k{n}" for n in range(2_000)]), asked(student=None, question=None), asked(student={"a": 1}, question=["q"]),
    asked(timestamp=1e300), asked(timestamp=-1e300), asked(timestamp="soon"), asked(timestamp=True), asked(order=None), asked(order="x"),
    asked(order=1e300), asked(timestamp=10**400), b'{"op":"predict","timestamp":NaN,"order":-Infinity,"student":"s"}',
]  # fmt: skip


def test_what_says_nothing_is_passed_over_and_every_question_is_answered(capsys: pytest.CaptureFixture[str]) -> None:
    found = answers_to(*HOSTILE, *STRANGE, asked())
    assert len(found) == len(STRANGE) + 1
    assert all(0 < p < 1 for p in found)
    assert capsys.readouterr().err.count("passed over") == len(HOSTILE) - 2


def test_strange_answers_are_taken_in_too() -> None:
    observed = [{**m, "op": "observe", "correct": n % 2} for n, m in enumerate(STRANGE) if isinstance(m, dict)]
    found = answers_to(*observed, *STRANGE)
    assert len(found) == len(STRANGE) and all(0 < p < 1 for p in found)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(-9, 9), st.booleans(), st.none() | st.floats()), max_size=30))
def test_any_order_and_any_clock_give_chances(steps: list[tuple[str, int, bool, float | None]]) -> None:
    messages = [asked(op, student=s, order=n, timestamp=t, correct=int(y)) for s, n, y, t in steps for op in ("predict", "observe")]
    found = answers_to(*messages)
    assert len(found) == len(steps) and all(0 < p < 1 for p in found)


def test_a_log_in_no_order_is_taken_in_and_no_more_of_it_is_kept_than_late_answers_need() -> None:
    stream = MasteryStream(refits=False, counts=False)
    answers_to(*(asked("observe", order=-n, correct=n % 2) for n in range(500)), stream=stream)
    (history,) = stream._students.values()
    assert history.state.answers == 500
    assert len(history) < 2 * LATE_BY_MAX


def test_times_in_milliseconds_and_microseconds_are_taken_as_such() -> None:
    found = [
        answers_to(asked("observe", timestamp=1.6e9 * unit, correct=1), asked(timestamp=(1.6e9 + 864_000) * unit)) for unit in (1, 1e3, 1e6)
    ]
    assert found[0] == found[1] == found[2] != answers_to(asked("observe", correct=1), asked())


YEAR_S = 365 * 86_400


def chance_after(*times: float | None) -> list[float]:
    """After an answer a day, the last of which is asked about, by clocks that say this."""
    observed = [asked("observe", order=n, timestamp=at, correct=n % 2) for n, at in enumerate(times[:-1])]
    return answers_to(*observed, asked(order=len(times), timestamp=times[-1]))


@pytest.mark.parametrize("leap", [0, 1.6e9 + 10 * YEAR_S, 1.6e9 - 5 * 86_400, None])
def test_one_answer_with_a_wrong_time_counts_as_given_with_the_one_before(leap: float | None) -> None:
    days = [1.6e9 + 86_400 * n for n in range(9)]
    assert chance_after(*days[:5], leap, *days[6:]) == chance_after(*days[:5], days[4], *days[6:])


def test_a_clock_that_was_set_right_is_believed_from_the_second_answer_on() -> None:
    wrong, right = [86_400 * n for n in range(4)], [1.6e9 + 86_400 * n for n in range(4)]
    assert chance_after(*wrong, *right) == chance_after(*wrong, *(at - right[0] + wrong[-1] for at in right))


def test_numbers_that_begin_again_while_time_goes_on_say_nothing() -> None:
    on, again = (
        [asked("observe", order=o, timestamp=1.6e9 + 60 * n, correct=n % 2) for n, o in enumerate(orders)]
        for orders in (range(6), [0, 1, 2] * 2)
    )
    assert answers_to(*on, asked(timestamp=1.6e9 + 999)) == answers_to(*again, asked(timestamp=1.6e9 + 999))


def test_an_answer_may_be_said_in_words() -> None:
    assert [answer(value) for value in ("true", " False", True, "1", 0.5, "maybe", None)] == [True, False, True, True, True, None, None]


def test_nobody_is_beyond_a_slip_or_a_lucky_guess() -> None:
    for correct in (0, 1):
        (chance,) = answers_to(*(asked("observe", order=n, correct=correct) for n in range(1_500)), asked(order=2_000))
        assert 1 - CHANCE_MAX <= chance <= CHANCE_MAX
        assert abs(correct - chance) < 0.02


def written_log(path: Path, students: int = 12) -> Path:
    dice = random.Random(3)
    with gzip.open(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["source", "student", "order", "question", "skills", "correct", "response_time_ms", "timestamp"])
        for s in range(students):
            for n in reversed(range(40)):
                writer.writerow(["x", f"s{s}", n, f"q{n % 8}", "k1;k2" if n % 2 else "k1", int(dice.random() < (n % 8) / 8), "", ""])
        writer.writerows(
            [["x"], ["x", "", 1, "q", "", 1, "", ""], ["x", "s", "", "q", "", "maybe", "", ""], ["x", "s", "", "q", "", "1.0", "", "7"]]
        )
    return path


def test_a_log_is_read_in_the_students_order_and_lines_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    log = read_log(written_log(tmp_path / "log.csv.gz"))
    assert sorted(log) == ["s", *sorted(f"s{n}" for n in range(12))]
    assert [a.question_id for a in log["s3"]] == [f"q{n % 8}" for n in range(40)]
    assert log["s3"][1].concept_ids == ("k1", "k2")
    assert [(a.answered_at_ms, a.concept_ids, a.correct) for a in log["s"]] == [(7000, (), True)]


def test_the_order_of_a_log_holds_whatever_its_clocks_say() -> None:
    """The fit folds in canonical order, by time and id."""
    times = ["", "1600000000", "0", "", "1700000000", "1600000100", "5"]
    lines = [{"student": "s", "question": f"q{n}", "order": n, "correct": 1, "timestamp": at} for n, at in enumerate(times)]
    attempts = log_of(reversed(lines))["s"]
    assert [a.question_id for a in in_order(attempts)] == [a.question_id for a in attempts] == [f"q{n}" for n in range(7)]


def test_a_log_that_breaks_off_is_read_as_far_as_it_goes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = written_log(tmp_path / "log.csv.gz", students=300)
    broken = tmp_path / "broken.csv.gz"
    broken.write_bytes(whole.read_bytes()[:-20_000])
    assert 100 < len(read_log(broken)) < len(read_log(whole))
    assert "read no further" in capsys.readouterr().err


def test_a_log_may_begin_with_a_byte_order_mark_and_lack_columns(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("\ufeffstudent,question,correct\n1,7,TRUE\n1,8,0\n", encoding="utf-8")
    assert [(a.question_id, a.concept_ids, a.correct) for a in read_log(path)["1"]] == [("7", (), True), ("8", (), False)]


def test_the_program_prepares_itself_with_other_students_and_answers_each_line_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.mastery_lines", "--fit", str(written_log(tmp_path / "log.csv.gz"))]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        chances = []
        for question in ("q0", "q7"):
            process.stdin.write(json.dumps(asked(student="new", question=question, skills=["k1"])) + "\n")
            process.stdin.flush()
            chances.append(json.loads(process.stdout.readline())["p"])
        process.stdin.close()
        assert process.wait(RUN_MAX_S) == 0
    assert chances[0] < 0.5 < chances[1]
