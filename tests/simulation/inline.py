"""What the product leaves to threads and to the machine, done in one thread so that a seed repeats exactly.

The request that a pusher or puller has under way while it writes is made either at once or when its answer is asked for, as the seed decides:
both orders happen with a thread.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, Self
from unittest import mock

from cloud_api import database as cloud_database
from daemon.queue import outbox
from daemon.sync import pull, push


class InlineExecutor:
    """Stands in for a ThreadPoolExecutor of one thread."""

    def __init__(self, randomness: random.Random) -> None:
        self._randomness = randomness
        self._waiting: list[LazyFuture] = []

    def submit(self, call: Callable[..., Any], *arguments: Any) -> LazyFuture:
        future = LazyFuture(call, *arguments)
        if self._randomness.random() < 0.5:
            future.make()
        else:
            self._waiting.append(future)
        return future

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """A request that nobody waits for any more is made all the same, as by a thread; unless its process died."""
        if kind is None or issubclass(kind, Exception):
            for future in self._waiting:
                future.make()


class LazyFuture(Future[Any]):
    """A call that is made once, at the latest when its result is asked for."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        super().__init__()
        self._call, self._arguments = call, arguments

    def make(self) -> None:
        """Makes the call, if that was not done yet."""
        if self.done():
            return
        try:
            self.set_result(self._call(*self._arguments))
        except BaseException as error:  # noqa: BLE001  # as an executor does: whoever asks for the result hears of it
            self.set_exception(error)

    def result(self, timeout: float | None = None) -> Any:
        self.make()
        return super().result(timeout)


@contextmanager
def inline(randomness: random.Random, boot_id: Callable[[], str]) -> Iterator[None]:
    """Within it, pushers and pullers use no threads, `boot_id` says which boot of its machine a device is in, and a server tries again at once."""

    def executor(*_: Any) -> InlineExecutor:
        return InlineExecutor(randomness)

    with (
        mock.patch.object(push, "ThreadPoolExecutor", executor),
        mock.patch.object(pull, "ThreadPoolExecutor", executor),
        mock.patch.object(push, "boot_id", boot_id),
        mock.patch.object(outbox, "boot_id", boot_id),
        mock.patch.object(cloud_database, "RETRY_PAUSE_S", 0.0),
    ):
        yield
