"""The time that goes into a signature."""

from __future__ import annotations

import threading
import time
from typing import Any, Final

from ._forks import renew_after_fork

_MAX_AHEAD: Final = 1000
"""Milliseconds that a signed time may be ahead of the clock."""


class SigningClock:
    """Gives each request of a client a different time, to the millisecond.

    Two threads that send the same messages in the same millisecond would otherwise sign them
    alike, and a site would take the second request for a replay of the first. Beyond 1,000
    requests a second, or when the system clock was set back, times repeat once they are a second
    ahead of the clock: a time far from the clock would be refused too.
    """

    def __init__(self) -> None:
        self._last = 0  # milliseconds since the epoch
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        self._lock = threading.Lock()  # guards _last; nothing that may block is done under it

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def now(self) -> float:
        """Seconds since the epoch, in the middle of a millisecond so that rounding is safe."""
        with self._lock:
            now = time.time_ns() // 1_000_000
            self._last = max(now, min(self._last + 1, now + _MAX_AHEAD))
            return (self._last + 0.5) / 1000
