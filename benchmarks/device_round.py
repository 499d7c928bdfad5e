"""One sync round of a device in a process of its own: `python -m benchmarks.device_round STATE_FOLDER`.

Prints {"seconds", "pushed", "pulled"}; the seconds are those of the round, without the start of Python.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path


def main() -> None:
    """Runs the round and prints what it came to."""
    # As on a device, where it is not installed: peewee imports it where it finds it.
    sys.modules.setdefault("psycopg2", None)  # type: ignore[arg-type]
    from benchmarks.device import open_device

    with open_device(Path(sys.argv[1])) as device:
        started_s = time.perf_counter()
        result = device.sync()
        took_s = time.perf_counter() - started_s
    print(json.dumps({"seconds": took_s, "pushed": result.pushed, "pulled": result.pulled}))


if __name__ == "__main__":
    main()
