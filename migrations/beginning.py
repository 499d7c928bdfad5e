"""The first half second of a command, in which Python imports what it needs: Ctrl-C ends it there as it does later, without a traceback.

Imports little, because nothing can be done about what is imported before it. Not by catching KeyboardInterrupt: raised while Python releases the lock
of an import it would be printed and forgotten.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

# As domain/errors.py has it, which would be another import.
EXIT_INTERRUPTED = 130


def begun(load: Callable[[], Callable[[], object]]) -> None:
    """Calls what `load` imports; Ctrl-C before that ends the process with 130. Interrupts that the caller's shell has switched off stay so."""
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(EXIT_INTERRUPTED))
    command = load()
    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command()
