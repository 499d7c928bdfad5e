"""The messages of the sync protocol.

Every message is JSON, compressed in transit (domain/bodies.py). Unknown fields are ignored, so that a newer peer can say more; docs/protocol.md
shows an example of each message and changes together with this file.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from domain.agreement import BUCKETS
from domain.blocks import Encoded, TableBlock
from domain.shown_text import shown_schema

# The protocol spoken here, and the oldest still understood.
#   1  the first
PROTOCOL_VERSION = 1
PROTOCOL_OLDEST = 1

# What one push may hold unless the server says otherwise: operations, and bytes of JSON before compression.
BATCH_OPS_MAX = 2_000
BATCH_BYTES_MAX = 256 * 1024
# What one pull page holds at most.
PAGE_ROWS_MAX = 5_000
PAGE_BYTES_MAX = 4 * 1024 * 1024
# What one request for verification may ask for: places to sum, keys, rows.
VERIFY_PLACES_MAX = 500
VERIFY_KEYS_MAX = 50_000
VERIFY_ROWS_MAX = 200
VERIFY_DETAILS = ("sums", "buckets", "keys", "rows")
# Scopes that one pull may name; a device of a whole school year still stays far below.
SCOPES_MAX = 5_000
APP_VERSION_LENGTH_MAX = 40
# Says, also with a 304 that has no body, after how many seconds the server wants to be polled again.
POLL_AFTER_HEADER = "Carrel-Poll-After"


# What the description of the cloud API says of a field besides its type. Decoding does not look at it: who takes a message judges it, and says what is
# wrong in words that a device understands.
def _said(**schema: Any) -> msgspec.Meta:
    return msgspec.Meta(extra_json_schema=schema)


_INT64 = _said(minimum=-(2**63), maximum=2**63 - 1)
_NUMBER = _said(minimum=0, maximum=2**62 - 1)
_SEQ = _said(minimum=1, maximum=2**62 - 1)
_ID = _said(pattern="^[0-9a-f]{32}$")
_KEY = _said(pattern="^([0-9a-f]{64})?$")
_SHOWN = _said(**shown_schema())
_VERSION = _said(**shown_schema(APP_VERSION_LENGTH_MAX))
_PROTOCOL = _said(minimum=PROTOCOL_OLDEST, maximum=PROTOCOL_VERSION)


class Limits(msgspec.Struct, frozen=True):
    """What the server accepts in one request; a device keeps to the smaller of these and its own."""

    batch_ops_max: int = BATCH_OPS_MAX
    batch_bytes_max: int = BATCH_BYTES_MAX


class ClockReading(msgspec.Struct, frozen=True, omit_defaults=True):
    """The device's clocks as it sends: UTC ms, monotonic ms since boot, and which boot.

    `server_ms` is what the server's time is now by the last answer that this device had in this boot, counted on by the monotonic clock.
    """

    wall_ms: Annotated[int, _INT64]
    mono_ms: Annotated[int, _INT64]
    boot_id: str
    server_ms: Annotated[int, _INT64] | None = None


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """Consecutive operations of one table, kind and schema version with the same fields, as encoded columns of `n` values.

    `ops` is left out where an operation's id is its row's id, as with every insert. `fields` keeps the order in which the device wrote the
    payload: the chain covers it. `base` holds what each update has replaced, `{field: [value, [clock, writer] or null]}`; inserts have none.
    """

    table: str
    kind: str
    schema: Annotated[int, _INT64]
    n: Annotated[int, _said(minimum=1)]
    rows: Encoded
    wall_ms: Encoded
    mono_ms: Encoded
    boot: Encoded
    hlc: Encoded
    fields: dict[str, Encoded]
    ops: Encoded = None
    base: Encoded = None


class DeviceReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a device says of itself along with a push or a pull, for whoever looks after it; nothing is decided by it.

    `pending` operations wait behind this request, the oldest of them for `oldest_pending_age_ms`. `schema` is the version of the synced tables.
    """

    pending: Annotated[int, _INT64] = 0
    oldest_pending_age_ms: Annotated[int, _INT64] | None = None
    app_version: str = ""
    schema: Annotated[int, _INT64] = 0


