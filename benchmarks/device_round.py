"""One sync round of a device in a process of its own: `python -m benchmarks.device_round STATE_FOLDER`.

Prints {"seconds", "pushed", "pulled"}; the seconds are those of the round, without the start of Python.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

# As on a device, where nothing else is installed: peewee imports psycopg2 where it finds it.
sys.modules.setdefault("psycopg2", None)  # type: ignore[arg-type]

from benchmarks.device import open_device
from benchmarks.timing import seconds
from daemon.sync.round import RoundResult


def main() -> None:
    """Runs the round and prints what it came to."""
    results: list[RoundResult] = []
    with open_device(Path(sys.argv[1])) as device:
        took_s = seconds(lambda: results.append(device.sync()))
    print(json.dumps({"seconds": took_s, "pushed": results[0].pushed, "pulled": results[0].pulled}))


if __name__ == "__main__":
    main()
