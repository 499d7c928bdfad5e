"""A device made ready for imaging, or wiped: what must not stay in its folder."""

from __future__ import annotations

from pathlib import Path

from daemon.access.pins import KEY_FILE
from daemon.bundles.spool import FILE_NAMES
from daemon.durable_file import PARTIAL
from daemon.identity import adoption
from daemon.identity.device import TOKEN_FILE
from daemon.identity.instance import IDENTITY_COPY
from daemon.identity.keys import KEYS_FILE
from daemon.image import strip
from daemon.sync.verify_report import FILE_NAME as VERIFY_REPORT
from tests.support.device import seeded_database


def test_what_was_being_written_when_the_power_failed_does_not_stay(tmp_path: Path) -> None:
    path = seeded_database(tmp_path)
    for name in (TOKEN_FILE, KEYS_FILE, KEY_FILE, IDENTITY_COPY, adoption.FILE_NAME, VERIFY_REPORT, *FILE_NAMES):
        (tmp_path / (name + PARTIAL)).write_text("half a secret, perhaps")
    strip(path, tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {path.name}
