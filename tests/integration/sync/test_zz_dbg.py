from tests.integration.sync.test_poison_and_grants import _tamper
from tests.integration.sync.conftest import *
import pytest, msgspec
from domain.wire import *
def nest(n):
    v = 1
    for _ in range(n): v = [v]
    return v
@pytest.mark.parametrize("depth", [100, 300, 600, 900])
def test_deep(fleet, ada, laptop, depth):
    laptop.records.record_attempts(ada, fleet.attempts(3))
    try: _tamper(laptop, {1: {"mood": nest(depth)}})
    except Exception as e: pytest.skip(repr(e)[:80])
    r = laptop.sync(); print(depth, r); assert r.outcome == "done"
def test_deep_forecast(fleet, ada, laptop):
    laptop.records.add_plan(ada, {"starts_on": "2026-12-01", "days": 7, "planner_version": "test", "forecast": nest(500)}, [])
    r = laptop.sync(); print(r); assert r.outcome == "done"
@pytest.mark.parametrize("w", [2**70, -2**70, 2**63-1, -2**63])
def test_clock(fleet, ada, laptop, w):
    laptop.records.record_attempts(ada, fleet.attempts(3))
    laptop.gateway.before_push = lambda q: msgspec.structs.replace(q, clock=ClockReading(w, 5, "b"*32))
    r = laptop.sync(); print(r); assert r.outcome == "done"
def test_hlc(fleet, ada, laptop):
    laptop.records.update_profile(ada, {"grade": "1"})
    laptop.change("UPDATE sync_operations SET hlc = 9223372036854775807, wall_ms=-9223372036854775808")
    r = laptop.sync(); print(r); assert r.outcome == "done"
    laptop.records.update_profile(ada, {"grade": "2"})
    r = laptop.sync(); assert r.outcome == "done"; assert laptop.rounds.status().state == "synced"
def test_schema(fleet, ada, laptop):
    laptop.records.record_attempts(ada, fleet.attempts(3))
    laptop.change("UPDATE sync_operations SET schema_version = 9223372036854775807, payload=replace(payload,'free','fun') where op_no=2")
    r = laptop.sync(); print(r); assert r.outcome == "done"
def test_profile_odd(fleet, ada, laptop):
    laptop.records.update_profile(ada, {"grade": "1"})
    for p in ['{"available_minutes":{"a":1}}','{"available_minutes":"x"}','{"available_minutes":[1e300]}','{"available_minutes":["\\u0000"]}','{"mood":["\\u0000"]}', '{}', '{"exam_on":"2026-02-30"}', '{"grade":null}']:
        laptop.records.update_profile(ada, {"grade": "1"})
        laptop.change("UPDATE sync_operations SET payload = ? WHERE op_no=(select max(op_no) from sync_operations)", p)
        r = laptop.sync(); print(p, r); assert r.outcome == "done", p
def test_regrant(fleet, ada, laptop):
    pass
