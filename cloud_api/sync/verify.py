"""What the server holds, summed up for a device that wants to know whether it has the same (docs/protocol.md, "Agreement").

One snapshot answers a request. The server tells and the device compares: nothing here believes or changes anything. Hashes of versions are
summed by PostgreSQL; hashes of contents are made here, row by row as they stream by, because both sides must write a row down in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from cloud_api.devices.auth import Device, device_for, scopes_of
from cloud_api.sync.envelope import envelope_problems
from domain.agreement import BUCKETS, HASH_MODULUS, bucket_of, content_text, row_hash
from domain.blocks import TableBlock, encode_block
from domain.clock import Clock
from domain.errors import InvalidInput, Problem, SyncRefused
from domain.ids import is_id
from domain.registry import SCHEMA_VERSION, TABLES, Table
from domain.wire import (
    VERIFY_DETAILS,
    VERIFY_KEYS_MAX,
    VERIFY_PLACES_MAX,
    VERIFY_ROWS_MAX,
    Place,
    PlaceSums,
    Tombstone,
    VerifyAnswer,
    VerifyRequest,
)

# Rows that are fetched at a time where contents are hashed here.
STREAM_ROWS = 2_000

# domain/agreement.py, row_hash, in SQL; a signed number, which is the same mod 2^64.
_HASH = "('x' || left(md5(replace(t.id::text, '-', '') || ':' || t.feed_no), 16))::bit(64)::bigint"
_BUCKET = "get_byte(uuid_send(t.id), 15)"


def tell_versions(cursor: Any, token: str, request: VerifyRequest, clock: Clock) -> VerifyAnswer:
    """The answer to one request, read in the caller's transaction, which must be a snapshot.

    Raises NotSignedIn or Forbidden for the token, InvalidInput for a request without form, SyncRefused (`ahead`) for a cursor that this server
    cannot have given. A place outside the device's scopes is answered as one that has moved: the next pull takes it away.
    """
    _check_form(request)
    device = device_for(cursor, token, lock=False)
    granted = scopes_of(cursor, device)
    head, epoch = _standing(cursor, device)
    if any(place.cursor > head for place in request.places if place.scope in granted):
        raise SyncRefused("ahead", f"This server has changes up to {head} only.")
    answer = partial(VerifyAnswer, server_time_ms=clock.now_ms(), server_epoch=epoch)
    if any(place.scope not in granted for place in request.places) or (request.content and request.schema != SCHEMA_VERSION):
        return answer([PlaceSums(True) for _ in request.places])
    if request.detail in ("sums", "buckets"):
        return answer(_sums(cursor, device, request))
    (place,) = request.places
    moved = [PlaceSums(_moved(cursor, device, place) or _let_go_later(cursor, device, request)[0])]
    if request.detail == "keys":
        found = sorted(_keys(cursor, device, place, request))
        return answer(moved, keys=[key for key, _ in found], hashes=[value for _, value in found])
    tables, tombstones = _rows(cursor, device, place, request.ids)
    return answer(moved, tables=tables, tombstones=tombstones)


def _check_form(request: VerifyRequest) -> None:
    problems = envelope_problems(request.protocol, request.incarnation)
    if request.detail not in VERIFY_DETAILS:
        problems.append(Problem("$.detail", "out_of_range", f"One of {', '.join(VERIFY_DETAILS)}."))
    places_max = VERIFY_PLACES_MAX if request.detail == "sums" else VERIFY_PLACES_MAX // 10 if request.detail == "buckets" else 1
    if not 1 <= len(request.places) <= places_max:
        problems.append(Problem("$.places", "out_of_range", f"1 to {places_max} places with this detail."))
    for number, place in enumerate(request.places):
        problems.extend(_problems_of(place, f"$.places[{number}]"))
    if len(request.ids) > VERIFY_ROWS_MAX or not all(map(is_id, request.ids)):
        problems.append(Problem("$.ids", "malformed", f"At most {VERIFY_ROWS_MAX} ids."))
    if len(request.buckets) > BUCKETS or not all(0 <= b < BUCKETS for b in request.buckets):
        problems.append(Problem("$.buckets", "out_of_range", f"Buckets are numbered from 0 to {BUCKETS - 1}."))
    if problems:
        raise InvalidInput(problems)


def _problems_of(place: Place, path: str) -> Iterator[Problem]:
    table = TABLES.get(place.table)
    kind, _, subject = place.scope.partition(":")
    if table is None or table.scope != kind or (is_id(subject) if table.scope_column is None else not is_id(subject)):
        yield Problem(path, "malformed", "A place is a table, and a scope of the kind that the table belongs to.")
    if not 0 <= place.cursor < 2**62:
        yield Problem(f"{path}.cursor", "out_of_range", "A cursor is a feed number.")


def _standing(cursor: Any, device: Device) -> tuple[int, str]:
    """(the school's head, server epoch)."""
    cursor.execute("SELECT s.head, e.epoch FROM schools s, server_state e WHERE s.id = %s", (device.school_id,))
    head, epoch = cursor.fetchone()
    return head, epoch


def _key(table: Table) -> str:
    return table.scope_column or "school_id"


def _subject(device: Device, place: Place) -> str:
    return place.scope.partition(":")[2] or device.school_id


def _sums(cursor: Any, device: Device, request: VerifyRequest) -> list[PlaceSums]:
    parts = BUCKETS if request.detail == "buckets" else 1
    counts = [[0] * parts for _ in request.places]
    totals = [[0] * parts for _ in request.places]
    let_go = _let_go_later(cursor, device, request)
    moved = [any(pair) for pair in zip(_buried_later(cursor, device, request.places), let_go, strict=True)]
    for name in sorted({place.table for place in request.places}):
        numbers = [n for n, place in enumerate(request.places) if place.table == name]
        places = [request.places[n] for n in numbers]
        read = _content_sums if request.content else _version_sums
        for at, bucket, count, total, newer in read(cursor, device, TABLES[name], places, parts > 1):
            number = numbers[at]
            counts[number][bucket] += count
            totals[number][bucket] = (totals[number][bucket] + total) % HASH_MODULUS
            moved[number] |= newer
    return [PlaceSums(*found) for found in zip(moved, counts, totals, strict=True)]


# Of some rows of one table: place's number, bucket, count, sum of hashes, whether one of them lies beyond the cursor.
_Part = tuple[int, int, int, int, bool]


def _version_sums(cursor: Any, device: Device, table: Table, places: Sequence[Place], by_bucket: bool) -> list[_Part]:
    """Summed by PostgreSQL, one statement for a table."""
    bucket = _BUCKET if by_bucket else "0"
    cursor.execute(
        f"SELECT r.at - 1, {bucket}, count(*), sum({_HASH}), bool_or(t.feed_no > r.cursor)"
        f" FROM {_ASKED} JOIN {table.name} t ON t.school_id = %(school)s AND t.{_key(table)} = r.subject GROUP BY 1, 2",
        _asked(device, places),
    )
    return [(at, part, count, int(total) % HASH_MODULUS, newer) for at, part, count, total, newer in cursor.fetchall()]


_ASKED = "unnest(%(subjects)s::uuid[], %(cursors)s::bigint[]) WITH ORDINALITY AS r(subject, cursor, at)"


def _asked(device: Device, places: Sequence[Place]) -> dict[str, Any]:
    return {"school": device.school_id, "subjects": [_subject(device, p) for p in places], "cursors": [p.cursor for p in places]}


def _content_sums(cursor: Any, device: Device, table: Table, places: Sequence[Place], by_bucket: bool) -> Iterator[_Part]:
    """Row by row, as they stream by: what a school holds need not fit into this process."""
    columns = ", ".join(f"t.{name}" for name in table.column_names)
    cursor.execute(
        f"DECLARE verified_rows NO SCROLL CURSOR FOR SELECT r.at - 1, r.cursor, t.feed_no, {columns}"
        f" FROM {_ASKED} JOIN {table.name} t ON t.school_id = %(school)s AND t.{_key(table)} = r.subject",
        _asked(device, places),
    )
    for at, cursor_no, feed_no, *values in _stream(cursor):
        bucket = bucket_of(values[0]) if by_bucket else 0
        yield at, bucket, 1, row_hash(values[0], feed_no, content_text(values)), feed_no > cursor_no
    cursor.execute("CLOSE verified_rows")


def _stream(cursor: Any) -> Iterator[tuple[Any, ...]]:
    while True:
        cursor.execute(f"FETCH {STREAM_ROWS} FROM verified_rows")
        if not (rows := cursor.fetchall()):
            return
        yield from rows


def _buried_later(cursor: Any, device: Device, places: Sequence[Place]) -> list[bool]:
    """For each place, whether a row of it was deleted beyond the cursor."""
    cursor.execute(
        "SELECT DISTINCT r.at - 1 FROM unnest(%s::text[], %s::text[], %s::bigint[]) WITH ORDINALITY AS r(scope, table_name, cursor, at)"
        " JOIN tombstones t ON t.school_id = %s AND t.scope = r.scope AND t.table_name = r.table_name AND t.feed_no > r.cursor",
        ([p.scope for p in places], [p.table for p in places], [p.cursor for p in places], device.school_id),
    )
    later = {at for (at,) in cursor.fetchall()}
    return [number in later for number in range(len(places))]


def _let_go_later(cursor: Any, device: Device, request: VerifyRequest) -> list[bool]:
    """For each place, whether what stands in its rows was let go of beyond the cursor: then contents say nothing."""
    concerned = [request.content and bool(TABLES[place.table].let_go) for place in request.places]
    if not any(concerned):
        return concerned
    cursor.execute("SELECT feed_no FROM answers_let_go WHERE school_id = %s", (device.school_id,))
    row = cursor.fetchone()
    return [yes and row is not None and row[0] > place.cursor for yes, place in zip(concerned, request.places, strict=True)]


def _moved(cursor: Any, device: Device, place: Place) -> bool:
    table = TABLES[place.table]
    cursor.execute(
        f"SELECT EXISTS (SELECT FROM {table.name} t WHERE t.school_id = %s AND t.{_key(table)} = %s AND t.feed_no > %s)",
        (device.school_id, _subject(device, place), place.cursor),
    )
    return bool(cursor.fetchone()[0]) or _buried_later(cursor, device, [place])[0]


def _keys(cursor: Any, device: Device, place: Place, request: VerifyRequest) -> list[tuple[str, int]]:
    """(id, hash) of the rows in the buckets asked for. Raises InvalidInput when they are more than one answer holds."""
    table = TABLES[place.table]
    shown = ", ".join(f"t.{name}" for name in table.column_names) if request.content else f"t.id, {_HASH}"
    cursor.execute(
        f"SELECT t.feed_no, {shown} FROM {table.name} t WHERE t.school_id = %s AND t.{_key(table)} = %s AND {_BUCKET} = ANY(%s) LIMIT %s",
        (device.school_id, _subject(device, place), list(request.buckets), VERIFY_KEYS_MAX + 1),
    )
    rows = cursor.fetchall()
    if len(rows) > VERIFY_KEYS_MAX:
        raise InvalidInput([Problem("$.buckets", "too_many_keys", f"These buckets hold more than {VERIFY_KEYS_MAX} rows: ask for fewer.")])
    if request.content:
        return [(values[0], row_hash(values[0], feed_no, content_text(values))) for feed_no, *values in rows]
    return [(row_id, value % HASH_MODULUS) for _, row_id, value in rows]


def _rows(cursor: Any, device: Device, place: Place, ids: Sequence[str]) -> tuple[dict[str, TableBlock], list[Tombstone]]:
    """Those of the rows that are in the place, and the tombstones of others."""
    table = TABLES[place.table]
    names = [*table.column_names, "feed_no", "_extra"]
    cursor.execute(
        f"SELECT {', '.join(names)} FROM {table.name} WHERE school_id = %s AND {_key(table)} = %s AND id = ANY(%s::uuid[]) ORDER BY feed_no",
        (device.school_id, _subject(device, place), list(ids)),
    )
    rows = cursor.fetchall()
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)) if rows else {}
    cursor.execute(
        "SELECT table_name, row_id, scope, feed_no FROM tombstones"
        " WHERE school_id = %s AND scope = %s AND table_name = %s AND row_id = ANY(%s::uuid[])",
        (device.school_id, place.scope, place.table, list(ids)),
    )
    tombstones = [Tombstone(*values) for values in cursor.fetchall()]
    present = set(columns.get("id", ()))
    tables = {table.name: encode_block(table, columns, len(rows))} if rows else {}
    return tables, [t for t in tombstones if t.row_id not in present]
