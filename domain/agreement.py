"""Whether device and server hold the same rows: what is summed, how two sums are judged, and what follows (docs/protocol.md, "Agreement").

Both sides sum, for each table of each scope, a hash of every row and the version that it has. A hash is the first 64 bits of an MD5, which is not
there to keep anybody out: SQLite and PostgreSQL both have it, and what it must notice is accidents. Sums are taken mod 2^64, so that neither
side has to sort; two rows that are exchanged, lost or stale change them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

# A sum that differs is asked for in so many parts, by the last byte of the row's id, which is random in every id of ours.
BUCKETS = 256
HASH_MODULUS = 2**64
_HASH_BYTES = 8
# How often the sides are compared when nothing is wrong, and how soon again when something is.
EVERY_MS = 24 * 3600 * 1000
AGAIN_MS = 15 * 60 * 1000


class Sum(NamedTuple):
    """So many rows, and the sum of their hashes mod 2^64."""

    rows: int = 0
    total: int = 0


class Outcome(StrEnum):
    """What one comparison of one table of one scope says."""

    MATCH = "match"
    MISMATCH = "mismatch"
    INCONCLUSIVE = "inconclusive"  # the scope moved past the cursor meanwhile


class Result(StrEnum):
    """What a whole verification came to, and what `status` shows of it."""

    MATCH = "match"
    REPAIRED = "repaired"  # it differed, and after the repair it does not any more
    MISMATCH = "mismatch"  # it differs still
    INCONCLUSIVE = "inconclusive"


def row_hash(row_id: str, feed_no: int, content: str | None = None) -> int:
    """The hash of a row's version, in [0, 2^64): of `id:feed_no`, or of `id:feed_no:content` where contents are compared too."""
    text = f"{row_id}:{feed_no}" if content is None else f"{row_id}:{feed_no}:{content}"
    return int.from_bytes(hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()[:_HASH_BYTES], "big")


def content_text(values: Sequence[Any]) -> str:
    """A row's content as one text: its values in the registry's order, as they travel, and the keys of objects sorted."""
    return json.dumps(list(values), ensure_ascii=False, separators=(",", ":"), sort_keys=True)


def bucket_of(row_id: str) -> int:
    """The part of a table's sum that a row belongs to."""
    return int(row_id[-2:], 16)


def sums_by_bucket(versions: Iterable[tuple[str, int]]) -> list[Sum]:
    """The BUCKETS sums of rows, given as (id, hash)."""
    rows, totals = [0] * BUCKETS, [0] * BUCKETS
    for row_id, value in versions:
        bucket = bucket_of(row_id)
        rows[bucket] += 1
        totals[bucket] += value
    return [Sum(count, total % HASH_MODULUS) for count, total in zip(rows, totals, strict=True)]


def compare(ours: Sum, theirs: Sum, moved: bool) -> Outcome:
    """`moved`: the server has versions beyond the cursor up to which ours were pulled, so that a difference says nothing."""
    if moved:
        return Outcome.INCONCLUSIVE
    return Outcome.MATCH if ours == theirs else Outcome.MISMATCH


def differing_buckets(ours: Sequence[Sum], theirs: Sequence[Sum]) -> list[int]:
    """The numbers of the buckets whose sums differ."""
    return [number for number, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b]


@dataclass(frozen=True, slots=True)
class Differences:
    """Ids of rows: `missing` here, `stale` here (another version or content), and here although the server has them not (`extra`)."""

    missing: tuple[str, ...]
    stale: tuple[str, ...]
    extra: tuple[str, ...]

    @property
    def count(self) -> int:
        return len(self.missing) + len(self.stale) + len(self.extra)


def differences(ours: Mapping[str, int], theirs: Mapping[str, int]) -> Differences:
    """How our rows, given as id to hash, differ from the server's."""
    return Differences(
        missing=tuple(sorted(theirs.keys() - ours.keys())),
        stale=tuple(sorted(row_id for row_id, value in ours.items() if theirs.get(row_id, value) != value)),
        extra=tuple(sorted(ours.keys() - theirs.keys())),
    )


def result_of(outcomes: Iterable[Outcome], repaired: bool) -> Result:
    """What the last comparison of every table and scope comes to; `repaired`: rows were put right before it."""
    seen = set(outcomes)
    if Outcome.MISMATCH in seen:
        return Result.MISMATCH
    if Outcome.INCONCLUSIVE in seen:
        return Result.INCONCLUSIVE
    return Result.REPAIRED if repaired else Result.MATCH


def result_to_keep(before: str | None, now: Result) -> Result:
    """What `status` shows from now on: a mismatch stays until a comparison that said something has not found it any more."""
    return Result.MISMATCH if now is Result.INCONCLUSIVE and before == Result.MISMATCH else now


def is_due(now_ms: int, last_ms: int | None, last_result: str | None) -> bool:
    """Whether it is time for the next comparison. A clock that was set back makes it due."""
    pause_ms = EVERY_MS if last_result in (Result.MATCH, Result.REPAIRED) else AGAIN_MS
    return last_ms is None or not 0 <= now_ms - last_ms < pause_ms
