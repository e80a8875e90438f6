"""Signatures that were used, for as long as they would be taken again."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MOST: Final = 100_000
"""Signatures that are remembered, in some 20 MB."""


class Replays:
    """Remembers each signature until its time is out of the window.

    Args:
        window: seconds that a request's time may be off, in either direction.
        clock: seconds that only go forward.
    """

    def __init__(self, window: float, clock: Callable[[], float] = time.monotonic) -> None:
        # A clock that is ahead by the window makes a signature good for twice as long.
        self._seconds = 2 * window
        self._clock = clock
        self._lock = threading.Lock()
        self._used: OrderedDict[str, float] = OrderedDict()

    def is_new(self, sign: str) -> bool:
        """Whether this right signature is used for the first time.

        Raises:
            OverflowError: too many are remembered; none is forgotten early, because that would
                let an attacker who can sign make room for his replays.
        """
        with self._lock:
            now = self._clock()
            while self._used and next(iter(self._used.values())) < now - self._seconds:
                self._used.popitem(last=False)
            if sign in self._used:
                return False
            if len(self._used) >= MOST:
                raise OverflowError
            self._used[sign] = now
            return True
