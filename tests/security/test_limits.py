"""Bodies that are too much, or that parsers would understand differently, are refused by the school's server before anything is done with them."""

from __future__ import annotations

import gzip

import pytest
import zstandard
from flask.testing import FlaskClient

from cloud_api.app import create_app
from cloud_api.config import CloudConfig, Server
from cloud_api.database import CloudDatabase
from cloud_api.devices.enrolment import Grant
from domain.bodies import INFLATED_FREE_BYTES
from tests.support.cloud import SchoolBuilder
from tests.support.device import ManualClock

ID = "0d9f1c2b3a4958677869504132231405"
PULL = f'{{"protocol": 1, "incarnation": "{ID}", "cursors": {{}}, "acked_seq": %s}}'


@pytest.fixture
def headers(cloud_school: SchoolBuilder) -> dict[str, str]:
    token = cloud_school.enrol(Grant("student", cloud_school.add_user("ada").id)).token
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def client(open_cloud_database: CloudDatabase) -> FlaskClient:
    return create_app(CloudConfig(), open_cloud_database).test_client()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (PULL % "0", 200),
        (PULL % '0, "acked_seq": 0', 400),
        (PULL % '0, "newer": {"a": 1, "a": 2}', 400),
        (PULL % "9223372036854775808", 400),
        (PULL % '0, "newer": 100000000000000000000000', 400),
        (PULL % "NaN", 400),
        (PULL % "1e999", 400),
        (PULL % f'0, "newer": {"[" * 100_000}', 400),
        (PULL % f'0, "newer": {"[" * 100_000}{"]" * 100_000}', 400),
    ],
    ids=["as it should be", "a name twice", "a name twice inside", "an integer too large", "one in a field unknown here", "NaN", "infinite", "depth", "closed depth"],
)  # fmt: skip
def test_what_parsers_understand_differently_does_not_get_in(client: FlaskClient, headers: dict[str, str], body: str, status: int) -> None:
    answer = client.post("/v1/sync/pull", data=body, headers=headers, content_type="application/json")
    assert answer.status_code == status
    if status != 200:
        assert answer.get_json()["code"] == "malformed_json"


@pytest.mark.parametrize("encoding", ["gzip", "zstd"])
def test_a_body_that_inflates_out_of_proportion_is_refused(client: FlaskClient, headers: dict[str, str], encoding: str) -> None:
    plain = (PULL % "0").encode() + b" " * (3 * INFLATED_FREE_BYTES)
    packed = gzip.compress(plain) if encoding == "gzip" else zstandard.ZstdCompressor().compress(plain)
    sent = {**headers, "Content-Encoding": encoding}
    answer = client.post("/v1/sync/pull", data=packed, headers=sent, content_type="application/json")
    assert (answer.status_code, answer.get_json()["code"]) == (413, "body_too_large")


def test_a_device_that_asks_without_end_is_told_how_long_to_wait_and_others_are_not(
    open_cloud_database: CloudDatabase, cloud_school: SchoolBuilder, headers: dict[str, str]
) -> None:
    client = create_app(CloudConfig(server=Server(token_requests_per_s=1.0)), open_cloud_database, ManualClock()).test_client()
    statuses = [client.get("/v1/sync/head", headers=headers).status_code for _ in range(11)]
    assert statuses == [200] * 10 + [429]
    refused = client.get("/v1/sync/head", headers=headers)
    assert (refused.get_json()["code"], refused.headers["Retry-After"]) == ("rate_limited", "1")
    other = cloud_school.enrol(Grant("student", cloud_school.add_user("ben").id)).token
    assert client.get("/v1/sync/head", headers={"Authorization": f"Bearer {other}"}).status_code == 200
