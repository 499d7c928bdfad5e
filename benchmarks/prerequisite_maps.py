"""Syllabi for simulated learners: concepts with weights and prerequisites, drawn at random or read from a file."""

from __future__ import annotations

import csv
import random
from collections import defaultdict
from collections.abc import Sequence
from math import exp
from pathlib import Path

from domain.learning.planner import ConceptNode


def drawn_map(dice: random.Random, concepts: int) -> list[ConceptNode]:
    """A map like those of real courses: most concepts rest on one to three of those shortly before them, some on none."""
    ids = [f"c{n:03}" for n in range(concepts)]
    nodes = []
    for n, concept in enumerate(ids):
        nearby = ids[max(0, n - 15) : n]
        needs = dice.sample(nearby, min(len(nearby), dice.choice((0, 1, 1, 2, 2, 3))))
        nodes.append(ConceptNode(concept, exp(dice.gauss(0, 0.8)), tuple(sorted(needs))))
    return _to_one(nodes)


def read_map(path: Path, dice: random.Random, concepts: int) -> list[ConceptNode]:
    """A part of a real map (CSV with `concept_id` or `topic_id`, and a column of prerequisites), closed under prerequisites; weights are drawn."""
    needs: dict[str, set[str]] = defaultdict(set)
    with path.open(encoding="utf-8", newline="") as file:
        for concept, prerequisite in (list(line.values())[:2] for line in csv.DictReader(file)):
            needs[concept].add(prerequisite)
    chosen: set[str] = set()
    for goal in dice.sample(sorted(needs), len(needs)):
        below = _below(goal, needs)
        if len(chosen | below) <= concepts:
            chosen |= below
    return _to_one([ConceptNode(c, exp(dice.gauss(0, 0.8)), tuple(sorted(needs.get(c, ())))) for c in sorted(chosen)])


def _below(goal: str, needs: dict[str, set[str]]) -> set[str]:
    found, todo = set(), [goal]
    while todo:
        concept = todo.pop()
        if concept not in found:
            found.add(concept)
            todo += needs.get(concept, ())
    return found


def _to_one(nodes: Sequence[ConceptNode]) -> list[ConceptNode]:
    """The weights as shares of the exam."""
    total = sum(node.weight for node in nodes)
    return [ConceptNode(node.id, node.weight / total, node.prerequisites) for node in nodes]
