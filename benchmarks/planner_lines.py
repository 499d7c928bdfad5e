"""`python -m benchmarks.planner_lines`: study plans for a simulated learner, asked for line by line.

In: `{"op":"start","exam_day":60,"concepts":[{"id":…,"weight":0.01,"prerequisites":[…]}]}`, not answered;
`{"op":"plan","day":3,"minutes":45,"attempts":[{"concept":…,"day":2,"correct":1},…]}`, answered by `{"plan":[{"concept":…,"minutes":6},…]}`.
Another `start` begins with another learner. `attempts` are those since the last plan, or all so far. Concepts are taught in the order of their list, which
breaks ties. What a plan foresaw for the next day is kept in that day's plan where little is lost by it; asked again about a day, the answer is the same.

Every `plan` that can be read as JSON is answered, if need be by an empty plan. Other lines that say nothing are passed over, with a note on
standard error.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

import click

from benchmarks.line_protocol import fraction, listen, message_of, whole
from benchmarks.planner_stream import Answer, PlannerStream
from domain.learning.plan import ConceptNode


class Listener:
    """One line in, at most one line out."""

    def __init__(self) -> None:
        self._stream = PlannerStream((), None)
        self._ids: dict[str, Any] = {}

    def answer(self, line: bytes) -> str | None:
        """What to write in answer to a line; None for nothing. Raises ValueError for a line that says nothing."""
        message = message_of(line)
        if message.get("op") == "start":
            self._start(message)
            return None
        if message.get("op") != "plan":
            raise ValueError("neither start nor plan")
        day, minutes = whole(message.get("day"), 0), whole(message.get("minutes"), 0)
        items = self._stream.plan(day, minutes, self._answers(message.get("attempts"), day))
        return json.dumps({"plan": [{"concept": self._ids[item.concept], "minutes": item.minutes} for item in items]})

    def _start(self, message: dict[str, Any]) -> None:
        self._ids = {}
        nodes: list[ConceptNode] = []
        for concept in _objects(message.get("concepts")):
            name = _key(concept.get("id"))
            if name not in self._ids:
                self._ids[name] = concept.get("id")
                weight = max(0.0, fraction(concept.get("weight"), 0.0))
                nodes.append(ConceptNode(name, weight, _keys(concept.get("prerequisites")), position=len(nodes)))
        exam = message.get("exam_day")
        self._stream = PlannerStream(nodes, None if exam is None else whole(exam, 0))

    def _answers(self, attempts: Any, today: int) -> Iterator[Answer]:
        for attempt in _objects(attempts):
            yield Answer(
                _key(attempt.get("concept")), fraction(attempt.get("day"), today - 1), fraction(attempt.get("correct"), 0.0) >= 0.5
            )


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    return (item for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def _keys(value: Any) -> tuple[str, ...]:
    return tuple(map(_key, value)) if isinstance(value, list) else ()


def _key(value: Any) -> str:
    """An id as the planner takes it: numbers may be ids, too."""
    return value if isinstance(value, str) else json.dumps(value)


@click.command()
def main() -> None:
    """Answer requests for study plans, line by line, from standard input to standard output."""
    listen(sys.stdin.buffer, sys.stdout, Listener().answer)


if __name__ == "__main__":
    main()
