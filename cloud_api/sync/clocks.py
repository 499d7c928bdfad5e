"""Times of attempts that a wrong clock wrote: corrected when they are stored, and told to the device (docs/protocol.md, "Versions and clocks").

A correction is decided once, when the attempt is stored; whoever sends the attempt again is told the stored one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any

from cloud_api.sync.batch import DecodedRun
from domain.device_clock import RIGHT, Correction, answer_corrections, carried_corrections, corrected_ms, corrections
from domain.wire import ClockReading

# [first seq, last seq, ms to add, doubtful], as in domain.wire.PushAnswer
CorrectionRange = tuple[int, int, int, bool]
_CORRECTED = "question_attempts"


def judge_clocks(runs: Iterable[DecodedRun], reading: ClockReading, server_ms: int, *, carried: bool = False) -> None:
    """Works out for every operation of the runs what was wrong with the device's clock when it was written.

    `carried` says that the reading came by stick: then `server_ms`, its arrival, is not when it was taken.
    """
    judge = carried_corrections if carried else corrections
    for run in runs:
        run.corrections = judge(reading, server_ms, run.wall_ms, run.mono_ms, run.boots)


def corrected_columns(run: DecodedRun, places: Sequence[int]) -> Mapping[str, list[Any]]:
    """The columns that hold the corrections of a run's rows; none while all times are right, or for tables whose times nobody corrects."""
    if (found := _of_answers(run, places)) is None:
        return {}
    answered: list[Any] = run.fields["answered_at_ms"]
    return {
        "corrected_at_ms": [corrected_ms(answered[i], correction) for i, correction in zip(places, found, strict=True)],
        "time_doubtful": [correction.doubtful or None for correction in found],
    }


def _of_answers(run: DecodedRun, places: Sequence[int]) -> Sequence[Correction] | None:
    """What is to be added to the times of a run's answers; None for right times, and for tables whose times nobody corrects."""
    if run.table_name != _CORRECTED or not places:
        return None
    answered: list[Any] = run.fields["answered_at_ms"]
    clocks = run.corrections and [run.corrections[i] for i in places]
    return answer_corrections([answered[i] for i in places], [run.wall_ms[i] for i in places], clocks)


def told_corrections(run: DecodedRun, places: Sequence[int]) -> list[CorrectionRange]:
    """What the device is to be told of the rows that were stored just now."""
    if (found := _of_answers(run, places)) is None:
        return []
    return _ranges((run.first_seq + i, correction) for i, correction in zip(places, found, strict=True))


def stored_correction(seq: int, row: Mapping[str, Any]) -> list[CorrectionRange]:
    """What the device is to be told of a row that was here already."""
    corrected, doubtful = row.get("corrected_at_ms"), bool(row.get("time_doubtful"))
    if corrected is None and not doubtful:
        return []
    return [(seq, seq, 0 if corrected is None else corrected - row["answered_at_ms"], doubtful)]


def _ranges(found: Iterable[tuple[int, Correction]]) -> list[CorrectionRange]:
    """Neighbouring operations with equal corrections made one range; right times are left out."""
    ranges = []
    wrong = (pair for pair in found if pair[1] != RIGHT)
    for (_, correction), group in groupby(enumerate(wrong), key=lambda item: (item[1][0] - item[0], item[1][1])):
        seqs = [seq for _, (seq, _) in group]
        ranges.append((seqs[0], seqs[-1], correction.delta_ms, correction.doubtful))
    return ranges