class PushRequest(msgspec.Struct, frozen=True):
    """POST /v1/sync/push. `first_seq` numbers the first operation; `chain` (hex) is the chain before it."""

    protocol: Annotated[int, _PROTOCOL]
    incarnation: Annotated[str, _ID]
    first_seq: Annotated[int, _SEQ]
    chain: Annotated[str, _ID]
    clock: ClockReading
    runs: Annotated[list[Run], _said(minItems=1)]
    report: DeviceReport | None = None


class OperationVerdict(msgspec.Struct, frozen=True, omit_defaults=True):
    """The verdict on one operation that was not plainly applied."""

    seq: int
    verdict: str
    code: str | None = None
    message: str | None = None


class PushAnswer(msgspec.Struct, frozen=True):
    """The whole batch is settled through `acked_through`; `chain` (hex) is the chain there.

    `feed` lists [first seq, last seq, feed number of the first]: the numbers that the rows of append-only tables now have, so that the device
    need not pull its own rows back. `corrections` lists [first seq, last seq, ms to add, doubtful] of attempts whose time was wrong.
    `durable_through` is a seq, or null while no completed backup covers this device.
    """

    acked_through: int
    chain: str
    verdicts: list[OperationVerdict]
    feed: list[tuple[int, int, int]]
    server_time_ms: int
    server_epoch: str
    limits: Limits
    poll_after_s: float
    durable_through: int | None = None
    corrections: list[tuple[int, int, int, bool]] = []


class PullRequest(msgspec.Struct, frozen=True):
    """POST /v1/sync/pull. `cursors` maps every scope that the device follows to the feed number up to which it has everything.

    `acked_seq` is the last operation of this incarnation that the device knows to be settled: only when that is the last one of the server, too,
    does the device know everything that the incarnation wrote. A silent copy of a device would else miss what the original wrote.
    `erased_through` is the last order to erase a student that this device has carried out, with all before it, under `server_epoch`.
    `rebaselining` says that the device pulls everything from 0, which a server lets a bounded number of devices do at a time; `filling` names scopes
    that it has gained and not had whole yet. Cursors of both kinds may be older than deletions are remembered.
    """

    protocol: Annotated[int, _PROTOCOL]
    incarnation: Annotated[str, _ID]
    cursors: Annotated[dict[str, Annotated[int, _NUMBER]], _said(maxProperties=SCOPES_MAX)]
    acked_seq: Annotated[int, _INT64] = 0
    page_rows: Annotated[int, _said(minimum=1, maximum=PAGE_ROWS_MAX)] = PAGE_ROWS_MAX
    rebaselining: bool = False
    filling: Annotated[list[str], _said(maxItems=SCOPES_MAX)] = []
    erased_through: Annotated[int, _NUMBER] = 0
    server_epoch: str = ""
    report: DeviceReport | None = None


class Tombstone(msgspec.Struct, frozen=True):
    """A row that was deleted, or moved out of this scope, at `feed_no`."""

    table: str
    row_id: str
    scope: str
    feed_no: int


class ErasureOrder(msgspec.Struct, frozen=True):
    """Everything about a student is to go from the device, to the last byte; `feed_no` numbers the order."""

    student_id: str
    feed_no: int


class AnswersLetGo(msgspec.Struct, frozen=True):
    """What the school has let go of: what was answered, of attempts numbered up to `through_no`, and of operations settled before `before_ms`."""

    through_no: int
    before_ms: int


class PullAnswer(msgspec.Struct, frozen=True):
    """One page. `cursors` are the new cursors of every granted scope; scopes not among them were lost and are to be evicted.

    `durable_through` is the last seq of this incarnation that a completed backup of the server's holds, or null. `erasures` are the orders that
    the device has not named as carried out.
    """

    tables: dict[str, TableBlock]
    tombstones: list[Tombstone]
    cursors: dict[str, int]
    gained: list[str]
    lost: list[str]
    has_more: bool
    server_time_ms: int
    server_epoch: str
    poll_after_s: float
    durable_through: int | None = None
    erasures: list[ErasureOrder] = []
    answers_let_go: AnswersLetGo | None = None


