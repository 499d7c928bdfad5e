from __future__ import annotations

import subprocess
from pathlib import Path

from daemon.process import own_modules

WAIT_S = 60


def test_a_module_of_ours_is_found_from_any_folder_and_hides_none_of_pythons_own(tmp_path: Path) -> None:
    """`daemon/queue/` has the name of a module of Python's."""
    python, *_ = own_modules.command("daemon")
    code = "import daemon, queue; queue.SimpleQueue(); print(daemon.__path__[0])"
    told = subprocess.check_output([python, "-S", "-c", code], cwd=tmp_path, env=own_modules.environ(), text=True, timeout=WAIT_S)
    assert Path(told.strip()) == Path(own_modules.__file__).parents[1]
