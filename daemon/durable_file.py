"""Small private files that are either the old or the new ones after a power cut, and never half of either."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from migrations.private_files import create_private, to_disk

PARTIAL = ".partial"
# More than any of these files ever holds.
READ_BYTES_MAX = 64 * 1024


def replace_durably(path: Path, data: bytes) -> None:
    """Writes the file whole, on the disk with its name before this returns, readable by its owner alone. Raises OSError."""
    partial = path.with_name(path.name + PARTIAL)
    partial.unlink(missing_ok=True)
    try:
        with os.fdopen(create_private(partial, path), "wb") as file:
            file.write(data)
        to_disk(partial)
        partial.rename(path)
        to_disk(path.parent)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def replace_json(path: Path, values: Mapping[str, Any]) -> None:
    """The same with a JSON object. Raises OSError."""
    replace_durably(path, json.dumps(values).encode())


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file that `replace_json` wrote; None when there is none that can be read."""
    try:
        with path.open("rb") as file:
            found = json.loads(file.read(READ_BYTES_MAX))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