class Place(msgspec.Struct, frozen=True):
    """One table of one scope, and the cursor up to which the device has it."""

    scope: str
    table: str
    cursor: Annotated[int, _NUMBER]


class VerifyRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """POST /v1/sync/verify: what the server holds of some places, in ever finer detail (docs/protocol.md, "Agreement").

    `detail` is `sums` (one for each place), `buckets` (256 for each place), `keys` (ids and hashes of the rows in `buckets` of the only place)
    or `rows` (the rows `ids` of the only place). With `content` hashes cover what stands in the rows, by the columns of schema version `schema`.
    """

    protocol: Annotated[int, _PROTOCOL]
    incarnation: Annotated[str, _ID]
    places: Annotated[list[Place], _said(minItems=1, maxItems=VERIFY_PLACES_MAX)]
    detail: Annotated[str, _said(enum=list(VERIFY_DETAILS))] = "sums"
    buckets: Annotated[list[Annotated[int, _said(minimum=0, maximum=BUCKETS - 1)]], _said(maxItems=BUCKETS)] = []
    ids: Annotated[list[Annotated[str, _ID]], _said(maxItems=VERIFY_ROWS_MAX)] = []
    content: bool = False
    schema: Annotated[int, _INT64] = 0


class PlaceSums(msgspec.Struct, frozen=True, omit_defaults=True):
    """The server's sums of one place, and whether it has anything there beyond the cursor: then they say nothing."""

    moved: bool
    counts: list[int] = []
    totals: list[int] = []


class VerifyAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`places` are in the order of the request. `keys` holds the ids asked for and `hashes` their hashes, in the same order.

    Of the rows asked for, those that exist are in `tables`, those that were deleted in `tombstones`; the server knows nothing of the others.
    """

    places: list[PlaceSums]
    server_time_ms: int
    server_epoch: str
    keys: list[str] = []
    hashes: list[int] = []
    tables: dict[str, TableBlock] = {}
    tombstones: list[Tombstone] = []


class HeadAnswer(msgspec.Struct, frozen=True):
    """GET /v1/sync/head: the feed number of the school's latest change. The ETag covers it and the device's grants."""

    head: int
    server_time_ms: int
    server_epoch: str
    poll_after_s: float
    # The device should ask for a new token (POST /v1/devices/token).
    token_due: bool = False


class EnrolRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """POST /v1/devices/enrol: a one-time code in exchange for a device and its token.

    `verify_key` and `seal_key` (hex) are the public halves of the device's keys, for bundles; empty where it has none. `token` is the one that it
    holds of this very server, where it is enrolled already: the device that it was is then replaced by the new one.
    """

    code: str
    device_name: Annotated[str, _SHOWN] = ""
    app_version: Annotated[str, _VERSION] = ""
    verify_key: Annotated[str, _KEY] = ""
    seal_key: Annotated[str, _KEY] = ""
    token: str = ""


class EnrolAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a device is from now on. `token` is shown this once. The keys are the public halves of the server's, for bundles."""

    device_id: str
    school_id: str
    school_name: str
    token: str
    server_epoch: str
    limits: Limits
    verify_key: str = ""
    seal_key: str = ""


class TokenAnswer(msgspec.Struct, frozen=True):
    """POST /v1/devices/token: a new token. The old one ends when this one is used."""

    token: str


class ObeyedRequest(msgspec.Struct, frozen=True):
    """POST /v1/devices/obeyed: a revoked device says what has become of it: `wiped`, or else locked; `unsent` changes are or were nowhere else."""

    wiped: bool
    unsent: Annotated[int, _INT64] = 0


class ObeyedAnswer(msgspec.Struct, frozen=True):
    """It is written down."""

    server_time_ms: int


class StudentSignInRequest(msgspec.Struct, frozen=True):
    """POST /v1/devices/password: a student of this device gives name and password, once; the device then lets the student in by itself."""

    username: Annotated[str, _SHOWN]
    password: str


class StudentSignInAnswer(msgspec.Struct, frozen=True):
    """The password was right, and whose it is."""

    student_id: str
