"""Prerequisites as a plan can respect them: without circles, and without those that are not in the syllabus."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from domain.learning.attempts import concept_set


@dataclass(frozen=True, slots=True)
class IgnoredPrerequisite:
    """A prerequisite that is not respected, as it closes a circle or is not in the syllabus (`why`: `circle`, `unknown`)."""

    concept_id: str
    prerequisite_id: str
    why: str


def without_circles(stated: Mapping[str, tuple[str, ...]]) -> tuple[dict[str, list[str]], tuple[IgnoredPrerequisite, ...]]:
    """The prerequisites to respect, of each concept after those of its own; and those to ignore.

    `stated` is keyed by every concept of the syllabus. Depth first by id, on a stack of its own: a syllabus may be deeper than Python's
    recursion limit.
    """
    needs: dict[str, list[str]] = {}
    ignored: list[IgnoredPrerequisite] = []
    for root in sorted(stated):
        path: dict[str, tuple[list[str], Iterator[str]]] = {} if root in needs else {root: _entered(stated[root])}
        while path:
            concept, (kept, rest) = next(reversed(path.items()))
            prerequisite = next(rest, None)
            if prerequisite is None:
                needs[concept] = kept
                del path[concept]
            elif prerequisite not in stated or prerequisite in path:
                ignored.append(IgnoredPrerequisite(concept, prerequisite, "circle" if prerequisite in path else "unknown"))
            else:
                kept.append(prerequisite)
                if prerequisite not in needs:
                    path[prerequisite] = _entered(stated[prerequisite])
    return needs, tuple(ignored)


def _entered(prerequisites: tuple[str, ...]) -> tuple[list[str], Iterator[str]]:
    return [], iter(concept_set(prerequisites))
