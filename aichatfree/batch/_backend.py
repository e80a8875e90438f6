"""What a batch needs from a backend: the threads of this process, or the workers of an executor."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from typing import Final, Protocol, TypeAlias

from ._prompts import Item
from ._results import BatchResult

POLL_INTERVAL: Final = 0.2
"""Seconds of a single wait. A Ctrl-C that arrives just before a wait is noticed only after it."""

Outcome: TypeAlias = tuple[Item, BatchResult | BaseException | None]
"""An item with its result, ``None`` if it was not sent, or the error that stops the run."""


class Backend(Protocol):
    """Gets items answered, many at a time; used by one thread."""

    @property
    def capacity(self) -> int:
        """The number of items that it can use at a time."""
        ...

    def submit(self, item: Item) -> None:
        """Have an item answered; does not block."""
        ...

    def flush(self) -> None:
        """Begin what was submitted, even if waiting for more items would be more efficient."""
        ...

    def get(self, timeout: float) -> list[Outcome]:
        """Wait for outcomes; none if none came in time (seconds)."""
        ...

    def stop(self) -> None:
        """Send nothing more; requests in flight continue."""
        ...

    def cancel(self) -> None:
        """Send nothing more, and cancel the requests in flight."""
        ...

    def close(self, timeout: float | None = None) -> None:
        """Wait until nothing is in flight, at most so many seconds; may be called again.

        Unless everything is done, call ``stop`` or ``cancel`` first.
        """
        ...


def wait_interruptibly(waits: Iterable[Callable[[float], bool]], timeout: float | None) -> None:
    """Wait for one thing after another, in short waits, so that a Ctrl-C is noticed soon.

    Args:
        waits: each waits at most so many seconds, and returns whether its thing has happened.
        timeout: seconds for all of them; ``None`` for no limit.
    """
    deadline = math.inf if timeout is None else time.monotonic() + timeout
    for wait in waits:
        while (left := deadline - time.monotonic()) > 0 and not wait(min(left, POLL_INTERVAL)):
            pass
