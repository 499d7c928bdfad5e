"""`python -m benchmarks.mastery_lines`: predictions of the mastery engine, asked for line by line.

In: `{"op":"predict","student":…,"question":…,"skills":[…],"timestamp":seconds or null,"order":n}`, answered by `{"p":0.73}`;
`{"op":"observe", … the same …,"correct":0 or 1,"response_time_ms":…}`, not answered. A cold start, but for the attempts of `--fit`.

Every `predict` that can be read as JSON is answered, whatever it lacks. Other lines that say nothing are passed over, with a note on standard error.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from benchmarks.attempt_log import answer, read_log, skills, time_ms
from benchmarks.line_protocol import listen, message_of, number
from benchmarks.mastery_stream import MasteryStream
from benchmarks.told_places import ToldPlaces
from domain.learning.attempts import QuestionRef


class Listener:
    """One line in, at most one line out."""

    def __init__(self, stream: MasteryStream) -> None:
        self._stream = stream
        self._places: dict[str, ToldPlaces] = {}

    def answer(self, line: bytes) -> str | None:
        """What to write in answer to a line; None for nothing. Raises ValueError for a line that says nothing."""
        message = message_of(line)
        student, question = _name(message.get("student")), QuestionRef(_name(message.get("question")), skills(message.get("skills")))
        at_ms = time_ms(message.get("timestamp"))
        places = self._places.get(student) or ToldPlaces()
        if message.get("op") == "predict":
            return json.dumps({"p": self._stream.predict(student, question, places.time(at_ms))})
        correct = answer(message.get("correct"))
        if message.get("op") != "observe" or correct is None:
            raise ValueError("neither predict nor observe with an answer")
        told = number(message.get("order"))
        place = places.take(None if told is None else int(told), at_ms)
        self._places[student] = places
        self._stream.observe(student, place.order, question, place.at_ms, correct)
        return None


def _name(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@click.command()
@click.option(
    "--fit",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Attempts of other students (CSV, may be gzipped), from which the table of rates and the weights are made.",
)
def main(fit: Path | None) -> None:
    """Answer predictions about students, line by line, from standard input to standard output."""
    stream = MasteryStream()
    if fit is not None:
        log = read_log(fit)
        if not log:
            click.echo(f"no attempts in {fit}: it needs the columns student, question and correct", err=True)
        stream.prepare(log)
    listen(sys.stdin.buffer, sys.stdout, Listener(stream).answer)


if __name__ == "__main__":
    main()
