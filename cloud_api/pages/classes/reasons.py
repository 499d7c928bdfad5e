"""Reasons for help put together by rule, so that one that holds for sixty concepts is one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cloud_api.analytics.rows import StudentInNeed
from domain.learning.analytics.needs_help import Reason, Rule

# Sentences shown of one rule; the CSV has all.
SENTENCES_MAX = 2


@dataclass(frozen=True, slots=True)
class RuleFound:
    """A rule that applies to a student: its first sentences, and for how many more concepts it holds."""

    rule: Rule
    sentences: Sequence[str]
    more: int


def rule_counts(needy: Iterable[StudentInNeed]) -> list[tuple[Rule, int]]:
    """For how many students each rule applies, most first."""
    return Counter(rule for one in needy for rule in {reason.rule for reason in one.reasons}).most_common()


def by_rule(reasons: Iterable[Reason]) -> list[RuleFound]:
    """The reasons by rule, in the order in which rules first come."""
    found: dict[Rule, list[str]] = {}
    for reason in reasons:
        found.setdefault(reason.rule, []).append(reason.sentence)
    return [RuleFound(rule, said[:SENTENCES_MAX], max(0, len(said) - SENTENCES_MAX)) for rule, said in found.items()]
