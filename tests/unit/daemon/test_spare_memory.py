from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from daemon.process.spare_memory import GROWN_MIN_BYTES, SpareMemory

MB = 1024 * 1024


def test_memory_is_given_back_once_the_process_has_grown_and_rests_and_not_again_before_it_grows() -> None:
    sizes, given = iter([50 * MB, 90 * MB, 90 * MB, 48 * MB, 48 * MB, 48 * MB, 60 * MB, 60 * MB, 50 * MB]), []
    spare = SpareMemory(lambda: given.append(True), lambda: next(sizes))
    spare.look()  # 50, it grows
    spare.look()  # 90, it grows
    assert given == []
    spare.look()  # 90, it rests: 48 are left
    spare.look()
    spare.look()
    assert len(given) == 1
    spare.look()  # 60, it grows again
    spare.look()  # 60, it rests: 50 are left
    assert len(given) == 2


def test_a_little_growth_is_not_worth_the_while() -> None:
    sizes, given = iter([50 * MB, 50 * MB, 48 * MB, 48 * MB + GROWN_MIN_BYTES, 48 * MB + GROWN_MIN_BYTES]), []
    spare = SpareMemory(lambda: given.append(True), lambda: next(sizes))
    for _ in range(4):
        spare.look()
    assert len(given) == 1


GROW_AND_LOOK = """
from daemon.process.spare_memory import SpareMemory, _resident_bytes
blocks = [bytearray(64_000) for _ in range(2_000)]
kept = blocks[::20]
del blocks
before = _resident_bytes()
spare = SpareMemory()
spare.look()
spare.look()
print((before - _resident_bytes()) // 2**20)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks the GNU C library")
def test_what_was_freed_between_what_is_kept_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", GROW_AND_LOOK], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) > 50
