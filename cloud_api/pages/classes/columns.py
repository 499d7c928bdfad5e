"""Which columns a heat map shows: the topics of one step of the course, or concepts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from cloud_api.analytics.rows import ConceptColumn, Overview, StudentRow, TopicColumn
from domain.errors import NotFound
from domain.learning.analytics.heat_map import Cell


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `opens`: it is a topic, with columns of its own."""

    id: str
    title: str
    opens: bool


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns chosen; `path` are the topics that lead to them, outermost first. `kind` is `topics` or `concepts`.

    `parts` says of concepts of which topics they are: (title, how many columns), one after the other; empty for topics.
    """

    kind: str
    path: Sequence[Column]
    shown: Sequence[Column]
    parts: Sequence[tuple[str, int]] = ()

    def cells(self, row: StudentRow) -> Mapping[str, Cell]:
        """The student's cells, of which these columns pick theirs."""
        return row.topic_cells if self.kind == "topics" else row.cells


def columns_of(overview: Overview, topic_id: str | None, *, concepts: bool) -> Columns:
    """The parts of a topic (None: of the course), or its concepts when it has no parts or `concepts` are asked for.

    A course that is a single topic is opened at once. Raises NotFound for a topic in which nobody has met anything.
    """
    topics = {topic.id: topic for topic in overview.topics}
    if topic_id is not None and topic_id not in topics:
        raise NotFound("There is nothing about this topic yet.")
    parts = _parts(topics, topic_id)
    while topic_id is None and len(parts) == 1 and (inside := _parts(topics, parts[0].id)):
        parts = inside
    path = [_opening(topic) for topic in _path(topics, topic_id)]
    if parts and not concepts:
        return Columns("topics", path, [_opening(topic) for topic in parts])
    inside_ids = None if topic_id is None else set(topics[topic_id].concept_ids)
    found = [concept for concept in overview.concepts if inside_ids is None or concept.id in inside_ids]
    places = {topic: place for place, topic in enumerate(_in_order(topics, None))}
    found.sort(key=lambda concept: min((places[t] for t in concept.topic_ids if t in places), default=len(places)))
    part_of = {concept: part.title for part in reversed(parts) for concept in part.concept_ids}
    runs = groupby(part_of.get(concept.id, "") for concept in found)
    return Columns(
        "concepts", path, [_plain(concept) for concept in found], [(title, len(list(run))) for title, run in runs] if parts else ()
    )


def _in_order(topics: Mapping[str, TopicColumn], topic_id: str | None) -> Iterator[str]:
    """The topics below one, each before its parts, as they are taught."""
    for part in _parts(topics, topic_id):
        yield part.id
        yield from _in_order(topics, part.id)


def _parts(topics: Mapping[str, TopicColumn], topic_id: str | None) -> list[TopicColumn]:
    return [t for t in topics.values() if (t.parent_id if t.parent_id in topics else None) == topic_id]


def _path(topics: Mapping[str, TopicColumn], topic_id: str | None) -> list[TopicColumn]:
    path: list[TopicColumn] = []
    while topic_id is not None and topic_id in topics and topics[topic_id] not in path:
        path.insert(0, topics[topic_id])
        topic_id = topics[topic_id].parent_id
    return path


def _opening(topic: TopicColumn) -> Column:
    return Column(topic.id, topic.title, opens=True)


def _plain(concept: ConceptColumn) -> Column:
    return Column(concept.id, concept.title, opens=False)
