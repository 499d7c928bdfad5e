"""The school's content as a file, and reading it back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner

from cloud_api.cli import main
from cloud_api.content import export_content
from domain import content_pack
from domain.blocks import TableBlock, decode_block
from domain.bodies import compress, to_json
from domain.content_pack import ContentPack
from domain.errors import BodyTooLarge, InvalidInput, MalformedJson
from domain.registry import TABLES
from tests.support.cloud import SchoolBuilder


def _export(school: SchoolBuilder) -> bytes:
    with school.database.transaction(snapshot=True) as cursor:
        return export_content(cursor, school.id)


def test_a_content_pack_holds_every_row_of_the_content_and_nobodys_name(school: SchoolBuilder) -> None:
    school.import_course()
    school.add_user("ada")
    data = _export(school)
    pack = content_pack.decode(data)
    assert (pack.school_id, pack.format) == (school.id, "carrel-content/1")
    assert {name: block.n for name, block in pack.tables.items()} == {"topics": 82, "concepts": 201, "questions": 544}
    assert b"Ada" not in zstandard.decompress(data)
    questions, unknown = decode_block(TABLES["questions"], pack.tables["questions"])
    assert not unknown
    with school.database.transaction() as cursor:
        cursor.execute("SELECT id, stem, answers, feed_no FROM questions ORDER BY feed_no")
        stored = cursor.fetchall()
    assert list(zip(questions["id"], questions["stem"], questions["answers"], questions["feed_no"], strict=True)) == stored


def test_the_same_content_gives_the_same_bytes(school: SchoolBuilder) -> None:
    school.import_course()
    assert _export(school) == _export(school)


def test_a_school_without_content_has_an_empty_pack(school: SchoolBuilder) -> None:
    assert content_pack.decode(_export(school)).tables == {}


def _pack(**fields: object) -> bytes:
    plain = {"format": "carrel-content/1", "school_id": "0" * 32, "school_name": "s", "tables": {}} | fields
    return compress(to_json(plain))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", MalformedJson),
        (b"PK\x03\x04", MalformedJson),
        (_pack()[:-3], MalformedJson),
        (compress(b"[]"), MalformedJson),
        (_pack(format="carrel-content/2"), InvalidInput),
        (_pack(tables={"users": {"n": 0, "columns": {}}}), InvalidInput),
        (compress(bytes(content_pack.PLAIN_BYTES_MAX + 1)), BodyTooLarge),
        (bytes(content_pack.FILE_BYTES_MAX + 1), BodyTooLarge),
    ],
    ids=["empty", "zip", "cut", "list", "newer", "people", "bomb", "large"],
)
def test_a_file_that_is_no_content_pack_is_refused(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        content_pack.decode(data)


def test_a_pack_that_no_device_would_read_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_pack, "PLAIN_BYTES_MAX", 100)
    with pytest.raises(BodyTooLarge):
        content_pack.encode(ContentPack("0" * 32, "s", {"topics": TableBlock(1, {"title": ["x" * 100]})}))


def test_a_pack_that_cannot_be_written_leaves_nothing_behind(cloud_school: SchoolBuilder, tmp_path: Path) -> None:
    (tmp_path / f"algebra{content_pack.SUFFIX}").mkdir()
    arguments = ["content", "export", str(tmp_path / f"algebra{content_pack.SUFFIX}"), "--school", cloud_school.id]
    refused = CliRunner().invoke(main, arguments, env={"DATABASE_URL": cloud_school.database.url})
    assert refused.exit_code != 0
    assert os.listdir(tmp_path) == [f"algebra{content_pack.SUFFIX}"]
