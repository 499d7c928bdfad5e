"""Numbers with what they count."""

from __future__ import annotations

from domain.counted import counted, in_words


def test_one_thing_is_named_as_one_and_everything_else_as_several() -> None:
    assert [counted(n, "answer") for n in (0, 1, 2, 12_345)] == ["0 answers", "1 answer", "2 answers", "12,345 answers"]
    assert [counted(n, "person", "people") for n in (1, 3)] == ["1 person", "3 people"]


def test_inside_a_sentence_one_is_a_word() -> None:
    assert [in_words(n, "other change") for n in (1, 2)] == ["one other change", "2 other changes"]
