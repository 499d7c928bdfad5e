"""What is left in a folder when the power fails under a disk that had claimed to have synced, and had not.

Such a disk is played without touching a running program: whatever was written since a copy of the folder was made counts as not on the disk, however often
it was synced. Of that, any part may have come there by chance: this block and not that one, a file's new length without its content, a new file or not.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

# What a disk writes at once, at least.
BLOCK_BYTES = 4096


def copy_of(folder: Path, to: Path) -> Path:
    """The folder as it is now, counted as being on the disk. Nothing may be writing into it."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(folder, to)
    return to


def lose_power(folder: Path, on_disk: Path, draw: random.Random, share: float) -> None:
    """Puts the folder back to what is `on_disk`, but for a `share` of the changes since, which have come there by chance."""
    for name in sorted({path.name for place in (folder, on_disk) for path in place.iterdir() if path.is_file()}):
        old, new = on_disk / name, folder / name
        if not old.exists():
            if draw.random() >= share:
                new.unlink()
            else:
                new.write_bytes(_mixed(b"", new.read_bytes(), draw, share))
        elif new.exists():
            new.write_bytes(_mixed(old.read_bytes(), new.read_bytes(), draw, share))
        elif draw.random() >= share:
            shutil.copy(old, new)


def _mixed(old: bytes, new: bytes, draw: random.Random, share: float) -> bytes:
    """A file's content: its length is the old or the new one, and so is each block."""
    length = len(new) if draw.random() < share else len(old)
    old, new = old.ljust(length, b"\0"), new.ljust(length, b"\0")
    blocks = range(0, length, BLOCK_BYTES)
    return b"".join((new if draw.random() < share else old)[at : at + BLOCK_BYTES] for at in blocks)[:length]
