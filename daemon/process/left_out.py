"""What libraries import and a daemon at rest never uses: 7 MB of it. For the daemon's own process, which is there all day.

    APScheduler   asyncio for one function, which inspect has too; processes to run jobs in, where this daemon has threads; time zones, where it has UTC
    Flask         templates, which are Jinja2's: the device page has an environment of its own, made when somebody opens it; cookies that are signed, and
                  a command line
    Werkzeug      a development server, a client for tests, and how rules are told to people
    cheroot       more_itertools, for a function that it does not call
    msgspec       typing_extensions, where other packages have brought it
    peewee        psycopg2, where it finds it

A library that is imported meanwhile gets a stand-in with the names that it binds, and the real module where it wants more. Afterwards the real module is there for whoever asks.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from types import ModuleType


def leave_out_postgres() -> None:
    """peewee imports psycopg2 where it finds it: 5 MB that no device needs. For processes that are a daemon and nothing else."""
    sys.modules.setdefault("psycopg2", None)  # type: ignore[arg-type]  # None makes `import psycopg2` an ImportError


@contextmanager
def left_out() -> Iterator[None]:
    """While the daemon's modules are imported. What has been imported before stays what it is."""
    leave_out_postgres()
    sys.modules.setdefault("typing_extensions", None)  # type: ignore[arg-type]  # as above
    made = {name: _stand_in(name, contents) for name, contents in _contents().items() if name not in sys.modules}
    sys.modules.update(made)
    try:
        yield
    finally:
        for name, module in made.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]


def _contents() -> dict[str, dict[str, object]]:
    """Module -> what others take from it while they are imported. Classes are there to be inherited from, or to be named; none is made."""
    classes: dict[str, object] = {
        name: type(name, (), {}) for name in ("BaseLoader", "Environment", "FileSystemLoader", "Template", "TemplateNotFound")
    }
    return {
        "asyncio": {"iscoroutinefunction": inspect.iscoroutinefunction},
        "concurrent.futures.process": {"BrokenProcessPool": BrokenExecutor},
        "difflib": {},
        "flask.cli": {"AppGroup": type("AppGroup", (), {"commands": {}})},
        "itsdangerous": dict.fromkeys(("BadSignature", "URLSafeTimedSerializer"), Exception),
        "jinja2": classes,
        "more_itertools": {},
        "multiprocessing": {},
        "pprint": {"pformat": repr, "pprint": print},
        "tzlocal": {"get_localzone": None},
        "werkzeug.serving": {"run_simple": None, "is_running_from_reloader": lambda: False},
        "werkzeug.test": {"Client": None},
        "zoneinfo": {"ZoneInfo": type("ZoneInfo", (), {})},
    }


def _stand_in(name: str, contents: dict[str, object]) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(contents)
    vars(module)["__getattr__"] = partial(_of_the_real_one, module)
    return module


def _of_the_real_one(stand_in: ModuleType, name: str) -> object:
    """What a stand-in lacks: another version of a library may ask for more, and then has the module, with the memory that it takes."""
    if name.startswith("__"):  # the import system's own questions, such as for __path__
        raise AttributeError(name)
    if sys.modules.get(stand_in.__name__) is stand_in:
        del sys.modules[stand_in.__name__]
    return getattr(import_module(stand_in.__name__), name)
