"""The configuration of a running daemon: read again when its file changes, and swapped only for a valid one.

A file with a fault changes nothing: the settings in force stay, and the fault is in the log and in `status` until the file is right again.
Of a valid file the settings marked `live` take effect; the others are named as waiting for a restart.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from daemon.config import SECTION, DeviceConfig, load_config
from domain.errors import InvalidConfig
from domain.settings import FILE_BYTES_MAX, settings_of, values_of
from loglines.parts import fields

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ConfigStatus:
    """What `status` says of the file: its fault, if it has one, and the keys that were changed and wait for a restart."""

    source: Path | None
    problem: str | None
    needs_restart: tuple[str, ...]


class LiveConfig:
    """Holds the configuration in force. `check` is for one thread at a time; everything else may be read from any thread."""

    def __init__(self, config: DeviceConfig, environ: Mapping[str, str], on_change: Callable[[DeviceConfig], None]) -> None:
        self._at_start = config
        self._current = config
        self._environ = environ
        self._on_change = on_change
        self._lock = threading.Lock()
        self._seen = _fingerprint(config.source)
        self._status = ConfigStatus(config.source, None, ())

    @property
    def current(self) -> DeviceConfig:
        return self._current

    @property
    def status(self) -> ConfigStatus:
        return self._status

    def check(self) -> None:
        """Reads the file again if its content has changed. Never raises for what the file says."""
        with self._lock:
            seen = _fingerprint(self._at_start.source)
            if seen != self._seen:
                self._seen = seen
                self._reload()

    def _reload(self) -> None:
        source = self._at_start.source
        try:
            loaded = load_config(source, self._environ)
        except InvalidConfig as error:
            log.warning("the changed configuration is not used", extra=fields(error=error.message))
            self._status = dataclasses.replace(self._status, problem=error.message)
            return
        waiting = _waiting_for_restart(self._at_start, loaded)
        self._status = ConfigStatus(source, None, waiting)
        merged = dataclasses.replace(self._at_start, settings=_with_live_values(self._at_start.settings, loaded))
        if merged != self._current:
            self._current = merged
            self._on_change(merged)
        log.info("configuration read again", extra=fields(needs_restart=",".join(waiting)))


def _fingerprint(path: Path | None) -> bytes | None:
    """A hash of the file's content; None while it cannot be read, or is larger than it may be."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return hashlib.blake2b(file.read(FILE_BYTES_MAX + 1), digest_size=16).digest()
    except OSError:
        return None


def _waiting_for_restart(old: DeviceConfig, new: DeviceConfig) -> tuple[str, ...]:
    was, now = values_of(old.settings, SECTION), values_of(new.settings, SECTION)
    return tuple(s.path for s in settings_of(type(old.settings), SECTION) if not s.rule.live and was[s.path] != now[s.path])


def _with_live_values(old: Any, loaded: DeviceConfig) -> Any:
    """The settings of the start with the live ones of the file."""
    now = values_of(loaded.settings, SECTION)
    for found in settings_of(type(old), SECTION):
        if found.rule.live:
            old = _replaced(old, found.path.split(".")[1:], now[found.path])
    return old


def _replaced(config: Any, names: list[str], value: Any) -> Any:
    """`config` with the one nested field changed."""
    name, *rest = names
    return dataclasses.replace(config, **{name: _replaced(getattr(config, name), rest, value) if rest else value})
